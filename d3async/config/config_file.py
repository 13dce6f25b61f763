"""config.toml read, checked, and changed in place: profiles, references to secrets, how job files are read."""

from __future__ import annotations

import difflib
import os
import stat
import tempfile
import tomllib
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d3async.config.credentials import CredentialKind, Hidden, Precedence, Secret, plain
from d3async.config.secret_sources import Reference, SecretForm
from d3async.config.setting_fields import BY_FIELD, at_home
from d3async.errors import D3Error, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Options = Mapping[str, str | list[str]]

TABLE = "files"
LISTS = {"map": "Theirs=ours", "set": "column=Value"}
TEXTS = ("date_format", "time_zone", "server_time_zone", "id_column", "encoding", "delimiter", "sheet")


def options_in(table: Hidden) -> dict[str, str | tuple[str, ...]]:
    """What the `files` of a profile's *table* say, a list as a tuple."""
    found = table.get(TABLE, {})
    return {name: value if isinstance(value, str) else tuple(value) for name, value in found.items()}


def wrong_in(place: str, files: Hidden) -> Iterator[str]:
    """What is wrong with known options of *files*, which stand at *place*."""
    for name, sample in LISTS.items():
        texts = files.get(name, [])
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            yield f'{place}.{name} must be a list of texts: ["{sample}"]'
            continue
        heads = [text.partition("=")[0].strip() for text in texts]
        yield from (
            f'{place}.{name} "{text}" lacks its =: write it like "{sample}"'
            for text, head in zip(texts, heads, strict=True)
            if not head or "=" not in text
        )
        twice = dict.fromkeys(head for head in heads if head and heads.count(head) > 1)
        yield from (f'{place}.{name} says twice what "{head}" is' for head in twice)
    yield from (
        f"{place}.{name} must be text"
        for name in TEXTS
        if name in files and not (isinstance(files[name], str) and files[name].strip())
    )


TABLES = {CredentialKind.API_KEY: "keys", CredentialKind.JWT: "jwts", CredentialKind.JWT_SECRET: "jwt_secrets"}
_GENERAL = {f"{kind}{how}": (kind, how) for kind in CredentialKind for how in SecretForm}
_LIMIT_URL = {f"limit_url{how}": how for how in SecretForm}
_KNOWN = (*BY_FIELD, *_GENERAL, *_LIMIT_URL, *TABLES.values(), TABLE)


@dataclass(frozen=True, slots=True)
class Profile:
    """What one `[profiles.NAME]` says; *name* is "" when none was chosen."""

    name: str
    path: Path
    table: Hidden

    @property
    def origin(self) -> str:
        """How its values are announced."""
        return f"profile {self.name} in {self.path}"

    def references(self) -> Iterator[Reference]:
        """The credentials it speaks of."""
        for name, (kind, how) in _GENERAL.items():
            if name in self.table:
                yield self._reference(kind, "", how, name, self.table[name])
        for kind, title in TABLES.items():
            for name, value in self.table.get(title, Hidden({})).items():
                command, how = _split(name)
                yield self._reference(kind, plain(command), how, f"{title}.{name}", value)

    def limit_url(self) -> Iterator[tuple[str, SecretForm, Secret]]:
        """Where it says the URL of the limit's database is: the name it says so by, how, and the place."""
        for name, how in _LIMIT_URL.items():
            if name in self.table:
                yield name, how, Secret(self.table[name])

    @property
    def files(self) -> dict[str, str | tuple[str, ...]]:
        """How it says job files are read: `map` and `set` as texts like `Theirs=ours`, the others one text each."""
        return options_in(self.table)

    def keyring_entry(self, kind: CredentialKind, command: str) -> str:
        """The keyring entry it names for this credential; "" when it names none."""
        wanted = (kind, plain(command), SecretForm.KEYRING)
        entries = [ref.value.reveal() for ref in self.references() if (ref.kind, ref.command, ref.how) == wanted]
        return entries[0] if entries else ""

    def _reference(self, kind: CredentialKind, command: str, how: SecretForm, name: str, value: Any) -> Reference:
        origin = f"{name} of {self.origin}"
        text = value if isinstance(value, str) else ""
        return Reference(kind, command, origin, Precedence.PROFILE, how, Secret(text), self.path.parent)


@dataclass(frozen=True, slots=True)
class Config:
    """A config.toml that can be used; *tree* is empty where there is none."""

    path: Path
    tree: Hidden

    def names(self) -> tuple[str, ...]:
        """The profiles it has, in its order."""
        return tuple(self.tree.get("profiles", ()))

    def profile(self, name: str) -> Profile:
        """The profile *name*, one of `names`; "" for an empty one."""
        return Profile(name, self.path, self.tree["profiles"][name] if name else Hidden({}))


def config_path(config: Path | None, environ: Mapping[str, str]) -> Path:
    """Where config.toml is: --config, D3_CONFIG, else the user's config folder."""
    if config is not None:
        return config
    if environ.get("D3_CONFIG"):
        return at_home(Path(environ["D3_CONFIG"]))
    import platformdirs  # noqa: PLC0415 - only who has no D3_CONFIG pays for it

    return platformdirs.user_config_path("d3async", appauthor=False) / "config.toml"


def load_profile(config: Path | None, name: str | None, environ: Mapping[str, str]) -> Profile:
    """The profile *name*, else D3_PROFILE, else the file's `default_profile`, else an empty one.

    Raises SettingsError when the file or the profile is missing though it was asked for, or cannot be used.
    """
    wanted = name or environ.get("D3_PROFILE", "").strip()
    found = load_config(config, environ, wanted=wanted)
    return found.profile(wanted or str(found.tree.get("default_profile") or ""))


def load_config(config: Path | None, environ: Mapping[str, str], *, wanted: str = "") -> Config:
    """The whole config.toml, an empty one where it was not named and there is none.

    Raises SettingsError when the file, or the profile *wanted* (else its `default_profile`), is missing or unusable.
    """
    path = config_path(config, environ)
    named = config is not None or bool(environ.get("D3_CONFIG"))
    if not (named or wanted) and not path.exists():
        return Config(path, Hidden({}))
    tree, problem = _read(path)
    if problem:
        raise SettingsError(f"{path} {problem}", code="config")
    problems = [*_wrong(tree), *_absent(tree, wanted or str(tree.get("default_profile") or ""))]
    if problems:
        raise SettingsError(f"{path}: {'; '.join(problems)}", code="config")
    if _tells(tree) and (mode := _open_to_others(path)):
        raise SettingsError(
            f"{path} holds a secret and others may read it (mode {mode:o}): type chmod 600 {path}, "
            "or name an environment variable instead (api_key_env)",
            code="config",
        )
    return Config(path, tree)


def _read(path: Path) -> tuple[Hidden, str]:
    """The file's tree, or what is wrong with it; no exception keeps the text, which may hold a secret."""
    try:
        return Hidden(tomllib.loads(path.read_bytes().decode("utf-8-sig"))), ""
    except OSError as error:
        return Hidden({}), f"cannot be read ({error.strerror}); --config and D3_CONFIG say where it is"
    except UnicodeDecodeError:
        return Hidden({}), "is not UTF-8"
    except tomllib.TOMLDecodeError as error:
        where = str(error).rpartition("(")[2].rstrip(")")
        return Hidden({}), f"is no valid TOML ({where}): are texts in quotes?"


def _wrong(tree: Hidden) -> Iterator[str]:
    yield from _unknown("it", tree, ("default_profile", "profiles"))
    profiles = tree.get("profiles", Hidden({}))
    if not isinstance(profiles, Hidden):
        yield "profiles must be tables: [profiles.NAME]"
        return
    for name, table in profiles.items():
        if not isinstance(table, Hidden):
            yield f"{name} must be a table: [profiles.{name}]"
        else:
            yield from _wrong_in(f"[profiles.{name}]", table)


def _wrong_in(place: str, table: Hidden) -> Iterator[str]:
    yield from _unknown(place, table, _KNOWN)
    for title in TABLES.values():
        inner = table.get(title, Hidden({}))
        if not isinstance(inner, Hidden):
            yield f"{place} {title} must be a table: CreateTask_env = …"
            continue
        yield from (f"{place} {title}.{key} must be text" for key in inner if not isinstance(inner[key], str))
        yield from _said_twice(f"{place} {title}.", [(*_split(key), key) for key in inner])
    yield from _wrong_in_files(f"{place} {TABLE}", table.get(TABLE, Hidden({})))
    texts = (*_GENERAL, *_LIMIT_URL)
    yield from (f"{place} {key} must be text" for key in texts if not isinstance(table.get(key, ""), str))
    yield from _said_twice(f"{place} ", [("limit_url", how, key) for key, how in _LIMIT_URL.items() if key in table])
    yield from _said_twice(f"{place} ", [(kind, how, key) for key, (kind, how) in _GENERAL.items() if key in table])


def _wrong_in_files(place: str, files: Any) -> Iterator[str]:
    if not isinstance(files, Hidden):
        yield f"{place} must be a table: map = […]"
        return
    yield from _unknown(place, files, (*LISTS, *TEXTS))
    yield from wrong_in(place, files)


def _said_twice(place: str, names: list[tuple[str, SecretForm, str]]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for what, _, name in names:
        other = seen.setdefault(plain(what), name)
        if other != name:
            yield f"{place}{other} and {name} say the same thing: keep one"


def _unknown(place: str, table: Hidden, known: tuple[str, ...]) -> Iterator[str]:
    for name in table:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            yield f'{place} has no setting "{name}"' + (f'; did you mean "{near[0]}"?' if near else "")


def _absent(tree: Hidden, wanted: str) -> Iterator[str]:
    profiles = tree.get("profiles", {})
    if wanted and wanted not in profiles:
        yield f'there is no profile "{wanted}" in it (it has: {", ".join(profiles) or "none"})'


def _split(name: str) -> tuple[str, SecretForm]:
    for how in (SecretForm.ENV, SecretForm.FILE, SecretForm.KEYRING):
        if name.endswith(how):
            return name.removesuffix(how), how
    return name, SecretForm.PLAIN


def _tells(tree: Hidden) -> bool:
    """Whether a secret itself is in the file, in any profile."""
    profiles = [Profile(name, Path(), table) for name, table in tree.get("profiles", Hidden({})).items()]
    keys = any(reference.how is SecretForm.PLAIN for profile in profiles for reference in profile.references())
    return keys or any(
        how is SecretForm.PLAIN and "@" in url.reveal() for one in profiles for _, how, url in one.limit_url()
    )


def _open_to_others(path: Path) -> int:
    """The file's mode when others may read or write it; Windows keeps no such bits, a home folder is private there."""
    mode = stat.S_IMODE(path.stat().st_mode)
    return mode if os.name == "posix" and mode & 0o077 else 0


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
            # it goes while it is still held: later it may belong to another process
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
    """A table of its own; at the end of the file it is below no comment about something else."""
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


if TYPE_CHECKING:
    Change = Callable[[Options], Options]
