"""`d3async report DIR`: report.html again."""

from __future__ import annotations

from pathlib import Path

import click

from d3async.cli.console import say
from d3async.cli.fleet_option import fleet_option, run_or_folder
from d3async.fleet.address import installed


@click.command("report")
@click.argument("target", metavar="DIR|RUN", type=click.Path(path_type=Path))
@fleet_option
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="[default: in DIR; RUN.report.html]"
)
def command(target: Path, fleet: str | None, output: Path | None) -> int:
    """Write report.html of a run folder, or of a RUN of a fleet: one page, for any browser, without network."""
    from d3async.operations.results import write_report, write_report_to  # noqa: PLC0415 - `--help` need not load it

    place = run_or_folder(target, fleet)
    if isinstance(place, Path) and output is None:
        say(str(write_report(place)))
        return 0
    path = output or Path(f"{target}.report.html")
    with installed():
        write_report_to(place, path)
    say(str(path))
    return 0
