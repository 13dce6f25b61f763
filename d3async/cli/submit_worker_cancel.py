"""`d3async submit FILE… --fleet URL`: job files into the fleet's database, for workers to send."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from d3async.cli.fleet_option import fleet_option
from d3async.cli.halt_option import halt_option
from d3async.cli.jobfile import allow_similar_option, job_file_options, link_options

if TYPE_CHECKING:
    from d3async.cli.jobfile import JobFileOptions


@click.command("submit")
@click.argument("files", metavar="FILE…", nargs=-1, required=True, type=click.Path(path_type=Path))
@fleet_option
@job_file_options
@click.option("--profile", metavar="NAME", help="The tenant.  [default: a profile column, else the file's name]")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="The config file (D3_CONFIG).")
@click.option("--run", "name", metavar="NAME", help="What the run of one FILE is called.  [default: the file's name]")
@link_options
@halt_option
@click.option("--mark-tasks", is_flag=True, help="Add a short reference to each description, for reconcile to find.")
@click.option("--retry-unknown", is_flag=True, help="Send unknown rows again: they may then exist twice.")
@allow_similar_option
@click.option("--take-over", is_flag=True, help="Do so although a worker is sending the run: it is stopped.")
@click.option(
    "--chunk-rows", type=click.IntRange(min=250), default=2000, show_default=True, help="What a worker takes at a time."
)
@click.option("--processes", type=click.IntRange(min=1), metavar="N", help="That read files.  [default: one a core]")
@click.option("--dry-run", is_flag=True, help="Check everything, say what would be submitted.")
@click.option("--json", "as_json", is_flag=True, help="What was submitted as one JSON object on stdout.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(files: tuple[Path, ...], fleet: str | None, job_file: JobFileOptions, **given: Any) -> int:
    """Check FILEs as `run` does and put them into the fleet's database; `d3async worker` sends them.

    Each FILE is a run, called as the file is without its ending, for one tenant: a profile of config.toml, which is
    called as the file is unless --profile or a `profile` column says which. If a row of any FILE is invalid nothing
    is submitted; nor if a new row looks like one that was sent before, or is about to be, for the same tenant.
    Submitting a FILE again is as safe as running it again: what is done is not sent again.

    \b
    Examples:
      d3async submit sites/*.csv --fleet postgresql://fleet@db.example.com/fleet
      d3async submit tasks.csv --profile vsoc --run night-2027-03-01
    Exit codes: 0 submitted · 2 usage, settings or look-alikes · 3 invalid rows, nothing submitted · 130 interrupted
    """  # noqa: D301 - the \\b is click's mark for lines that are not re-flowed
    from d3async.cli.submitting import Options, submit  # noqa: PLC0415 - `--help` need not load what reads files

    return submit(files, fleet, job_file, Options(**given))
