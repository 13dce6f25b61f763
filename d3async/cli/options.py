"""The options about job files that `run` and `check` share, and the one way from a file to its jobs."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from d3async.sansio.look_alikes import Lines, parse_lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path

    from d3async.cli.examined import Examined
    from d3async.cli.mapping import Kept
    from d3async.files.inputs import Inputs
    from d3async.sansio.shape import Route

F = TypeVar("F", bound="Callable[..., Any]")

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


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFileOptions:
    """The options as given. *values* is `--set`, *names* is `--map`; *kept* is what a profile says beside them."""

    command: str | None = None
    values: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    id_column: str | None = None
    date_format: str | None = None
    time_zone: str | None = None
    server_time_zone: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    sheet: str | None = None
    format: str | None = None
    where: tuple[str, ...] = ()
    limit: int | None = None
    skip_invalid: bool = False
    allow_duplicates: bool = False
    kept: Kept | None = None


def job_file_options(function: F) -> F:
    """Add the options; *function* gets them together as *job_file*, a `JobFileOptions`."""

    @functools.wraps(function)
    def gathered(**arguments: Any) -> Any:
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


def examine(
    file: Path,
    options: JobFileOptions,
    *,
    site: str,
    now: datetime,
    need_site: bool = False,
    route: Route | None = None,
    feedback_of: Inputs | None = None,
) -> AbstractContextManager[Examined]:
    """See `d3async.cli.examined.opened`."""
    from d3async.cli.examined import opened  # noqa: PLC0415 - `--help` need not load what reads files

    return opened(file, options, site=site, now=now, need_site=need_site, route=route, feedback_of=feedback_of)
