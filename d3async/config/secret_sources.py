"""Where a secret is: an environment variable, a file, the system keyring; fetching it from there."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from d3async.config.credentials import LONGEST, Credential, CredentialKind, Precedence, Secret, checked, plain
from d3async.config.setting_fields import at_home
from d3async.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")
SERVICE = "d3async"
_LIST = "logins.json"


def entry_name(profile: str, kind: CredentialKind, command: str) -> str:
    """The keyring entry of one credential: `vsoc/api_key/createtask`; profile and command may be empty."""
    return "/".join(part for part in (profile, str(kind), plain(command)) if part)


def fetch_from_keyring(entry: str) -> Secret:
    """The secret stored as *entry*. SettingsError says what to mend."""
    text = _asked(lambda: _keyring().get_password(SERVICE, entry))
    if not text:
        raise SettingsError(f'the keyring has no entry "{entry}" of "{SERVICE}": type d3async login', code="keyring")
    return Secret(text)


def store_in_keyring(entry: str, secret: Secret, folder: Path) -> None:
    """Put *secret* into the keyring, and *entry* on the list in *folder*. SettingsError when there is no keyring."""
    _asked(lambda: _keyring().set_password(SERVICE, entry, secret.reveal()))
    _write_list(folder, {*keyring_logins(folder), entry})


def remove_from_keyring(entry: str, folder: Path) -> bool:
    """Take *entry* out of the keyring and off the list; False when the keyring did not have it."""
    there = _asked(lambda: _keyring().get_password(SERVICE, entry)) is not None
    if there:
        _asked(lambda: _keyring().delete_password(SERVICE, entry))
    _write_list(folder, keyring_logins(folder) - {entry})
    return there


def keyring_logins(folder: Path) -> frozenset[str]:
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


class SecretForm(StrEnum):
    """What the value of a reference is; also the ending of its name in a profile."""

    PLAIN = ""
    ENV = "_env"
    FILE = "_file"
    KEYRING = "_keyring"


@dataclass(frozen=True, slots=True)
class Reference:
    """A credential not yet fetched. *value* is the secret itself or the name of the place; it is never printed."""

    kind: CredentialKind
    command: str
    origin: str
    level: Precedence
    how: SecretForm
    value: Secret
    folder: Path
    problem: str = ""

    @property
    def slot(self) -> tuple[bool, CredentialKind, str]:
        """What at most one reference can fill; an option overrides all others."""
        return (self.level is Precedence.OPTION, self.kind, self.command)

    @property
    def blank(self) -> Credential:
        """The credential without its secret."""
        return Credential(self.kind, self.command, self.origin, self.level, Secret(""), self.problem)


def fetch(reference: Reference, environ: Mapping[str, str]) -> Credential:
    """Follow *reference*; a credential that cannot be had carries the reason as its problem."""
    blank = reference.blank
    if blank.problem:
        return blank
    try:
        secret = secret_at(reference.how, reference.value, reference.folder, environ)
    except SettingsError as error:
        return replace(blank, problem=f"{blank.origin}: {error.message}")
    return checked(replace(blank, secret=secret))


def secret_at(how: SecretForm, value: Secret, folder: Path, environ: Mapping[str, str]) -> Secret:
    """The secret that *value* is, or is the place of; paths are relative to *folder*. Raises SettingsError."""
    match how:
        case SecretForm.ENV:
            return _from_variable(value.reveal(), environ)
        case SecretForm.FILE:
            return _from_file(folder, value.reveal())
        case SecretForm.KEYRING:
            return fetch_from_keyring(value.reveal())
        case _:
            return value


def _from_variable(name: str, environ: Mapping[str, str]) -> Secret:
    if not environ.get(name, "").strip():
        raise SettingsError(f"the environment variable {name} is not set")
    return Secret(environ[name])


def _from_file(folder: Path, name: str) -> Secret:
    path = folder / at_home(Path(name))
    try:
        with path.open("rb") as file:
            return Secret(file.read(LONGEST).decode("utf-8", errors="replace"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "that is no file name"
        raise SettingsError(f"the file {path} cannot be read ({reason})") from None
