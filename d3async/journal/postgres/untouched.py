"""Chunks nobody has opened yet: their rows stand in no `d3async_job`, and are put there before they are worked on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg import AsyncConnection, Connection

HAS_WORK = """(c.untouched or exists (
    select from d3async_job j where j.run = c.run and j.lane between c.lo and c.hi and j.todo))"""
"""Whether rows of the chunk `c` are to be sent."""
ROWS = "(select run, sum(rows) as rows from d3async_chunk where untouched group by run) u"
"""How many rows of each run are pending and to be sent though no `d3async_job` tells of them."""
# whoever comes second waits for the chunk and finds it touched
_LAY = """
with opened as (
    update d3async_chunk set untouched = false where run = %(run)s and untouched {} returning run, lo, hi
)
insert into d3async_job(run, id, lane, todo, state)
select run, row, row, true, 'pending' from opened, generate_series(lo, hi) row"""
_CHUNK = _LAY.format("and chunk = %(chunk)s").encode()
_RUN = _LAY.format("").encode()


async def lay_chunk(db: AsyncConnection[Any], run: int, chunk: int) -> None:
    """Put the rows of *chunk* into `d3async_job` unless they are there. Inside the transaction that needs them."""
    await db.execute(_CHUNK, {"run": run, "chunk": chunk})


def lay_run(db: Connection[Any], run: int) -> None:
    """`lay_chunk` for every chunk of *run*."""
    db.execute(_RUN, {"run": run})
