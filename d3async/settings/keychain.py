"""Keys in the system keyring (extra `keyring`), and a list beside config.toml of what `login` put there."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, TypeVar

from d3async.credentials import Kind, Secret, plain
from d3async.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")
SERVICE = "d3async"
_LIST = "logins.json"


def entry_name(profile: str, kind: Kind, command: str) -> str:
    """The keyring entry of one credential: `vsoc/api_key/createtask`; profile and command may be empty."""
    return "/".join(part for part in (profile, str(kind), plain(command)) if part)


def fetch(entry: str) -> Secret:
    """The secret stored as *entry*. SettingsError says what to mend."""
    text = _asked(lambda: _keyring().get_password(SERVICE, entry))
    if not text:
        raise SettingsError(f'the keyring has no entry "{entry}" of "{SERVICE}": type d3async login', code="keyring")
    return Secret(text)


def store(entry: str, secret: Secret, folder: Path) -> None:
    """Put *secret* into the keyring, and *entry* on the list in *folder*. SettingsError when there is no keyring."""
    _asked(lambda: _keyring().set_password(SERVICE, entry, secret.reveal()))
    _write_list(folder, {*logins(folder), entry})


def remove(entry: str, folder: Path) -> bool:
    """Take *entry* out of the keyring and off the list; False when the keyring did not have it."""
    there = _asked(lambda: _keyring().get_password(SERVICE, entry)) is not None
    if there:
        _asked(lambda: _keyring().delete_password(SERVICE, entry))
    _write_list(folder, logins(folder) - {entry})
    return there


def logins(folder: Path) -> frozenset[str]:
    """The entries `login` stored. Names only, so that a run without logins never has to load the keyring."""
    try:
        entries = json.loads((folder / _LIST).read_text("utf-8"))
    except (OSError, ValueError):
        return frozenset()
    return frozenset(entry for entry in entries if isinstance(entry, str)) if isinstance(entries, list) else frozenset()


def _write_list(folder: Path, entries: set[str] | frozenset[str]) -> None:
    aside = folder / f"{_LIST}.{os.getpid()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside.write_text(json.dumps(sorted(entries)), "utf-8")
        aside.replace(folder / _LIST)
    except OSError as error:
        raise SettingsError(f"{folder / _LIST} cannot be written ({error.strerror})", code="config") from error


def _keyring() -> Any:
    try:
        import keyring  # noqa: PLC0415 - an extra, and slow to import: only who uses it pays
    except ImportError:
        raise SettingsError("a key in the keyring needs: pip install 'd3async[keyring]'", code="keyring") from None
    return keyring


def _asked(call: Callable[[], T]) -> T:
    """What the keyring says; its own errors are not passed on, their frames hold the secret."""
    try:
        return call()
    except SettingsError:
        raise
    except Exception as error:  # noqa: BLE001 - backends raise whatever their system service raises
        problem = _problem(error)
    raise SettingsError(problem, code="keyring")


def _problem(error: Exception) -> str:
    if type(error).__name__ == "NoKeyringError":
        return (
            "this machine has no keyring service (usual on servers and in containers): "
            "set D3_API_KEY_FILE or D3_API_KEY instead"
        )
    return f"the keyring said no ({type(error).__name__}): is it unlocked?"
