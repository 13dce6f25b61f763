"""`d3async cancel RUN --fleet URL`: no further row of a run is sent."""

from __future__ import annotations

import click

from d3async.cli.console import is_interactive, say
from d3async.cli.fleet_option import fleet_address, fleet_option, fleet_words
from d3async.cli.result_text import counts_words
from d3async.fleet.address import installed
from d3async.sansio.exit_code import OK


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
    if forget and not yes and not _agreed(run):
        raise click.UsageError("--forget takes away what is known of a run; to confirm it, add --yes")
    address = fleet_address(fleet)
    with installed():
        from d3async.operations import fleet_control  # noqa: PLC0415 - `--help` need not load it

        result = fleet_control.cancel(address, run, wait=wait)
        ending = "" if result.is_over else "; what is in flight is still to end"
        say(f"{run} is stopped: {counts_words(result.outcomes)}{ending}")
        if forget:
            say(f"forgotten: {fleet_control.forget(address, run):,} rows")
            return OK
    where = fleet_words(fleet, address)
    say(f"results   d3async results {run}{where} -o {run}.results.csv")
    return OK


def _agreed(run: str) -> bool:
    if not is_interactive():
        return False
    return click.confirm(f"Forget everything about {run}, its results too?", err=True)
