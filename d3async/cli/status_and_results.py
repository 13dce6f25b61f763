"""`d3async status`, `results` and `report`: what a run folder says, and its files written again."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from d3async.cli.console import clean, out, quiet_stdout, say
from d3async.cli.options import fleet_option, run_folder, run_or_folder
from d3async.config.database_urls import fleet_meant, fleet_words, installed
from d3async.policy.halt_and_exit_codes import OK

if TYPE_CHECKING:
    from collections.abc import Iterable

    from click import Context, Parameter

    from d3async.config.database_urls import FleetUrl
    from d3async.operations.settle import FleetRunName

_FORMATS = ("csv", "jsonl", "json")
_PIPE = 141


def _chosen(ctx: Context, param: Parameter, given: tuple[str, ...]) -> tuple[str, ...]:  # noqa: ARG001 - click's signature
    from d3async.policy.outcome import OUTCOMES  # noqa: PLC0415 - `--help` need not load it

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
def results_command(
    target: Path, fleet: str | None, form: str | None, outcomes: tuple[str, ...], output: str | None
) -> int:
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
    from d3async.files.run_files import write_again  # noqa: PLC0415 - as above

    written = write_again(folder, format=form)
    for path in (written.results, written.items, written.failed, written.unknown, written.report):
        if path is not None:
            say(str(path))
    for line in left_lines(written):
        say(line)
    return 0


def _write_selection(place: Path | FleetRunName, form: str | None, outcomes: tuple[str, ...], output: str) -> int:
    from d3async.operations.status import write_selection, write_selection_to  # noqa: PLC0415 - as above

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


@click.command("status")
@click.argument("target", metavar="DIR|RUN", required=False, type=click.Path(path_type=Path))
@fleet_option
@click.option("--json", "as_json", is_flag=True, help="The same as one JSON object.")
def status_command(target: Path | None, *, fleet: str | None, as_json: bool) -> int:
    """Say what a run folder holds: counts, what went wrong, who runs it now, what to type next.

    Of a fleet: every run and worker, or RUN alone. Works while the run goes on.
    """
    address = fleet_meant(target, fleet)
    if address is not None:
        return _fleet(address, str(target) if target else None, fleet_words(fleet, address), as_json=as_json)
    if target is None:
        raise click.UsageError("Missing argument 'DIR', or a fleet: --fleet URL, D3_FLEET_URL")
    return _folder(run_folder(target), as_json=as_json)


def _folder(folder: Path, *, as_json: bool) -> int:
    from d3async.cli.result_text import folder_lines  # noqa: PLC0415 - not for `--help`
    from d3async.operations.status import folder_json, folder_status  # noqa: PLC0415 - as above

    found = folder_status(folder, now=time.time())
    return _show(folder_json(found)) if as_json else _print(folder_lines(found))


def _fleet(address: FleetUrl, name: str | None, where: str, *, as_json: bool) -> int:
    from d3async.cli.result_text import fleet_lines, run_lines  # noqa: PLC0415 - not for `--help`
    from d3async.operations.status import fleet_json, fleet_status, run_json  # noqa: PLC0415 - as above

    now = time.time()
    with installed():
        found = fleet_status(address, name, now=now, where=where.split())
    at = found.fleet
    if as_json:
        return _show(fleet_json(at, address, now=now) if name is None else run_json(at.runs[0], at))
    return _print(fleet_lines(at, address) if name is None else run_lines(found, where))


def _show(found: dict[str, Any]) -> int:
    out(json.dumps(found, ensure_ascii=False))
    return OK


def _print(lines: Iterable[str]) -> int:
    for line in lines:
        out(clean(line))
    return OK


@click.command("report")
@click.argument("target", metavar="DIR|RUN", type=click.Path(path_type=Path))
@fleet_option
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="[default: in DIR; RUN.report.html]"
)
def report_command(target: Path, fleet: str | None, output: Path | None) -> int:
    """Write report.html of a run folder, or of a RUN of a fleet: one page, for any browser, without network."""
    from d3async.files.run_files import write_report  # noqa: PLC0415 - `--help` need not load it
    from d3async.operations.status import write_report_to  # noqa: PLC0415 - `--help` need not load it

    place = run_or_folder(target, fleet)
    if isinstance(place, Path) and output is None:
        say(str(write_report(place)))
        return 0
    path = output or Path(f"{target}.report.html")
    with installed():
        write_report_to(place, path)
    say(str(path))
    return 0
