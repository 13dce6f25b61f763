"""`d3async results DIR`: the files of a run folder again, or a selection of its rows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from d3async.cli.console import say
from d3async.cli.fleet_option import fleet_option, run_or_folder
from d3async.cli.folders import quiet_stdout
from d3async.fleet.address import installed
from d3async.sansio.outcome import OUTCOMES

if TYPE_CHECKING:
    from click import Context, Parameter

    from d3async.operations.settle import FleetRun

_FORMATS = ("csv", "jsonl", "json")
_PIPE = 141


def _chosen(ctx: Context, param: Parameter, given: tuple[str, ...]) -> tuple[str, ...]:  # noqa: ARG001 - click's signature
    names = dict.fromkeys(name.strip().casefold() for text in given for name in text.split(","))
    for name in names:
        if name not in OUTCOMES:
            raise click.BadParameter(f"{name!r} is none of {', '.join(OUTCOMES)}")
    return tuple(names)


@click.command("results")
@click.argument("target", metavar="DIR|RUN", type=click.Path(path_type=Path))
@fleet_option
@click.option("--format", "form", type=click.Choice(_FORMATS), help="Default: the input's, or that of -o FILE.")
@click.option(
    "--outcome", "outcomes", multiple=True, metavar="LIST", callback=_chosen, help="Only rows of these: failed,unknown"
)
@click.option("-o", "--output", metavar="FILE", help="Write there instead; - is stdout.")
def command(target: Path, fleet: str | None, form: str | None, outcomes: tuple[str, ...], output: str | None) -> int:
    """Write the results of a run folder again from its journal.

    Without --outcome and -o, every file of the folder. A selection by --outcome goes to stdout unless -o says where:
    results.csv in the folder always has every row. Those of a RUN of a fleet go to stdout unless -o says where.

    \b
    Examples:
      d3async results tasks.d3run
      d3async results tasks.d3run --outcome failed,unknown
      d3async results tasks.d3run --format jsonl -o - | jq .message
      d3async results vsoc --fleet postgresql://fleet@db.example.com/fleet -o vsoc.results.csv
    """  # noqa: D301 - the \\b is click's mark for lines that are not re-flowed
    place = run_or_folder(target, fleet)
    if isinstance(place, Path) and output is None and not outcomes:
        return _write_again(place, form)
    with installed():
        return _write_selection(place, form, outcomes, output or "-")


def _write_again(folder: Path, form: str | None) -> int:
    from d3async.cli.result_text import left_lines  # noqa: PLC0415 - `--help` need not load it
    from d3async.operations.results import write_again  # noqa: PLC0415 - as above

    written = write_again(folder, format=form)
    for path in (written.results, written.items, written.failed, written.unknown, written.report):
        if path is not None:
            say(str(path))
    for line in left_lines(written):
        say(line)
    return 0


def _write_selection(place: Path | FleetRun, form: str | None, outcomes: tuple[str, ...], output: str) -> int:
    from d3async.operations.results import write_selection, write_selection_to  # noqa: PLC0415 - as above

    form = form or _by_ending(output)
    if output != "-":
        write_selection_to(place, Path(output), form=form, outcomes=outcomes)
        say(output)
        return 0
    if write_selection(place, sys.stdout.buffer, form=form, outcomes=outcomes):
        return 0
    quiet_stdout()
    return _PIPE


def _by_ending(output: str) -> str | None:
    ending = Path(output).suffix[1:].casefold()
    return ending if ending in _FORMATS else None
