"""Who has a chunk: taking it over from whoever had it, checking that it is still ours, giving it up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from d3async.commands import all_commands
from d3async.errors import FencedError, JournalError
from d3async.journal.postgres.untouched import lay_chunk
from d3async.journal.postgres.wishes import Owner

if TYPE_CHECKING:
    from collections.abc import Collection

    from psycopg import AsyncConnection

_TAKE = b"""
update d3async_run set epoch = epoch + 1 where id = %s and round = %s and cancelled_at is null
returning epoch, serial"""
_OPEN = b"""
update d3async_chunk set epoch = %s, who = %s, since = %s, closed_at = null
where run = %s and chunk = %s and round = %s and not stopped returning lo, hi"""
_LEFT = """
select j.id from d3async_job j where j.run = %(run)s and j.lane between %(lo)s and %(hi)s and j.state = 'sent'"""
# done first, while the rows can still be told by their state
_ITEMS = f"""
update d3async_item t set state = 'unknown', maybe = true, code = 'interrupted', message = 'No answer was recorded.'
where t.run = %(run)s and t.state = 'sent' and t.job in ({_LEFT})""".encode()
_ROWS = b"""
update d3async_job j set state = 'unknown', maybe = true, code = 'interrupted', done_at = null,
    todo = r.command = any(%(repeatable)s),
    message = 'The run ended after sending and before an answer was recorded.'
from d3async_row r where r.run = j.run and r.id = j.id
    and j.run = %(run)s and j.lane between %(lo)s and %(hi)s and j.state = 'sent'"""
_TODO = b"""
select count(*) from d3async_job where run = %(run)s and lane between %(lo)s and %(hi)s and todo"""
_CHECK = b"""
with mine as (
    insert into d3async_writer values (%(writer)s, %(number)s, extract(epoch from now()))
    on conflict (id) do update set written = excluded.written, since = excluded.since
)
select c.run, c.chunk, c.epoch, c.stopped from unnest(%(runs)s::int[], %(chunks)s::int[]) w(run, chunk)
join d3async_chunk c on c.run = w.run and c.chunk = w.chunk order by c.run, c.chunk for no key update of c"""
_CLOSE = b"""
update d3async_chunk set who = null, since = null, closed_at = %s where run = %s and chunk = %s and epoch = %s"""


async def open_as(
    db: AsyncConnection[Any], run: int, chunk: int, round_: int, *, who: str, now: float
) -> tuple[Owner, int]:
    """The new owner of a chunk, and how many rows it has to send; see `journal.open_chunk`. Inside a transaction."""
    found = await (await db.execute(_TAKE, (run, round_))).fetchone()
    if found is None:
        raise await _no_more(db, run)
    epoch, serial = found
    bounds = await (await db.execute(_OPEN, (epoch, who, now, run, chunk, round_))).fetchone()
    if bounds is None:
        raise JournalError(f"Run {run} has no chunk {chunk}.", code="no_run")
    lo, hi = bounds
    owner = Owner(run, chunk, epoch, round_, lo, hi, serial)
    await lay_chunk(db, run, chunk)
    await settle_leftovers(db, owner)
    return owner, await left(db, owner)


async def settle_leftovers(db: AsyncConnection[Any], owner: Owner) -> None:
    """What is `sent` in the chunk is unknown from now on; what may be sent twice is still to be sent."""
    repeatable = [name for name, command in all_commands().items() if command.repeatable]
    about = {"run": owner.run, "lo": owner.lo, "hi": owner.hi, "repeatable": repeatable}
    await db.execute(_ITEMS, about)
    await db.execute(_ROWS, about)


async def left(db: AsyncConnection[Any], owner: Owner) -> int:
    """How many rows of the chunk are to be sent."""
    found = await (await db.execute(_TODO, {"run": owner.run, "lo": owner.lo, "hi": owner.hi})).fetchone()
    return int(found[0]) if found else 0


async def lost_by(
    db: AsyncConnection[Any], owners: Collection[Owner], *, writer: int, number: int
) -> dict[Owner, FencedError]:
    """Those of *owners* whose chunk somebody else has or that were told to stop; the others hold it until the commit.

    Notes that *writer* stores its group *number* in this transaction.
    """
    places = sorted({(owner.run, owner.chunk) for owner in owners})
    about = {"writer": writer, "number": number, "runs": [run for run, _ in places], "chunks": [at for _, at in places]}
    found = {(run, chunk): now for run, chunk, *now in await (await db.execute(_CHECK, about)).fetchall()}
    lost = {}
    for owner in owners:
        epoch, stopped = found.get((owner.run, owner.chunk), (None, False))
        if epoch != owner.epoch:
            lost[owner] = FencedError("Another worker has taken this chunk over; this one stops.", code="fenced")
        elif stopped:
            lost[owner] = FencedError("The run was cancelled.", code="cancelled")
    return lost


async def close_as(db: AsyncConnection[Any], owner: Owner, *, now: float) -> int:
    """Give the chunk up if it is still ours; how many of its rows are to be sent. Inside a transaction."""
    given = await db.execute(_CLOSE, (now, owner.run, owner.chunk, owner.epoch))
    if given.rowcount:
        await settle_leftovers(db, owner)
    return await left(db, owner)


async def _no_more(db: AsyncConnection[Any], run: int) -> FencedError:
    found = await (await db.execute("select cancelled_at from d3async_run where id = %s", (run,))).fetchone()
    if found is not None and found[0] is not None:
        return FencedError(f"Run {run} was cancelled.", code="cancelled")
    return FencedError(f"Run {run} was submitted again since, or is gone.", code="superseded")
