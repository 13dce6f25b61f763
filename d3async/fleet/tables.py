"""The tables of the fleet's journal and of its queue, made where they are missing and brought up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import AsyncConnection

from d3async.fleet import queue
from d3async.fleet.connecting import translated
from d3async.journal.postgres.migrations import migrate

if TYPE_CHECKING:
    from d3async.fleet.address import Address


async def prepare(address: Address) -> None:
    """Make the tables, or bring older ones up to date.

    Raises `JournalError` where the database cannot be reached or used.
    """
    with translated(address):
        async with await AsyncConnection.connect(address.conninfo) as connection:
            await migrate(connection)
            await queue.install(connection)
