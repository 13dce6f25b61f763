"""`d3async cancel RUN --fleet URL`: no further row of a run is sent."""

from __future__ import annotations

import click

from d3async.cli.fleet_option import fleet_option


@click.command("cancel")
@click.argument("run", metavar="RUN")
@fleet_option
@click.option("--wait/--no-wait", default=True, help="Until what is in flight has ended.  [default: wait]")
def command(run: str, *, fleet: str | None, wait: bool) -> int:
    """Stop RUN: start no further row of it. What is in flight ends; what was not sent stays unsent.

    Submitting its file again takes it up where it stopped.
    """
    from d3async.cli.cancelling import cancel  # noqa: PLC0415 - `--help` need not load psycopg

    return cancel(run, fleet, wait=wait)
