"""Collect every setting from options, environment, profile and defaults, with where each came from."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d3async.config import secret_sources
from d3async.config.config_file import Profile, load_profile
from d3async.config.credentials import CredentialKind, Credentials, Hidden, Precedence, Secret, how_to_set, plain
from d3async.config.secret_sources import Reference, SecretForm, fetch, secret_at
from d3async.config.setting_fields import BY_FIELD, FILES, REQUIRED, SETTINGS, Setting, at_home, read
from d3async.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

RESERVED = frozenset({"D3_API_KEY_HEADER", "D3_JWT_LIFETIME"})
SHARED = frozenset(
    {
        "rate",
        "concurrency",
        "timeout",
        "max_attempts",
        "max_wait",
        "max_outage",
        "jwt_lifetime",
        "ca_bundle",
        "share_limit",
    }
)
"""What options and variables say for every D3 of a run; all else is said for one D3, and never tells another."""
LIMIT_URL = ("limit_url", "limit_url_file")
OTHERS = frozenset({"D3_PROFILE", "D3_CONFIG", "D3_LIMIT_URL_FILE", "D3_FLEET_URL", "D3_FLEET_URL_FILE"})
_PREFIXES = tuple(
    (kind, f"D3_{kind.upper()}") for kind in (CredentialKind.API_KEY, CredentialKind.JWT_SECRET, CredentialKind.JWT)
)
_SECRET_OPTIONS = {f"{kind}{ending}": (kind, ending) for kind in CredentialKind for ending in ("", "s", "_file")}


@dataclass(frozen=True, slots=True)
class Collected:
    """All there is to know before it is judged; *problems* are whole sentences."""

    values: dict[str, Any]
    origins: dict[str, str]
    credentials: Credentials
    problems: list[str]
    profile: Profile


def collect(
    environ: Hidden, *, profile: str | None, config: Path | None, needs: Iterable[str], options: Hidden
) -> Collected:
    """Read everything; only a config file that cannot be used, or an option that does not exist, raises."""
    unknown = set(options) - set(BY_FIELD) - set(_SECRET_OPTIONS) - set(LIMIT_URL)
    if unknown:
        raise TypeError(f"no such setting: {', '.join(sorted(unknown))}")
    chosen = load_profile(config, profile, environ)
    found = Collected({}, {}, _credentials(options, environ, chosen, tuple(needs)), [], chosen)
    for setting in SETTINGS:
        _settle(setting, options, environ, found)
    found.problems.extend(_misfits(found.values))
    found.problems.extend(_key_problems(found.credentials, needs, environ))
    return found


def collect_profile(profile: Profile, environ: Hidden, *, needs: Iterable[str], options: Hidden) -> Collected:
    """What *profile* says for the rows that name it.

    Where and as whom comes from the profile alone: a variable or an option for one D3 must not reach another. What is
    `SHARED` may come from an option, which is stronger, or from a variable, which is weaker than the profile.
    """
    needs = tuple(needs)
    found = Collected({}, {}, _fetched(profile.references(), environ, profile, needs), [], profile)
    options = Hidden({name: options[name] for name in (*SHARED, *LIMIT_URL) if name in options})
    weaker = {BY_FIELD[name].variable for name in SHARED if name not in profile.table}
    if not any(profile.limit_url()):
        weaker |= {f"D3_{name.upper()}" for name in LIMIT_URL}
    weaker |= {place.reveal() for _, how, place in profile.limit_url() if how is SecretForm.ENV}
    environ = Hidden({name: environ[name] for name in weaker if name in environ})
    for setting in SETTINGS:
        if setting.default is REQUIRED and setting.field not in profile.table:
            found.problems.append(f"{profile.origin} has no {setting.field}")
        else:
            _settle(setting, options, environ, found)
    found.problems.extend(_misfits(found.values))
    chosen = [(command, found.credentials.best(command)) for command in needs]
    lacking = [entry.problem if entry else f"{profile.origin} has no key for {command}" for command, entry in chosen]
    found.problems.extend(dict.fromkeys(problem for problem in lacking if problem))
    return found


def _settle(setting: Setting, options: Hidden, environ: Hidden, found: Collected) -> None:
    try:
        first = _first_secret if setting.secret else _first
        value, origin, name = first(setting, options, environ, found.profile)
    except SettingsError as error:
        found.problems.append(error.message)
        return
    if value is REQUIRED:
        found.problems.append(
            f"{setting.variable} is not set: set it, give {setting.option}, or put {setting.field} into a profile"
            + _near_miss(setting.variable, environ)
        )
        return
    try:
        found.values[setting.field] = read(setting, value)
        found.origins[setting.field] = origin
    except ValueError as error:
        found.problems.append(f"{name} {error}")


def _first(setting: Setting, options: Hidden, environ: Hidden, profile: Profile) -> tuple[Any, str, str]:
    """The strongest value, its origin, and the name a complaint about it uses."""
    if options.get(setting.field) is not None:
        return options[setting.field], f"option {setting.option}", setting.option
    if environ.get(setting.variable, "").strip():
        return environ[setting.variable], f"environment {setting.variable}", setting.variable
    if setting.field in profile.table:
        value = profile.table[setting.field]
        if setting.field in FILES and isinstance(value, str):
            value = str(profile.path.parent / at_home(Path(value)))
        return value, profile.origin, f"{setting.field} of {profile.origin}"
    return setting.default, "default", setting.field


def _first_secret(setting: Setting, options: Hidden, environ: Hidden, profile: Profile) -> tuple[Any, str, str]:
    """As `_first`, of a setting that may be in a file, another variable or the keyring. Raises SettingsError."""
    places = [
        *(
            (f"option --{name.replace('_', '-')}", how, Path(), options[name])
            for name, how in ((setting.field, SecretForm.PLAIN), (f"{setting.field}_file", SecretForm.FILE))
            if options.get(name)
        ),
        *_in_variables(setting.variable, environ),
        *((f"{name} of {profile.origin}", how, profile.path.parent, value) for name, how, value in profile.limit_url()),
    ]
    if not places:
        return setting.default, "default", setting.field
    origin, how, folder, value = places[0]
    name = origin.removeprefix("option ").removeprefix("environment ")
    try:
        secret = secret_at(how, value if isinstance(value, Secret) else Secret(str(value)), folder, environ)
    except SettingsError as error:
        raise SettingsError(f"{name}: {error.message}") from None
    return secret, origin, name


def _in_variables(variable: str, environ: Hidden) -> Iterator[tuple[str, SecretForm, Path, Secret]]:
    names = ((variable, SecretForm.PLAIN), (f"{variable}_FILE", SecretForm.FILE))
    said = [(name, how) for name, how in names if environ.get(name, "").strip()]
    if len(said) > 1:
        raise SettingsError(f"{variable} and {variable}_FILE say the same thing: unset one of them")
    for name, how in said:
        yield f"environment {name}", how, Path(), Secret(environ[name])


def _near_miss(wanted: str, environ: Hidden) -> str:
    """The variable that was perhaps meant to be *wanted*."""
    ours = {known.variable for known in SETTINGS} | OTHERS | RESERVED
    strangers = [name for name in environ if name.startswith("D3") and name not in ours and not _parse_variable(name)]
    near = difflib.get_close_matches(wanted, strangers, n=1, cutoff=0.7)
    return f" ({near[0]} is set; was {wanted} meant?)" if near else ""


def _misfits(values: Mapping[str, Any]) -> Iterator[str]:
    if values.get("client_key") and not values.get("client_cert"):
        yield "a client key without its certificate: set D3_CLIENT_CERT or give --client-cert"


def _key_problems(credentials: Credentials, needs: Iterable[str], environ: Hidden) -> list[str]:
    """What an option or a variable says must be usable; a profile's keys only when they are needed."""
    early = [entry.problem for entry in credentials.entries if entry.level < Precedence.PROFILE and entry.problem]
    chosen = [(command, credentials.best(command)) for command in needs]
    hint = _near_miss("D3_API_KEY", environ)
    late = [entry.problem if entry else how_to_set(command) + hint for command, entry in chosen]
    return list(dict.fromkeys(problem for problem in (*early, *late) if problem))


def _credentials(options: Hidden, environ: Hidden, profile: Profile, needs: tuple[str, ...]) -> Credentials:
    first: dict[tuple[bool, CredentialKind, str], Reference] = {}
    for reference in (*_from_options(options), *_from_environment(environ), *profile.references()):
        first.setdefault(reference.slot, reference)
    return _fetched(first.values(), environ, profile, needs)


def _fetched(references: Iterable[Reference], environ: Hidden, profile: Profile, needs: tuple[str, ...]) -> Credentials:
    without = Credentials(tuple(fetch(reference, environ) for reference in references))
    stored = tuple(fetch(reference, environ) for reference in _from_logins(profile, without, needs))
    return Credentials((*without.entries, *stored))


def _from_options(options: Hidden) -> Iterator[Reference]:
    for name, (kind, ending) in _SECRET_OPTIONS.items():
        value = options.get(name)
        if not value:
            continue
        how = SecretForm.FILE if ending == "_file" else SecretForm.PLAIN
        table = Hidden(value) if ending == "s" else Hidden({"": value})
        origin = f"option --{name.replace('_', '-')}"
        for command in table:
            text = table[command] if isinstance(table[command], Secret) else str(table[command])
            yield Reference(kind, plain(command), origin, Precedence.OPTION, how, Secret(text), Path())


def _from_environment(environ: Hidden) -> Iterator[Reference]:
    first: dict[tuple[bool, CredentialKind, str], Reference] = {}
    for name in sorted(environ):
        parsed = _parse_variable(name)
        if parsed is None or not environ[name].strip():
            continue
        kind, command, how = parsed
        new = Reference(
            kind, command, f"environment {name}", Precedence.ENVIRONMENT, how, Secret(environ[name]), Path()
        )
        old = first.setdefault(new.slot, new)
        if old is not new:
            first[new.slot] = replace(old, problem=f"{old.origin} and {name} say the same thing: unset one of them")
    yield from first.values()


def _parse_variable(name: str) -> tuple[CredentialKind, str, SecretForm] | None:
    """`D3_JWT_SECRET_CREATE_TASK_FILE` as (JWT secret, createtask, file)."""
    if name in RESERVED:
        return None
    how = SecretForm.FILE if name.endswith("_FILE") else SecretForm.PLAIN
    stem = name.removesuffix("_FILE")
    for kind, prefix in _PREFIXES:
        if stem == prefix or stem.startswith(f"{prefix}_"):
            return kind, plain(stem.removeprefix(prefix)), how
    return None


def _from_logins(profile: Profile, others: Credentials, needs: tuple[str, ...]) -> Iterator[Reference]:
    """What `login` stored for this profile, where no other source has a credential for that command."""
    wanted = [command for command in needs if others.best(command) is None]
    if needs and not wanted:
        return
    for entry in sorted(secret_sources.keyring_logins(profile.path.parent)):
        for kind, command in _readings(entry, profile.name):
            if others.best(command) is None and (not needs or command in {"", *map(plain, wanted)}):
                origin = f"keyring entry {entry}"
                yield Reference(kind, command, origin, Precedence.LOGIN, SecretForm.KEYRING, Secret(entry), Path())


def _readings(entry: str, profile: str) -> Iterator[tuple[CredentialKind, str]]:
    for kind in CredentialKind:
        command = entry.rpartition("/")[2]
        if entry == secret_sources.entry_name(profile, kind, command):
            yield kind, command
        elif entry == secret_sources.entry_name(profile, kind, ""):
            yield kind, ""
