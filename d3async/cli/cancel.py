"""`d3async cancel RUN --fleet URL`: no further row of a run is sent."""

from __future__ import annotations

import sys

import click

from d3async.cli.fleet_option import fleet_option


@click.command("cancel")
@click.argument("run", metavar="RUN")
@fleet_option
@click.option("--wait/--no-wait", default=True, help="Until what is in flight has ended.  [default: wait]")
@click.option("--forget", is_flag=True, help="And take it out of the database, with everything that is known of it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(run: str, *, fleet: str | None, wait: bool, forget: bool, yes: bool) -> int:
    """Stop RUN: start no further row of it. What is in flight ends; what was not sent stays unsent.

    Submitting its file again takes it up where it stopped. Of a run that is forgotten nothing is known any more:
    submitting its file again sends every row again.
    """
    from d3async.cli.cancelling import cancel  # noqa: PLC0415 - `--help` need not load psycopg

    if forget and not yes and not _agreed(run):
        raise click.UsageError("--forget takes away what is known of a run; to confirm it, add --yes")
    return cancel(run, fleet, wait=wait, forget=forget)


def _agreed(run: str) -> bool:
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    return click.confirm(f"Forget everything about {run}, its results too?", err=True)
