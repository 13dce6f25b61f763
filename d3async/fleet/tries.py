"""How often a chunk was taken in vain: kept beside the queue, so that nothing that kills workers goes on for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from psycopg import AsyncConnection

_COUNT = """
insert into d3async_queue.d3async_try as t (run, round, chunk, tries, code, message) values (%s, %s, %s, 1, %s, %s)
on conflict (run, round, chunk) do update set tries = t.tries + 1, code = excluded.code, message = excluded.message
returning tries, (select (b.code, b.message) from d3async_queue.d3async_try b
    where b.run = t.run and b.round = t.round and b.chunk = t.chunk)"""
"""The inner question is answered as the table was before."""
_RESET = "delete from d3async_queue.d3async_try where run = %s and round = %s and chunk = %s"
_TOLD = """
insert into d3async_queue.d3async_try as t (run, round, chunk, tries, code, message) values (%s, %s, %s, %s, %s, %s)
on conflict (run, round, chunk) do update
    set tries = excluded.tries, code = excluded.code, message = excluded.message"""


class Tried(NamedTuple):
    """*tries* in a row, this one counted; *code* and *message* of what the one before ran into."""

    tries: int
    code: str
    message: str


LOST = ("crashed", "the worker was lost")
"""What a try ran into that told nothing: written down before it begins."""


class Place(NamedTuple):
    """A chunk: its run, the round of that run, its number."""

    run: int
    round: int
    chunk: int


async def begun(connection: AsyncConnection[Any], at: Place) -> Tried:
    """Count a try at the chunk; what is known of those before it."""
    cursor = await connection.execute(_COUNT, (*at, *LOST))
    tries, before = await cursor.fetchone() or (1, None)
    return Tried(tries, *(before or ("", "")))


async def forget(connection: AsyncConnection[Any], at: Place) -> None:
    """The chunk was given back in order, or is somebody else's."""
    await connection.execute(_RESET, at)


async def done(connection: AsyncConnection[Any], at: Place) -> None:
    """The chunk has no more work: it need not be looked at again."""
    await note(connection, at, 0, "done", "")


async def note(connection: AsyncConnection[Any], at: Place, tries: int, code: str, message: str) -> None:
    """Note how often in a row the chunk has been tried, and what the last try ran into."""
    await connection.execute(_TOLD, (*at, tries, code, message))


async def forget_tries(connection: AsyncConnection[Any], run: int) -> None:
    """Forget what *run* ran into."""
    await connection.execute("delete from d3async_queue.d3async_try where run = %s", (run,))
