"""`d3async run FILE`: bring D3 to what the file says; safe to repeat."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from d3async.cli.durations import DURATION
from d3async.cli.halt_option import halt_option
from d3async.cli.jobfile import allow_similar_option, job_file_options, link_options, save_mapping_option
from d3async.cli.settings_options import settings_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from d3async.cli.jobfile import JobFileOptions


@click.command("run")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="The run folder.")
@job_file_options
@settings_options
@save_mapping_option
@link_options
@halt_option
@allow_similar_option
@click.option(
    "--drain-timeout",
    type=DURATION,
    default="30s",
    show_default=True,
    metavar="D",
    help="How long requests in flight may take after Ctrl-C.",
)
@click.option("--mark-tasks", is_flag=True, help="Add a short reference to each description, for reconcile to find.")
@click.option("--verify", is_flag=True, help="Read the links back afterwards; those still there are failed.")
@click.option("--retry-unknown", is_flag=True, help="Send unknown rows again: they may then exist twice.")
@click.option("--fresh", is_flag=True, help="A new run; the old run folder is moved aside. Its rows are sent again.")
@click.option("--continue", "continues", is_flag=True, help="Only if the run folder is there already.")
@click.option("--dry-run", is_flag=True, help="Print the requests; send nothing.")
@click.option(
    "--progress", type=click.Choice(["auto", "bar", "plain", "json", "none"]), default="auto", show_default=True
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but the last lines.")
@click.option("-v", "--verbose", is_flag=True, help="Log every attempt.")
@click.option("--json", "as_json", is_flag=True, help="The summary, and nothing else, on stdout.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(file: Path, job_file: JobFileOptions, options: Mapping[str, Any], **given: Any) -> int:
    """Bring D3 to what FILE says: create its tasks, remove its links. `-` reads stdin.

    Safe to repeat: rows that are done are never sent again, rows nobody knows about are never sent again by
    themselves. After a crash, a Ctrl-C, an expired key or a mended row, run it again.

    A column `profile` sends each row to the D3 of that profile of config.toml, all at the same time, each with its own
    keys and its own limit; a D3 that fails ends its own rows and nobody else's.

    \b
    Exit codes: 0 every row ok · 1 some failed · 2 usage or settings · 3 invalid rows, nothing sent ·
    4 some unknown · 5 stopped early · 6 D3 asked for too long a pause · 130/143 interrupted
    """  # noqa: D301 - the \\b is click's mark for lines that are not re-flowed
    from d3async.cli.run_terminal import RunTerminal, show_result  # noqa: PLC0415 - as above
    from d3async.cli.rundown import RunOptions, run  # noqa: PLC0415 - `--help` need not load the engine
    from d3async.cli.servers import Servers  # noqa: PLC0415 - as above
    from d3async.program import collect_rarely, signals  # noqa: PLC0415 - as above

    as_json = given.pop("as_json")
    terminal = RunTerminal(progress=given.pop("progress"), quiet=given.pop("quiet"), yes=given.pop("yes"))
    collect_rarely()
    result = run(file, job_file, Servers(options), RunOptions(**given), terminal, stops=signals)
    show_result(result, as_json=as_json)
    return result.exit_code
