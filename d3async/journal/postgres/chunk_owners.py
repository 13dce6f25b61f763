"""Who has a chunk: taken over, checked, given up, tried in vain; chunks not opened yet; what a writer can be asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from d3async.d3.commands import all_commands
from d3async.errors import FencedError, JournalError

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Collection, Hashable, Iterable, Sequence

    from psycopg import AsyncConnection, Connection

    from d3async.d3.call import Call
    from d3async.journal.model import CallResult, Event

HAS_WORK = """(c.untouched or exists (
    select from d3async_job j where j.run = c.run and j.lane between c.lo and c.hi and j.todo))"""
"""Whether rows of the chunk `c` are to be sent."""
ROWS = "(select run, sum(rows) as rows from d3async_chunk where untouched group by run) u"
"""How many rows of each run are pending and to be sent though they have no `d3async_job`."""
# the second worker waits for the chunk and finds it touched
_LAY = """
with opened as (
    update d3async_chunk set untouched = false where run = %(run)s and untouched {} returning run, lo, hi
)
insert into d3async_job(run, id, lane, todo, state)
select run, row, row, true, 'pending' from opened, generate_series(lo, hi) row"""
_CHUNK = _LAY.format("and chunk = %(chunk)s").encode()
_RUN = _LAY.format("").encode()


async def create_job_rows(db: AsyncConnection[Any], run: int, chunk: int) -> None:
    """Put the rows of *chunk* into `d3async_job` unless they are there. Inside the transaction that needs them."""
    await db.execute(_CHUNK, {"run": run, "chunk": chunk})


def create_job_rows_of_run(db: Connection[Any], run: int) -> None:
    """`lay_chunk` for every chunk of *run*."""
    db.execute(_RUN, {"run": run})


class ChunkOwner(NamedTuple):
    """Whoever has a chunk open, and what the chunk is: see `schema`, table chunk."""

    run: int
    chunk: int
    epoch: int
    round: int
    lo: int
    hi: int
    serial: bool


@dataclass(slots=True, eq=False)
class Claim:
    """A call to mark as sent at *at*, seconds since 1970."""

    call: Call
    at: float


@dataclass(slots=True, eq=False)
class Release:
    """A mark to take back; *sent* as in `Log.release`."""

    call: Call
    sent: bool


@dataclass(slots=True, eq=False)
class Settle:
    """A last word to record."""

    settlement: CallResult

    @property
    def call(self) -> Call:
        """The call it is about."""
        return self.settlement.call


@dataclass(slots=True, eq=False)
class NoteEvent:
    """An event to write down."""

    event: Event


@dataclass(slots=True, eq=False)
class Lanes:
    """See `Journal.lanes`."""

    after: int
    most: int


@dataclass(slots=True, eq=False)
class Take:
    """See `Journal.take`."""

    lane: int
    most: int


RequestBody = Claim | Release | Settle | NoteEvent | Lanes | Take


@dataclass(slots=True, eq=False)
class ChunkRequest:
    """Something asked for by *owner*."""

    owner: ChunkOwner
    work: RequestBody
    done: Future[Any]

    @property
    def at_once(self) -> bool:
        """Whether it fails when the database does not answer, rather than waits."""
        return isinstance(self.work, Claim | Lanes | Take)

    def undone(self) -> ChunkRequest:
        """What takes back the claim that this wish made and that was not used."""
        if not isinstance(self.work, Claim):
            raise TypeError(self.work)
        done = self.done.get_loop().create_future()
        return ChunkRequest(self.owner, Release(self.work.call, sent=False), done)


@dataclass(slots=True)
class WriteRound:
    """Writes that touch no row twice, and reads that are to see them."""

    writes: list[ChunkRequest] = field(default_factory=list)
    reads: list[ChunkRequest] = field(default_factory=list)

    def of(self, kind: type[RequestBody], *, items: bool) -> list[ChunkRequest]:
        """The writes of *kind* whose calls carry *items*, or do not."""
        return [wish for wish in self.writes if isinstance(wish.work, kind) and bool(_call(wish.work).items) is items]


def write_rounds(wishes: Iterable[ChunkRequest]) -> Sequence[WriteRound]:
    """*wishes* in as few rounds as keep the order of those about the same rows."""
    found: list[WriteRound] = []
    next_of: dict[Hashable, int] = {}
    after_all: dict[ChunkOwner, int] = {}
    for wish in wishes:
        reads = isinstance(wish.work, Lanes | Take)
        at = after_all.get(wish.owner, 0) if reads else next_of.get(_rows(wish), 0)
        while len(found) <= at:
            found.append(WriteRound())
        if reads:
            found[at].reads.append(wish)
            continue
        found[at].writes.append(wish)
        after_all[wish.owner] = max(at, after_all.get(wish.owner, 0))
        if not isinstance(wish.work, NoteEvent):
            next_of[_rows(wish)] = at + 1
    return found


def _rows(wish: ChunkRequest) -> Hashable:
    """What tells the rows a write touches from those of others: its row, or the source of its items."""
    if isinstance(wish.work, NoteEvent):
        return None
    call = _call(wish.work)
    return wish.owner.run, call.source if call.items else None, call.job


def _call(work: RequestBody) -> Call:
    if isinstance(work, Claim | Release | Settle):
        return work.call
    raise TypeError(work)


_TAKE = b"""
update d3async_run set epoch = epoch + 1 where id = %s and round = %s and cancelled_at is null
returning epoch, serial"""
_OPEN = b"""
update d3async_chunk set epoch = %s, who = %s, since = %s, closed_at = null
where run = %s and chunk = %s and round = %s and not stopped returning lo, hi"""
_LEFT = """
select j.id from d3async_job j where j.run = %(run)s and j.lane between %(lo)s and %(hi)s and j.state = 'sent'"""
# done first, while the rows can still be found by their state
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
) -> tuple[ChunkOwner, int]:
    """The new owner of a chunk, and how many rows it has to send; see `journal.open_chunk`. Inside a transaction."""
    found = await (await db.execute(_TAKE, (run, round_))).fetchone()
    if found is None:
        raise await _no_more(db, run)
    epoch, serial = found
    bounds = await (await db.execute(_OPEN, (epoch, who, now, run, chunk, round_))).fetchone()
    if bounds is None:
        raise JournalError(f"Run {run} has no chunk {chunk}.", code="no_run")
    lo, hi = bounds
    owner = ChunkOwner(run, chunk, epoch, round_, lo, hi, serial)
    await create_job_rows(db, run, chunk)
    await mark_interrupted(db, owner)
    return owner, await left(db, owner)


async def mark_interrupted(db: AsyncConnection[Any], owner: ChunkOwner) -> None:
    """What is `sent` in the chunk is unknown from now on; what may be sent twice is still to be sent."""
    repeatable = [name for name, command in all_commands().items() if command.repeatable]
    about = {"run": owner.run, "lo": owner.lo, "hi": owner.hi, "repeatable": repeatable}
    await db.execute(_ITEMS, about)
    await db.execute(_ROWS, about)


async def left(db: AsyncConnection[Any], owner: ChunkOwner) -> int:
    """How many rows of the chunk are to be sent."""
    found = await (await db.execute(_TODO, {"run": owner.run, "lo": owner.lo, "hi": owner.hi})).fetchone()
    return int(found[0]) if found else 0


async def fenced_owners(
    db: AsyncConnection[Any], owners: Collection[ChunkOwner], *, writer: int, number: int
) -> dict[ChunkOwner, FencedError]:
    """Those of *owners* whose chunk another worker has, or that were stopped; the others hold it until the commit.

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


async def close_as(db: AsyncConnection[Any], owner: ChunkOwner, *, now: float) -> int:
    """Give the chunk up if it is still ours; how many of its rows are to be sent. Inside a transaction."""
    given = await db.execute(_CLOSE, (now, owner.run, owner.chunk, owner.epoch))
    if given.rowcount:
        await mark_interrupted(db, owner)
    return await left(db, owner)


async def _no_more(db: AsyncConnection[Any], run: int) -> FencedError:
    found = await (await db.execute("select cancelled_at from d3async_run where id = %s", (run,))).fetchone()
    if found is not None and found[0] is not None:
        return FencedError(f"Run {run} was cancelled.", code="cancelled")
    return FencedError(f"Run {run} was submitted again since, or is gone.", code="superseded")


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


class ChunkTries(NamedTuple):
    """*tries* in a row, this one counted; *code* and *message* of what the one before ran into."""

    tries: int
    code: str
    message: str


LOST = ("crashed", "the worker was lost")
"""The error of a try that ended without one: written down before it begins."""


class ChunkId(NamedTuple):
    """A chunk: its run, the round of that run, its number."""

    run: int
    round: int
    chunk: int


async def begun(connection: AsyncConnection[Any], at: ChunkId) -> ChunkTries:
    """Count a try at the chunk; what is known of those before it."""
    cursor = await connection.execute(_COUNT, (*at, *LOST))
    tries, before = await cursor.fetchone() or (1, None)
    return ChunkTries(tries, *(before or ("", "")))


async def forget(connection: AsyncConnection[Any], at: ChunkId) -> None:
    """The chunk was given back in order, or another worker has it."""
    await connection.execute(_RESET, at)


async def done(connection: AsyncConnection[Any], at: ChunkId) -> None:
    """The chunk has no more work: it need not be looked at again."""
    await note(connection, at, 0, "done", "")


async def note(connection: AsyncConnection[Any], at: ChunkId, tries: int, code: str, message: str) -> None:
    """Note how often in a row the chunk has been tried, and what the last try ran into."""
    await connection.execute(_TOLD, (*at, tries, code, message))


async def forget_tries(connection: AsyncConnection[Any], run: int) -> None:
    """Forget what *run* ran into."""
    await connection.execute("delete from d3async_queue.d3async_try where run = %s", (run,))
