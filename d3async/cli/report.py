"""`d3async report DIR`: report.html again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from d3async.cli.console import say
from d3async.cli.folders import folder_argument, run_folder

if TYPE_CHECKING:
    from pathlib import Path


@click.command("report")
@folder_argument
def command(folder: Path) -> int:
    """Write report.html of a run folder again from its journal: one page, for any browser, without network."""
    from d3async.files.write import write_report  # noqa: PLC0415 - `--help` need not load it

    say(str(write_report(run_folder(folder))))
    return 0
