"""Options that several subcommands share: job files, settings, --fleet, --halt, durations, run folders."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from d3async.cli.console import is_interactive
from d3async.config.database_urls import fleet_meant, installed
from d3async.errors import JournalError
from d3async.policy import halt_and_exit_codes
from d3async.policy.look_alikes import Lines, parse_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from click import Context, Parameter

    from d3async.config.settings import Settings
    from d3async.operations.server_settings import Servers
    from d3async.operations.settle import FleetRunName

JOURNAL = "journal.sqlite"


def run_folder(given: Path) -> Path:
    """*given*, if it is a run folder. Raises `JournalError` that names the one that may have been meant."""
    if (given / JOURNAL).is_file():
        return given
    if given.name == JOURNAL and given.is_file():
        raise JournalError(f"{given} is the journal of a run folder: give the folder, {given.parent}")
    beside = given.parent / f"{given.stem}.d3run"
    if beside != given and (beside / JOURNAL).is_file():
        what = "is a job file" if given.is_file() else "is no run folder"
        raise JournalError(f"{given} {what}; its run folder is {beside}")
    if not given.exists():
        raise JournalError(f"There is no {given}{_instead(given.parent)}")
    if given.is_file():
        raise JournalError(f"{given} is a file, and has no run folder yet: d3async run {given}")
    raise JournalError(f"{given} is no run folder: it has no {JOURNAL}{_instead(given)}")


def _instead(place: Path) -> str:
    found = sorted(path.parent for path in place.glob(f"*/{JOURNAL}"))[:3] if place.is_dir() else []
    if not found:
        return "; `d3async run FILE` makes a run folder, FILE.d3run"
    return f"; here are {', '.join(str(path) for path in found)}" if len(found) > 1 else f"; here is {found[0]}"


F = TypeVar("F", bound="Callable[..., Any]")


def fleet_option(function: F) -> F:
    """Add `--fleet`; *function* gets it as *fleet*, None where it was not given: see `fleet_address`."""
    return click.option("--fleet", metavar="URL", help="The fleet's PostgreSQL (D3_FLEET_URL, D3_FLEET_URL_FILE).")(
        function
    )


def run_or_folder(target: Path, option: str | None) -> Path | FleetRunName:
    """The run folder, or the run of the fleet, that *target* names. Raises `SettingsError` and `JournalError`."""
    address = fleet_meant(target, option)
    if address is None:
        return run_folder(target)
    from d3async.operations.settle import FleetRunName  # noqa: PLC0415 - `--help` need not load it

    with installed():
        return FleetRunName(address.conninfo, str(target))


_MANY, _FLAG = {"multiple": True}, {"is_flag": True}
_OPTIONS: tuple[tuple[str, dict[str, Any], str | None, str], ...] = (
    ("command", {}, "NAME", "CreateTask or RemoveLinkedIncidents.  [default: by the header]"),
    ("set", _MANY, "'COLUMN=VALUE'", "For cells that are empty or missing."),
    ("map", _MANY, "'THEIRS=OURS'", "A header of the file = our column; = nothing leaves it alone."),
    ("id_column", {}, "NAME", "Your own key for a row: tells rows apart on re-runs."),
    ("date_format", {}, "FMT", "How Due Date is written, like 'dd/MM/yyyy HH:mm'."),
    ("time_zone", {}, "ZONE", "The zone Due Date is written in, like Europe/Paris."),
    ("server_time_zone", {}, "ZONE", "The zone D3 takes Due Date in."),
    ("encoding", {}, "NAME", "Of a text file.  [default: detected]"),
    ("delimiter", {}, "CHAR", "Between cells; 'tab' too.  [default: detected]"),
    ("sheet", {}, "NAME", "Of a workbook.  [default: the first]"),
    ("format", {"type": click.Choice(["csv", "jsonl", "xlsx"])}, None, "[default: by the file's ending]"),
    ("where", _MANY, "'COL=VALUE'", "Only rows like that; the rest stays unsent."),
    ("limit", {"type": click.IntRange(min=1)}, "N", "Only the first N rows; the rest stays unsent."),
    ("skip_invalid", _FLAG, None, "Send the valid rows although others are invalid."),
    ("allow_duplicates", _FLAG, None, "Identical CreateTask rows are meant."),
)
_FIELDS = {"set": "values", "map": "names"}


def job_file_options(function: F) -> F:
    """Add the options; *function* gets them together as *job_file*, a `JobFileOptions`."""

    @functools.wraps(function)
    def gathered(**arguments: Any) -> Any:
        from d3async.operations.mapping import JobFileOptions  # noqa: PLC0415 - `--help` need not load it

        given = {_FIELDS.get(name, name): arguments.pop(_FIELDS.get(name, name)) for name, *_ in _OPTIONS}
        return function(job_file=JobFileOptions(**given), **arguments)

    decorated: Any = gathered
    for name, how, metavar, text in reversed(_OPTIONS):
        flag = f"--{name.replace('_', '-')}"
        decorated = click.option(flag, _FIELDS.get(name, name), metavar=metavar, help=text, **how)(decorated)
    return decorated  # type: ignore[no-any-return]


def save_mapping_option(function: F) -> F:
    """Add `--save-mapping`."""
    text = "Keep what is typed of --map, --set, dates, --id-column and the file's form in the profile."
    return click.option("--save-mapping", is_flag=True, help=text)(function)


class _LinesType(click.ParamType[Lines]):
    name = "lines"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, Lines):
            return value
        try:
            return parse_lines([value])
        except ValueError as error:
            self.fail(str(error), param, ctx)


def allow_similar_option(function: F) -> F:
    """Add `--allow-similar`."""
    text = "New rows on these lines are meant, although they look like rows sent before."
    return click.option(
        "--allow-similar", type=_LinesType(), default=Lines(), show_default=False, metavar="LINES|all", help=text
    )(function)


def link_options(function: F) -> F:
    """How requests about one incident go together, for commands that send."""
    merged = click.option(
        "--max-links-per-call",
        type=click.IntRange(min=1),
        default=50,
        show_default=True,
        metavar="N",
        help="Links of one source that one request carries at most; 1 turns merging off.",
    )
    text = "Never two requests at once about one incident."
    return merged(click.option("--serial-by", type=click.Choice(["incident"]), help=text)(function))


class Duration(click.ParamType[float]):
    """Seconds, as a float."""

    name = "duration"

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> float:
        """Read *value*, or fail as click fails."""
        from d3async.config.setting_fields import seconds  # noqa: PLC0415 - `--help` need not load the settings

        try:
            number = seconds(value)
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)
        if number < 0:
            self.fail(f"{value!r} is below 0", param, ctx)
        return number


DURATION = Duration()


_FILE = click.Path(path_type=Path)
_SETTINGS: tuple[tuple[str, Any, str, str], ...] = (
    ("profile", str, "NAME", "A profile of config.toml (D3_PROFILE)."),
    ("config", _FILE, "FILE", "The config file (D3_CONFIG)."),
    ("base_url", str, "URL", "Up to and including the site path (D3_BASE_URL)."),
    ("username", str, "NAME", "Who it is done as (D3_USERNAME)."),
    ("site", str, "NAME", "The D3 site (D3_SITE)."),
    ("rate", str, "N|auto", "Requests a second, the ceiling (D3_RATE).  [default: 50]"),
    ("concurrency", click.IntRange(min=1), "N", "Requests in flight at most (D3_CONCURRENCY).  [default: 32]"),
    ("timeout", DURATION, "D", "One attempt, at most (D3_TIMEOUT).  [default: 60s]"),
    ("max_attempts", click.IntRange(min=1), "N", "Attempts a request (D3_MAX_ATTEMPTS).  [default: 4]"),
    ("max_wait", DURATION, "D", "Longest pause D3 may ask for (D3_MAX_WAIT).  [default: 5m]"),
    ("max_outage", DURATION, "D", "How long D3 may be away before the run stops (D3_MAX_OUTAGE).  [default: 15m]"),
    ("api_key_header", str, "NAME", "The header a key travels in (D3_API_KEY_HEADER).  [default: d3key]"),
    ("api_key_file", _FILE, "FILE", "A file that holds the key; it comes before every variable."),
    ("jwt_file", _FILE, "FILE", "A file that holds a ready token."),
    ("jwt_secret_file", _FILE, "FILE", "A file that holds the secret to sign tokens with."),
    ("jwt_lifetime", DURATION, "D", "How long a token signed here is good (D3_JWT_LIFETIME).  [default: no end]"),
    ("ca_bundle", _FILE, "FILE", "An authority to trust beside the system's (D3_CA_BUNDLE)."),
    ("client_cert", _FILE, "FILE", "Our certificate, PEM (D3_CLIENT_CERT)."),
    ("client_key", _FILE, "FILE", "Its key, when it is not in the same file (D3_CLIENT_KEY)."),
    ("limit_url_file", _FILE, "FILE", "Holds the URL of a PostgreSQL that shares the limit with other machines."),
    ("share_limit", bool, "", "Keep one limit together with your other runs (D3_SHARE_LIMIT).  [default: yes]"),
)


def settings_options(function: F) -> F:
    """Add the options; *function* gets them together as *options*, None where one was not given."""

    @functools.wraps(function)
    def gathered(**arguments: Any) -> Any:
        options = {name: arguments.pop(name) for name, *_ in _SETTINGS}
        return function(options=options, **arguments)

    decorated: Any = gathered
    for name, kind, metavar, text in reversed(_SETTINGS):
        option = f"--{name.replace('_', '-')}"
        if kind is bool:
            decorated = click.option(f"{option}/--no-{option[2:]}", name, default=None, help=text)(decorated)
        else:
            decorated = click.option(option, name, type=kind, metavar=metavar, help=text)(decorated)
    return decorated  # type: ignore[no-any-return]


def settings_from(options: Mapping[str, Any], *, needs: Sequence[str] = ()) -> Settings:
    """The settings of this call, with a usable key for each command of *needs*.

    Where a key is all that is missing and a user sits at the terminal, it is asked for and kept for this call only.
    Raises SettingsError.
    """
    return servers_from(options).own(needs)


def servers_from(options: Mapping[str, Any]) -> Servers:
    """The D3 servers of this call; a missing key is asked for where a user sits at the terminal."""
    from d3async.operations.server_settings import Servers  # noqa: PLC0415 - `--help` need not load the settings

    return Servers(options, ask_keys=_ask_for if is_interactive() else None)


def _ask_for(commands: Sequence[str]) -> Mapping[str, object]:
    from d3async.config.credentials import Secret  # noqa: PLC0415 - as above

    return {command: Secret(click.prompt(f"Key for {command}", hide_input=True, err=True)) for command in commands}


class _HaltRule(click.ParamType[halt_and_exit_codes.Halt]):
    name = "rule"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> halt_and_exit_codes.Halt:
        if isinstance(value, halt_and_exit_codes.Halt):
            return value
        try:
            return halt_and_exit_codes.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def halt_option(function: F) -> F:
    """Add `--halt`; *function* gets the rules as *halts*, as they were given: see `halt.with_default`."""
    text = "failed=3%, failed=20, unknown=5."
    return click.option("--halt", "halts", type=_HaltRule(), multiple=True, metavar="RULE", help=text)(function)
