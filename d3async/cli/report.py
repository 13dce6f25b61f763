"""`d3async report DIR`: report.html again."""

from __future__ import annotations

from pathlib import Path

import click

from d3async.cli.console import say
from d3async.cli.fleet_option import fleet_option, meant, opened
from d3async.cli.folders import run_folder


@click.command("report")
@click.argument("target", metavar="DIR|RUN", type=click.Path(path_type=Path))
@fleet_option
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="[default: in DIR; RUN.report.html]"
)
def command(target: Path, fleet: str | None, output: Path | None) -> int:
    """Write report.html of a run folder, or of a RUN of a fleet: one page, for any browser, without network."""
    address = meant(target, fleet)
    if address is None and output is None:
        from d3async.files.write import write_report  # noqa: PLC0415 - `--help` need not load it

        say(str(write_report(run_folder(target))))
        return 0
    from d3async.files.aside import aside, write_lines  # noqa: PLC0415 - as above
    from d3async.files.report import report_html  # noqa: PLC0415 - as above

    path = output or Path(f"{target}.report.html")
    with opened(target, address) as reader, aside(path) as file:
        write_lines(file, report_html(reader))
    say(str(path))
    return 0
