"""What the doctor finds without a network: versions, folder, settings, keys, limiter."""

from __future__ import annotations

import difflib
import importlib.metadata
import os
import platform
import ssl
import stat
import tempfile
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from d3async import __version__
from d3async.auth import Auth
from d3async.commands import all_commands
from d3async.credentials import Credential, Credentials, Kind, how_to_set, plain, variable
from d3async.errors import SettingsError
from d3async.sansio.rate import paced
from d3async.settings.sources import OTHERS, RESERVED
from d3async.settings.values import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from d3async.settings import Settings
    from d3async.settings.sources import Collected

D3_LIMIT = 50
"""Requests a second, from D3's introduction-to-d3-command-api page."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor: *state* "note" is neither good nor bad; *cure* says what to do."""

    check: str
    state: Literal["ok", "bad", "note"]
    text: str
    cure: str = ""

    def public(self) -> dict[str, str]:
        """For `--json`."""
        return asdict(self)

    def masked(self, mask: Callable[[str], str]) -> Finding:
        """The same, with secrets as `***`."""
        return replace(self, text=mask(self.text), cure=mask(self.cure))


def of_versions() -> Iterator[Finding]:
    """What runs here."""
    here = f"d3async {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield Finding("versions", "ok", f"{here}, aiohttp {_version('aiohttp')}, {ssl.OPENSSL_VERSION}")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def of_folder(folder: Path | None = None) -> Finding:
    """Whether a run folder could be made beside a file here."""
    folder = folder or Path.cwd()
    try:
        with tempfile.TemporaryDirectory(prefix=".d3async-", dir=folder):
            return Finding("folder", "ok", f"{folder} can be written")
    except OSError as error:
        text = f"{folder} cannot be written ({error.strerror})"
        return Finding("folder", "bad", text, "run there where you may write, or give run -o DIR")


def of_settings(found: Collected, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Each setting with its value and origin, then everything that is missing or wrong."""
    for setting in SETTINGS:
        if setting.field in found.values:
            shown = _shown(setting.field, found.values[setting.field])
            yield Finding(setting.field, "ok", f"{shown}  ({found.origins[setting.field]})")
    of_keys_alone = {entry.problem for entry in found.credentials.entries}
    for problem in found.problems:
        if problem not in of_keys_alone:
            yield Finding("settings", "bad", problem)
    yield from _open_config(found.profile.path)
    yield from _strangers(environ)


def _shown(field: str, value: Any) -> str:
    if value is None:
        return "auto" if field == "rate" else "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g} {'a second' if field == 'rate' else 's'}"
    return str(value)


def _open_config(path: Path) -> Iterator[Finding]:
    if os.name == "posix" and path.is_file() and path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        text = f"{path} may be changed by others, who could send your key to their own server"
        yield Finding("config", "bad", text, f"chmod go-w {path}")


def _strangers(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Variables that look like ours and are not: a slip of the pen is otherwise silent."""
    known = {setting.variable for setting in SETTINGS} | OTHERS | RESERVED | {variable(kind) for kind in Kind}
    for name in sorted(environ):
        general = any(name == variable(kind) or name.startswith(f"{variable(kind)}_") for kind in Kind)
        if name.startswith("D3_") and name not in known and not general:
            near = difflib.get_close_matches(name, known, n=1)
            yield Finding("settings", "note", f"{name} is set and not known here", f"{near[0]}?" if near else "")


def of_keys(found: Collected) -> Iterator[Finding]:
    """For each command, whether it has a key, where from, and whether a token could be signed."""
    auth = Auth(_Partial(found.credentials, "d3key", found.values.get("jwt_lifetime")))
    names = {plain(name): name for name in all_commands()}
    none = not any(auth.can(name) for name in names.values())
    for name in names.values():
        credential = found.credentials.best(name)
        if credential is None:
            yield Finding("key", "bad" if none else "note", f"{name}: none", how_to_set(name).partition(": ")[2])
        else:
            yield _of_key(f"{name}: ", credential, auth, found.values)
    for entry in found.credentials.entries:
        if entry.command and entry.command not in names:
            yield _of_key("", entry, auth, found.values)


class _Partial(NamedTuple):
    """What `Auth` needs, when other settings are still missing."""

    credentials: Credentials
    api_key_header: str
    jwt_lifetime: float | None


def _of_key(prefix: str, credential: Credential, auth: Auth, values: Mapping[str, Any]) -> Finding:
    said = {name: values.get(name, "") for name in ("username", "site")}
    try:
        headers = auth.headers(prefix.rstrip(": ") or credential.command, **said)
    except SettingsError as error:
        return Finding("key", "bad", f"{prefix}{error.message}")
    what = f"{prefix}{credential.kind.label} from {credential.origin}"
    if credential.kind is Kind.JWT:
        return _of_token(what, next(iter(headers.values())), said)
    return Finding("key", "ok", f"{what}; it signs" if credential.kind is Kind.JWT_SECRET else what)


def _of_token(what: str, token: str, values: Mapping[str, Any]) -> Finding:
    import jwt  # noqa: PLC0415 - only a ready token needs it

    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        return Finding("key", "bad", f"{what}, which is no token: three parts with dots", "a secret? D3_JWT_SECRET")
    ends = claims.get("exp")
    if isinstance(ends, (int, float)) and ends < datetime.now(UTC).timestamp():
        return Finding("key", "bad", f"{what}, which ended {datetime.fromtimestamp(ends, UTC):%Y-%m-%d %H:%M} UTC")
    wrong = [name for name in ("Username", "Site") if claims.get(name, values[name.lower()]) != values[name.lower()]]
    if wrong:
        cure = "D3 wants the token's claims equal to what is sent; D3_JWT_SECRET signs a fitting one each time"
        return Finding("key", "bad", f"{what}, made for another {' and '.join(wrong)}", cure)
    return Finding("key", "ok", what)


def of_rows(found: Collected, rows: Collected) -> Iterator[Finding]:
    """What is other for *rows* of a job file that name the profile: for them it comes before the environment."""
    name = found.profile.name
    told = [*rows.problems, *_other_settings(found, rows), *_other_keys(found, rows)]
    for text in told:
        yield Finding("rows", "note", f'rows that name the profile "{name}": {text}')
    if not told:
        yield Finding("rows", "ok", f'rows that name the profile "{name}" are sent by these settings too')


def _other_settings(found: Collected, rows: Collected) -> Iterator[str]:
    for setting in SETTINGS:
        field = setting.field
        if field in rows.values and rows.values[field] != found.values.get(field):
            shown = "another" if setting.secret else _shown(field, rows.values[field])
            yield f"{field} {shown}  ({rows.origins[field]})"


def _other_keys(found: Collected, rows: Collected) -> Iterator[str]:
    for name in all_commands():
        mine, theirs = found.credentials.best(name), rows.credentials.best(name)
        if theirs is None and mine is not None:
            yield f"no key for {name}; that from {mine.origin} is not for them"
        elif theirs is not None and (mine is None or mine.origin != theirs.origin):
            yield f"{theirs.problem or f'{name}: {theirs.kind.label} from {theirs.origin}'}"


def of_rate(settings: Settings) -> Finding:
    """What the limiter will do."""
    slots = f"{settings.concurrency} in flight at most"
    if settings.rate is None:
        return Finding("limiter", "ok", f"finds the rate by itself in each run, {slots}")
    pace = f"{settings.rate:g} requests a second at most, paced at {paced(settings.rate):.1f}"
    if settings.rate > D3_LIMIT:
        return Finding("limiter", "note", f"{pace}, {slots}", f"D3's pages allow {D3_LIMIT}")
    return Finding("limiter", "ok", f"{pace}, {slots}; what a 429 teaches is kept for that run")
