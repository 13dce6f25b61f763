"""A connection to the fleet's database, for a command that asks a few questions."""

from __future__ import annotations

import time
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
    with translated(address):
        async with await psycopg.AsyncConnection.connect(address.conninfo, autocommit=True) as connection:
            await schema.check(connection)
            yield connection


@contextmanager
def connected_now(address: Address) -> Iterator[psycopg.Connection[Any]]:
    """The same, blocking."""
    with translated(address), psycopg.connect(address.conninfo, autocommit=True) as connection:
        schema.check_now(connection)
        yield connection


@contextmanager
def translated(address: Address) -> Iterator[None]:
    """A block whose database errors become a `JournalError` in words, without the password."""
    try:
        yield
    except psycopg.OperationalError as error:
        raise unreachable(address, error) from None
    except psycopg.Error as error:
        raise JournalError(f"The fleet's database {address} refuses: {_reason(address, error)}", code="fleet") from None


def unreachable(address: Address, error: BaseException) -> JournalError:
    """What is said of a database that does not answer."""
    return JournalError(f"The fleet's database {address} cannot be reached: {_reason(address, error)}", code="fleet")


def _reason(address: Address, error: BaseException) -> str:
    return address.mask(" ".join(str(error).split()))


def round_trip(address: Address) -> float:
    """Seconds that a question takes. Raises as `connected_now` does."""
    with connected_now(address) as connection:
        asked = time.monotonic()
        connection.execute("select 1").fetchone()
        return time.monotonic() - asked


def update_statistics(address: Address) -> None:
    """Let the database know how many rows there are now: until it does, `status` takes twice as long.

    A small sample will do until it takes a large one by itself. Raises as `connected_now` does.
    """
    with connected_now(address) as connection:
        connection.execute("set default_statistics_target = 10")
        connection.execute("analyze d3async_row(run, id), d3async_job(run, id, state, todo), d3async_chunk")
