"""One `cancel`: say so in the database, wait for what is in flight, tell what became of the rows."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from d3async.cli.console import say
from d3async.cli.ending import counts_words
from d3async.cli.fleet_option import fleet_address, fleet_words, installed
from d3async.sansio.exit_code import OK

if TYPE_CHECKING:
    from d3async.fleet.address import Address

_LOOK = 0.25
_PATIENCE = 60.0


def cancel(name: str, fleet: str | None, *, wait: bool, forget: bool = False) -> int:
    """Cancel the run *name*, and *forget* it. Raises `SettingsError` and `JournalError`."""
    address = fleet_address(fleet)
    with installed():
        outcomes, over = asyncio.run(_cancel(address, name, wait=wait))
    say(f"{name} is stopped: {counts_words(outcomes)}" + ("" if over else "; what is in flight is still to end"))
    if forget:
        with installed():
            rows = asyncio.run(_forget(address, name))
        say(f"forgotten: {rows:,} rows")
        return OK
    where = fleet_words(fleet, address)
    say(f"results   d3async results {name}{where} -o {name}.results.csv")
    return OK


async def _cancel(address: Address, name: str, *, wait: bool) -> tuple[dict[str, int], bool]:
    """The rows by outcome, and whether nothing of the run is in flight any more."""
    from d3async.fleet import rows  # noqa: PLC0415 - psycopg, for those who have a fleet
    from d3async.fleet.connecting import connected  # noqa: PLC0415 - as above
    from d3async.journal.postgres import runs  # noqa: PLC0415 - as above

    async with connected(address) as connection:
        run = await runs.find(connection, name)
        await runs.cancel(connection, run.id, now=time.time())
        until = time.monotonic() + (_PATIENCE if wait else 0.0)
        while not (over := await rows.at_rest(connection, run.id)) and time.monotonic() < until:  # noqa: ASYNC110 - the event is in the database
            await asyncio.sleep(_LOOK)
        if over:
            await rows.finish_if_over(connection, run.id, now=time.time())
        [at] = await runs.overview(connection, [name])
        return dict(at.outcomes), over


async def _forget(address: Address, name: str) -> int:
    """How many rows the run had."""
    from d3async.fleet.connecting import connected  # noqa: PLC0415 - as above
    from d3async.journal.postgres import runs  # noqa: PLC0415 - as above

    async with connected(address) as connection:
        run = await runs.find(connection, name)
        await connection.execute("delete from d3async_queue.d3async_try where run = %s", (run.id,))
        return await runs.drop(connection, run.id)
