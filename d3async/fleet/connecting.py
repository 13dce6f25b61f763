"""A connection to the fleet's database, for a command that asks a few questions."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from d3async.errors import JournalError
from d3async.journal.postgres import schema

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from d3async.fleet.address import Address


@asynccontextmanager
async def connected(address: Address) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """Each statement holds at once. Raises `JournalError` where the database cannot be reached, or is no fleet's."""
    try:
        connection = await psycopg.AsyncConnection.connect(address.conninfo, autocommit=True)
    except psycopg.OperationalError as error:
        raise unreachable(address, error) from None
    async with connection:
        await schema.check(connection)
        yield connection


@contextmanager
def connected_now(address: Address) -> Iterator[psycopg.Connection[Any]]:
    """The same, blocking."""
    try:
        connection = psycopg.connect(address.conninfo, autocommit=True)
    except psycopg.OperationalError as error:
        raise unreachable(address, error) from None
    with connection:
        schema.check_now(connection)
        yield connection


def unreachable(address: Address, error: BaseException) -> JournalError:
    """What is said of a database that does not answer."""
    reason = address.mask(" ".join(str(error).split()))
    return JournalError(f"The fleet's database {address} cannot be reached: {reason}", code="fleet")
