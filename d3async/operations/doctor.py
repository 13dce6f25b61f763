"""Self-test: versions, folder, settings, keys, rate, shared limit, fleet; a key proved by a harmless call."""

from __future__ import annotations

import difflib
import importlib.metadata
import os
import platform
import ssl
import stat
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import anyio

from d3async import __version__
from d3async.config.credentials import Credential, CredentialKind, Credentials, how_to_set, plain, variable
from d3async.config.database_urls import find, installed
from d3async.config.precedence import OTHERS, RESERVED
from d3async.config.setting_fields import SETTINGS
from d3async.d3.call import envelope
from d3async.d3.commands import all_commands
from d3async.d3.response import (
    AmbiguousAnswer,
    ApiResponse,
    Refused,
    Throttled,
    TransportFailure,
    Unauthorized,
    read,
    returned,
)
from d3async.errors import D3Error, JournalError, SettingsError
from d3async.operations.doctor_network import PATIENCE, Check, within
from d3async.ratelimit.rate_controller import paced
from d3async.ratelimit.shared_limiter import UNSEEN
from d3async.ratelimit.sqlite_store import SqliteStore, host_file, on_network
from d3async.ratelimit.store_protocol import StoreError
from d3async.transport.auth import Auth
from d3async.transport.http import HttpSettings, Transport

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from d3async.config.database_urls import FleetUrl, LimitUrl
    from d3async.config.precedence import Collected
    from d3async.config.settings import Settings
    from d3async.ratelimit.postgres_store import Trial

D3_LIMIT = 50
"""Requests a second, from D3's introduction-to-d3-command-api page."""


def of_versions() -> Iterator[Check]:
    """What runs here."""
    here = f"d3async {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield Check("versions", "ok", f"{here}, aiohttp {_version('aiohttp')}, {ssl.OPENSSL_VERSION}")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def of_folder(folder: Path | None = None) -> Check:
    """Whether a run folder could be made beside a file here."""
    folder = folder or Path.cwd()
    try:
        with tempfile.TemporaryDirectory(prefix=".d3async-", dir=folder):
            return Check("folder", "ok", f"{folder} can be written")
    except OSError as error:
        text = f"{folder} cannot be written ({error.strerror})"
        return Check("folder", "bad", text, "run there where you may write, or give run -o DIR")


def of_settings(found: Collected, environ: Mapping[str, str]) -> Iterator[Check]:
    """Each setting with its value and origin, then everything that is missing or wrong."""
    for setting in SETTINGS:
        if setting.field in found.values:
            shown = _shown(setting.field, found.values[setting.field])
            yield Check(setting.field, "ok", f"{shown}  ({found.origins[setting.field]})")
    of_keys_alone = {entry.problem for entry in found.credentials.entries}
    for problem in found.problems:
        if problem not in of_keys_alone:
            yield Check("settings", "bad", problem)
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


def _open_config(path: Path) -> Iterator[Check]:
    if os.name == "posix" and path.is_file() and path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        text = f"{path} may be changed by others, who could send your key to their own server"
        yield Check("config", "bad", text, f"chmod go-w {path}")


def _strangers(environ: Mapping[str, str]) -> Iterator[Check]:
    """Variables that look like ours and are not: a slip of the pen is otherwise silent."""
    known = {setting.variable for setting in SETTINGS} | OTHERS | RESERVED | {variable(kind) for kind in CredentialKind}
    for name in sorted(environ):
        general = any(name == variable(kind) or name.startswith(f"{variable(kind)}_") for kind in CredentialKind)
        if name.startswith("D3_") and name not in known and not general:
            near = difflib.get_close_matches(name, known, n=1)
            yield Check("settings", "note", f"{name} is set and not known here", f"{near[0]}?" if near else "")


def of_keys(found: Collected) -> Iterator[Check]:
    """For each command, whether it has a key, where from, and whether a token could be signed."""
    auth = Auth(_Partial(found.credentials, "d3key", found.values.get("jwt_lifetime")))
    names = {plain(name): name for name in all_commands()}
    none = not any(auth.can(name) for name in names.values())
    for name in names.values():
        credential = found.credentials.best(name)
        if credential is None:
            yield Check("key", "bad" if none else "note", f"{name}: none", how_to_set(name).partition(": ")[2])
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


def _of_key(prefix: str, credential: Credential, auth: Auth, values: Mapping[str, Any]) -> Check:
    said = {name: values.get(name, "") for name in ("username", "site")}
    try:
        headers = auth.headers(prefix.rstrip(": ") or credential.command, **said)
    except SettingsError as error:
        return Check("key", "bad", f"{prefix}{error.message}")
    what = f"{prefix}{credential.kind.label} from {credential.origin}"
    if credential.kind is CredentialKind.JWT:
        return _of_token(what, next(iter(headers.values())), said)
    return Check("key", "ok", f"{what}; it signs" if credential.kind is CredentialKind.JWT_SECRET else what)


def _of_token(what: str, token: str, values: Mapping[str, Any]) -> Check:
    import jwt  # noqa: PLC0415 - only a ready token needs it

    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        return Check("key", "bad", f"{what}, which is no token: three parts with dots", "a secret? D3_JWT_SECRET")
    ends = claims.get("exp")
    if isinstance(ends, (int, float)) and ends < datetime.now(UTC).timestamp():
        return Check("key", "bad", f"{what}, which ended {datetime.fromtimestamp(ends, UTC):%Y-%m-%d %H:%M} UTC")
    wrong = [name for name in ("Username", "Site") if claims.get(name, values[name.lower()]) != values[name.lower()]]
    if wrong:
        cure = "D3 wants the token's claims equal to what is sent; D3_JWT_SECRET signs a fitting one each time"
        return Check("key", "bad", f"{what}, made for another {' and '.join(wrong)}", cure)
    return Check("key", "ok", what)


def of_rows(found: Collected, rows: Collected) -> Iterator[Check]:
    """What is other for *rows* of a job file that name the profile: for them it comes before the environment."""
    name = found.profile.name
    told = [*rows.problems, *_other_settings(found, rows), *_other_keys(found, rows)]
    for text in told:
        yield Check("rows", "note", f'rows that name the profile "{name}": {text}')
    if not told:
        yield Check("rows", "ok", f'rows that name the profile "{name}" are sent by these settings too')


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


def of_rate(settings: Settings) -> Check:
    """What the limiter will do."""
    slots = f"{settings.concurrency} in flight at most"
    if settings.rate is None:
        return Check("limiter", "ok", f"finds the rate by itself in each run, {slots}")
    pace = f"{settings.rate:g} requests a second at most, paced at {paced(settings.rate):.1f}"
    if settings.rate > D3_LIMIT:
        return Check("limiter", "note", f"{pace}, {slots}", f"D3's pages allow {D3_LIMIT}")
    return Check("limiter", "ok", f"{pace}, {slots}; what a 429 teaches is kept for that run")


_OK = 200
_NOT_FOUND = 404


def of_key(settings: Settings, auth: Auth) -> Check:
    """Ask D3 something harmless, if there is a key for that."""
    question = next(((name, params) for name, params in _questions() if auth.can(name)), None)
    if question is None:
        text = "cannot be proven without changing D3: there is no key for GetIncidents"
        return Check("proof", "note", text, "d3async run FILE --limit 1 is the smallest proof")
    name, params = question
    request = envelope(name, params, username=settings.username, site=settings.site)
    headers = auth.headers(name, username=settings.username, site=settings.site)
    general = (credential := settings.credentials.best(name)) is not None and not credential.command
    return judge(name, anyio.run(_ask, settings, request, headers), general=general)


def _questions() -> list[tuple[str, dict[str, Any]]]:
    """https://docs.d3security.com/api-docs/Working-version/get-incidents and …/get-linked-incidents-of-an-incident."""
    now = datetime.now(UTC)
    span = {"Start Time": f"{now - timedelta(minutes=1):%Y-%m-%d %H:%M:%S}", "End Time": f"{now:%Y-%m-%d %H:%M:%S}"}
    look = {"Filter": [], "Static Fields": ["IR Number"], "Page Index": 0, "Page Size": 1, "Output Format": 2}
    return [
        ("GetIncidents", {**look, **span}),
        ("GetLinkedIncidentsOfAnIncident", {"Incident Number": "00000000-0"}),
    ]


async def _ask(settings: Settings, request: Any, headers: Mapping[str, str]) -> ApiResponse | TransportFailure:
    network = HttpSettings(
        settings.base_url,
        timeout=settings.timeout,
        ca_bundle=settings.ca_bundle,
        client_cert=settings.client_cert,
        client_key=settings.client_key,
    )
    async with Transport(network) as transport:
        return await transport.send(request, headers)


def judge(name: str, answer: ApiResponse | TransportFailure, *, general: bool) -> Check:
    """What *answer* says about the key. With a *general* key a 401 proves nothing about other commands."""
    state: Literal["ok", "bad", "note"] = "bad"
    match answer if isinstance(answer, TransportFailure) else read(answer):
        case Unauthorized() if general:
            state, text = "note", f"D3 refuses the general key for {name}; it makes keys per command: no proof"
            cure = "d3async run FILE --limit 1 is the smallest proof"
        case Unauthorized(message=message):
            text = f"{name}: D3 refuses the key: {message}"
            cure = "make the key anew in D3 (Configuration, Utility Commands), and see who may use it"
        case Throttled():
            state, text, cure = "note", f"{name}: D3 is asked too much at the moment (429)", "try again later"
        case Refused(message=message, status=200):
            state, text, cure = "ok", f"D3 takes the key for {name} (and answers: {message})", ""
        case Refused(message=message, status=status):
            text = f"{name}: HTTP {status}: {message}"
            cure = "is the site path in D3_BASE_URL right?" if status == _NOT_FOUND else ""
        case TransportFailure(message=message):
            text, cure = f"{name}: {message}", "see what the lines above say, then try again"
        case AmbiguousAnswer(message=message) if not _from_d3(answer):
            text, cure = f"{name}: {message}", "something else than D3 answers: is D3_BASE_URL right?"
        case _:
            state, text, cure = "ok", f"D3 takes the key for {name}", ""
    return Check("proof", state, text, cure)


def _from_d3(answer: ApiResponse | TransportFailure) -> bool:
    """Whether it is a JSON object under 200, as D3 sends: no redirect, no error page, no 5xx."""
    return isinstance(answer, ApiResponse) and answer.status == _OK and isinstance(returned(answer), dict)


_LIMIT = "shared limit"
_ALONE = f"until it can be used, each process goes on with its part of the rate, one that starts now with 1/{UNSEEN}"
_GO_ON = "runs go on, and none knows of the others"
_REACH = "is the URL right? Does the server run, does a firewall let this machine through?"
_CURES = {
    "forbidden": "grant the role CREATE in the schema, or all rights to d3async_limit and d3async_limit_member",
    "read_only": "a standby, or set to read only: name the server that is written to",
    "too_slow": "a database nearer by, or one with less to do",
}


def of_limit(values: Mapping[str, Any]) -> Iterator[Check]:
    """How the limit is shared with other processes, and whether that works; nothing where *values* do not say."""
    if not {"limit_url", "share_limit"} <= values.keys():
        return
    url: LimitUrl | None = values["limit_url"]
    if not values["share_limit"]:
        idle = f"; {url} is not used" if url else ""
        yield Check(
            _LIMIT,
            "note",
            f"off (D3_SHARE_LIMIT, --no-share-limit or the profile): every run has the whole rate to itself{idle}",
        )
    elif url is None:
        yield of_file(host_file())
    else:
        yield of_database(url)


def of_file(path: Path) -> Check:
    """Whether the processes of this user on this host can share their limit through *path*."""
    try:
        if on_network(path):
            raise StoreError("it is on a network share")  # noqa: TRY301 - one word for all that makes it unusable
        anyio.run(_written, path)
    except StoreError as error:
        cure = f"let {path} be written, or say no to it: D3_SHARE_LIMIT=no, --no-share-limit"
        return Check(_LIMIT, "bad", f"{path} cannot be used ({error.message}): {_GO_ON}", cure)
    return Check(_LIMIT, "ok", f"with your other processes on this host, through {path}, which can be written")


async def _written(path: Path) -> None:
    async with SqliteStore(path) as store:
        await store.leave("doctor", "doctor")


def of_database(url: LimitUrl) -> Check:
    """Whether the database at *url* can share a limit, and how fast it does."""
    try:
        with installed():
            from d3async.ratelimit.postgres_store import probe_database  # noqa: PLC0415 - an extra
        found = within(PATIENCE, lambda: probe_database(url))
    except SettingsError:
        return Check(_LIMIT, "bad", f"{url} needs a driver: no run starts without", "pip install 'd3async[fleet]'")
    except StoreError as error:
        return Check(_LIMIT, "bad", f"{url}: {error.message}; {_ALONE}", _CURES.get(error.code, _REACH))
    except TimeoutError:
        return Check(_LIMIT, "bad", f"{url} does not answer; {_ALONE}", _REACH)
    return judged(found, str(url))


def judged(found: Trial, place: str) -> Check:
    """What *found* means for those who share their limit through *place*."""
    text = f"{place}, a reservation takes {found.round_trip * 1000:.1f} ms"
    if found.too_slow:
        return Check(_LIMIT, "bad", f"{text}, which counts as lost; {_ALONE}", _CURES["too_slow"])
    tables = "its tables are there" if found.made else "the first run makes its tables"
    side = "ahead of" if found.ahead > 0 else "behind"
    clock = f"its clock is {abs(found.ahead):.1f} s {side} this one, which does no harm"
    return Check(_LIMIT, "ok", f"{text}; {tables}; {clock}")


def of_fleet(environ: Mapping[str, str]) -> Iterator[Check]:
    """Whether the fleet that *environ* names can be reached, and is one that this d3async knows."""
    try:
        address = find(None, environ)
        if address is None:
            return
        with installed():
            yield Check("fleet", "ok", within(PATIENCE, lambda: _reached(address)))
    except JournalError as error:
        yield _of_journal(error)
    except TimeoutError:
        yield Check("fleet", "bad", f"{address} does not answer", _REACH)
    except D3Error as error:
        yield Check("fleet", "bad", error.message)


def _reached(address: FleetUrl) -> str:
    from d3async.journal.postgres.connections import round_trip  # noqa: PLC0415 - an extra

    took = round_trip(address) * 1000
    return f"{address}, its tables are those this d3async knows; a question takes {took:.1f} ms"


def _of_journal(error: JournalError) -> Check:
    if error.code == "journal_missing":
        return Check("fleet", "note", error.message)
    return Check("fleet", "bad", error.message, _REACH if error.code == "fleet" else "")


def examine(options: Mapping[str, Any]) -> Iterator[Check]:
    """Every finding, as it is made."""
    from d3async.config.credentials import Hidden  # noqa: PLC0415 - as above
    from d3async.config.precedence import collect  # noqa: PLC0415 - as above
    from d3async.config.setting_fields import SETTINGS  # noqa: PLC0415 - as above
    from d3async.config.settings import Profiles, Settings  # noqa: PLC0415 - as above
    from d3async.errors import SettingsError  # noqa: PLC0415 - as above
    from d3async.operations import doctor_network  # noqa: PLC0415 - as above
    from d3async.transport.auth import Auth  # noqa: PLC0415 - `--help` need not load the rest

    config, profile = options.get("config"), options.get("profile")
    given = Hidden({name: value for name, value in options.items() if name not in {"config", "profile"}})
    environ = Hidden(os.environ)
    yield from of_versions()
    yield of_folder()
    try:
        found = collect(environ, profile=profile, config=config, needs=(), options=given)
    except SettingsError as error:
        yield doctor_network.Check("config", "bad", error.message)
        return
    yield from of_settings(found, environ)
    yield from of_keys(found)
    if found.profile.name:
        profiles = Profiles(environ, config=config, **{name: given[name] for name in given})
        yield from of_rows(found, profiles.collected(found.profile.name))
    yield from of_limit(found.values)
    yield from of_fleet(environ)
    if len(found.values) < len(SETTINGS):
        return
    settings = Settings(**found.values, credentials=found.credentials, profile=found.profile.name or None)
    auth = Auth(settings)
    yield of_rate(settings)
    reached = True
    for network in doctor_network.of_network(settings, environ):
        reached = reached and network.state != "bad"
        yield network.masked(auth.mask)
    if reached:
        yield of_key(settings, auth).masked(auth.mask)
