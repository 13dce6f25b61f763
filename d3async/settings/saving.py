"""Writing `[profiles.NAME.files]` into config.toml: comments, order, line ends and everything else stay."""

from __future__ import annotations

import os
import stat
import tempfile
import tomllib
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d3async.errors import D3Error, SettingsError
from d3async.settings.job_files import TABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Options = Mapping[str, str | list[str]]
    Change = Callable[[Options], Options]

_PATIENCE = 10.0


def save_files(path: Path, profile: str, change: Change) -> None:
    """Make what *profile* of the config file *path* says of job files what *change* makes of it.

    The file is there whole or unchanged, and keeps its mode. Raises SettingsError when it cannot be written, with the
    lines to write by hand where its form is at fault.
    """
    # a link stays a link
    problem = _saved(path.resolve(), profile, change)
    if problem:
        raise SettingsError(f"{path} {problem}", code="config")


def _saved(path: Path, profile: str, change: Change) -> str:
    """What went wrong, as a text: no exception keeps what is in the file, which may be a secret."""
    try:
        with _alone(path):
            before = path.read_bytes().decode("utf-8")
            text = before.removeprefix("\ufeff")
            tree = tomllib.loads(text)
            options = change(tree["profiles"][profile].get(TABLE, {}))
            after = _written(text, tree, profile, options)
            if after is None:
                return _by_hand(profile, options)
            if after != text:
                _replace(path, before.removesuffix(text) + after)
    except OSError as error:
        return f"cannot be written ({error.strerror or error}): the mapping was not saved, the file is as it was"
    except D3Error as error:
        return error.message
    except (ValueError, KeyError):
        return "was changed meanwhile and cannot be used any more: the mapping was not saved"
    return ""


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Of two that save at the same time the second waits, so that neither undoes what the other saved."""
    from filelock import FileLock  # noqa: PLC0415 - only who saves needs it

    place = path.with_name(f".{path.name}.lock")
    with FileLock(place, timeout=_PATIENCE, mode=0o600, fallback_to_soft=False):
        try:
            yield
        finally:
            # it goes while it is still held: later it may be somebody else's
            with suppress(OSError):
                place.unlink(missing_ok=True)


def _written(text: str, tree: dict[str, Any], profile: str, options: Options) -> str | None:
    """*text*, which means *tree*, with *options*; None where that cannot be done and nothing else changed."""
    import tomlkit.exceptions  # noqa: PLC0415 - only who saves needs it

    there = tree["profiles"][profile]
    if there.get(TABLE, {}) == options:
        return text
    changed = {**there, TABLE: options}
    wanted = {**tree, "profiles": {**tree["profiles"], profile: changed}}
    try:
        after = (
            _updated(text, profile, options) if TABLE in there else f"{text.rstrip()}\n\n{_section(profile, options)}"
        )
        if text.count("\n") == text.count("\r\n"):
            after = after.replace("\r\n", "\n").replace("\n", "\r\n")
        return after if tomllib.loads(after) == wanted else None
    except (tomlkit.exceptions.TOMLKitError, ValueError):
        return None


def _section(profile: str, options: Options) -> str:
    """A table of its own; at the end of the file it stands below no comment that is about something else."""
    import tomlkit  # noqa: PLC0415 - as above

    return f"[profiles.{tomlkit.key(profile).as_string()}.{TABLE}]\n{tomlkit.dumps(options)}"


def _by_hand(profile: str, options: Options) -> str:
    section = _section(profile, options)
    table = f"{section.partition(f'.{TABLE}]')[0]}]"
    return f"was not changed: the profile is no table of its own. Make it one, {table}, and put this below\n\n{section}"


def _updated(text: str, profile: str, options: Options) -> str:
    import tomlkit  # noqa: PLC0415 - as above

    document: Any = tomlkit.parse(text)
    table = document["profiles"][profile][TABLE]
    for name, value in options.items():
        if name not in table:
            _add(table, name, value)
        elif isinstance(value, str):
            table[name] = value
        else:
            _update_list(table[name], value)
    for name in [name for name in table if name not in options]:
        del table[name]
    return tomlkit.dumps(document)


def _add(table: Any, name: str, value: str | list[str]) -> None:
    """Add to *table* above the comments at its end, which are about what follows."""
    import tomlkit.items  # noqa: PLC0415 - as above

    tail: list[Any] = []
    body = table.value.body if isinstance(table, tomlkit.items.Table) else []
    while body and body[-1][0] is None:
        tail.append(body.pop()[1])
    table[name] = value
    for item in reversed(tail):
        table.add(item)


def _update_list(there: Any, texts: list[str]) -> None:
    """Make *there* say *texts*, each in its place where its column was there: so its comment stays beside it."""
    new = {_column(text): text for text in texts}
    for at in reversed(range(len(there))):
        text = new.pop(_column(there[at]), None)
        if text is None:
            del there[at]
        elif text != there[at]:
            there[at] = text
    for text in new.values():
        there.append(text)


def _column(text: str) -> str:
    return text.partition("=")[0].strip()


def _replace(path: Path, text: str) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        part.chmod(mode)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
