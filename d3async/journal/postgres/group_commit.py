"""Group commit of a worker: what its chunks ask for at once is one transaction. A chunk as the engine's journal."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from d3async.errors import D3Error, FencedError, JournalError
from d3async.journal.postgres import chunk_owners, row_claims
from d3async.journal.postgres.chunk_owners import (
    ChunkRequest,
    Claim,
    Lanes,
    NoteEvent,
    Release,
    Settle,
    Take,
    write_rounds,
)
from d3async.journal.postgres.connections import escape
from d3async.journal.postgres.schema import check

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from typing import Self

    from psycopg import AsyncConnection

    from d3async.d3.call import Call
    from d3async.journal.model import CallResult, Event, RowOutcome
    from d3async.journal.postgres.chunk_owners import ChunkOwner, RequestBody

    Results = dict[ChunkRequest, object]
    Statement = Callable[[AsyncConnection[Any], Sequence[ChunkRequest]], Awaitable[list[object]]]

_PAUSE = 0.5
_PATIENCE = 10.0
"""Seconds a statement may take, a connection to come, and a transaction of a frozen process to hold what it locked."""
_TRANSIENT = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.ReadOnlySqlTransaction, OSError)
_SAFE = (
    # row by row through an index, whatever the planner thinks of tables that were empty a moment ago: plans are kept
    "select set_config('idle_in_transaction_session_timeout', %s, false), set_config('enable_seqscan', 'off', false),"
    " set_config('enable_hashjoin', 'off', false), set_config('enable_mergejoin', 'off', false),"
    " case current_setting('synchronous_commit') when 'off' then set_config('synchronous_commit', 'on', false) end"
)
_CONNECTION: dict[str, Any] = {
    "application_name": "d3async journal", "connect_timeout": int(_PATIENCE / 2), "keepalives_idle": 10,
    "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": int(1000 * _PATIENCE),
}  # fmt: skip
_NOTES = b"""
insert into d3async_event(run, round, at, kind, seconds, note)
select * from unnest(%s::int[], %s::int[], %s::float8[], %s::text[], %s::float8[], %s::text[])"""
T = TypeVar("T")


class _Broken(Exception):  # noqa: N818 - never leaves this room
    """A group could not be stored. *results* once the commit was asked for: then it may have been all the same."""

    def __init__(self, error: BaseException, results: Results | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.results = results


class Writer:
    """One connection for every chunk a process works on: what they ask for at once is one transaction.

    A context manager. *conninfo* is a URL or what libpq takes. Claims fail as soon as the database does not answer;
    everything else is held in memory and tried again until it is stored, for *patience* seconds (None: as long as the
    process lives). Whether a group was stored whose connection broke is read back before anything is done again.
    """

    def __init__(self, conninfo: str, *, patience: float | None = None, wall: Callable[[], float] = time.time) -> None:
        self.wall = wall
        self._conninfo = conninfo
        self._patience = patience
        self._id = secrets.randbits(62)
        self._pid = os.getpid()
        self._db: AsyncConnection[Any] | None = None
        self._number = 0
        self._waiting: list[ChunkRequest] = []
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._down: JournalError | None = None

    async def __aenter__(self) -> Self:
        try:
            await self.alone(check)
        except BaseException:
            await self._disconnect()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._task is not None:
            await asyncio.shield(self._task)
        if self._db is not None:
            with suppress(*_TRANSIENT):
                await self._db.execute("delete from d3async_writer where id = %s", (self._id,))
            await self._disconnect()

    def ask(self, wish: ChunkRequest) -> None:
        """Do what *wish* asks for, together with whatever else is asked for by then."""
        self._waiting.append(wish)
        if self._task is None:
            self._task = asyncio.create_task(self._write(), name="d3async-journal")

    async def alone(self, work: Callable[[AsyncConnection[Any]], Awaitable[T]]) -> T:
        """Do *work* in a transaction of its own. Raises `JournalError` at once when the database does not answer."""
        if self._down is not None:
            raise self._down
        async with self._turn:
            try:
                async with asyncio.timeout(3 * _PATIENCE):
                    db = await self._connected()
                    async with db.transaction():
                        return await work(db)
            except (*_TRANSIENT, TimeoutError) as error:
                await self._disconnect()
                raise _unwritable(error) from error

    async def _write(self) -> None:
        try:
            while self._waiting:
                async with self._turn:
                    group, self._waiting = self._waiting, []
                    await self._store(group)
        finally:
            self._task = None

    async def _store(self, group: Sequence[ChunkRequest]) -> None:
        """Store *group* and tell each wish what became of it; no wish is ever left without a word."""
        loop = asyncio.get_running_loop()
        deadline = None if self._patience is None else loop.time() + self._patience
        self._number += 1
        held: Results | None = None
        while group or held is not None:
            try:
                if held is not None and await self._was_stored():
                    self._make_good(held)
                else:
                    held = None
                    _answer(await self._transact(group) if group else {})
                break
            except _Broken as broken:
                held = held if broken.results is None else broken.results
                self._down = _unwritable(broken.error)
                group = self._give_up_claims(group)
                if deadline is not None and loop.time() >= deadline:
                    _answer(dict.fromkeys(group, self._down))
                    return
                await asyncio.sleep(_PAUSE)
            except Exception as error:  # noqa: BLE001 - a defect of ours, or a text the database does not take
                await self._disconnect()
                await self._one_by_one(group, error)
                break
        self._down = None

    def _give_up_claims(self, group: Sequence[ChunkRequest]) -> list[ChunkRequest]:
        """Fail whatever is not to wait for the database; what is left of *group*."""
        given_up = [wish for wish in (*group, *self._waiting) if wish.at_once]
        _answer(dict.fromkeys(given_up, self._down))
        self._waiting = [wish for wish in self._waiting if not wish.at_once]
        return [wish for wish in group if not wish.at_once]

    def _make_good(self, held: Results) -> None:
        """The group was stored after all: tell it, and take back the claims that were given up meanwhile."""
        for wish, result in held.items():
            if isinstance(wish.work, Claim) and wish.done.done() and result is None:
                self.ask(wish.undone())
        _answer(held)

    async def _one_by_one(self, group: Sequence[ChunkRequest], error: Exception) -> None:
        """Nobody is to suffer for what another one asked for."""
        if len(group) == 1:
            _answer({group[0]: _unwritable(error) if isinstance(error, psycopg.Error) else error})
            return
        for wish in group:
            await self._store([wish])

    async def _transact(self, group: Sequence[ChunkRequest]) -> Results:
        results: Results | None = None
        try:
            async with asyncio.timeout(_PATIENCE):
                db = await self._connected()
                await db.execute("begin")
                done = await self._do(db, group)
                results = done
                await db.execute("commit")
        except (*_TRANSIENT, TimeoutError) as error:
            await self._disconnect()
            raise _Broken(error, results) from error
        return done

    async def _do(self, db: AsyncConnection[Any], group: Sequence[ChunkRequest]) -> Results:
        lost = await chunk_owners.fenced_owners(
            db, {wish.owner for wish in group}, writer=self._id, number=self._number
        )
        results: Results = {}
        for one in write_rounds(group):
            for kind, items, statement in _WRITES:
                results |= await _written(db, one.of(kind, items=items), lost, statement)
            results |= await _noted(db, [wish for wish in one.writes if isinstance(wish.work, NoteEvent)])
            for wish in one.reads:
                results[wish] = _refusal(wish, lost.get(wish.owner)) or await _found(db, wish)
        return results

    async def _was_stored(self) -> bool:
        """Whether the last group was; waits for a connection of ours that the server has not given up yet."""
        try:
            async with asyncio.timeout(_PATIENCE):
                db = await self._connected()
                asked = "select written from d3async_writer where id = %s for update"
                found = await (await db.execute(asked, (self._id,))).fetchone()
        except (*_TRANSIENT, TimeoutError) as error:
            await self._disconnect()
            raise _Broken(error, None) from error
        return found is not None and bool(found[0] >= self._number)

    async def _connected(self) -> AsyncConnection[Any]:
        if os.getpid() != self._pid:
            raise FencedError("This is a copy of the d3async that works on the chunk; it sends nothing.", code="fenced")
        if self._db is None or self._db.closed:
            self._db = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True, **_CONNECTION)
            await self._db.execute(_SAFE, (f"{_PATIENCE:.0f}s",))
        return self._db

    async def _disconnect(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            await db.close()


_WRITES: Sequence[tuple[type[RequestBody], bool, Statement]] = (
    (Settle, False, row_claims.record_rows),
    (Settle, True, row_claims.record_links),
    (Release, False, row_claims.release_rows),
    (Release, True, row_claims.release_links),
    (Claim, False, row_claims.claim_rows),
    (Claim, True, row_claims.claim_links),
)


async def _written(
    db: AsyncConnection[Any],
    wishes: Sequence[ChunkRequest],
    lost: Mapping[ChunkOwner, FencedError],
    statement: Statement,
) -> Results:
    refusals = {wish: _refusal(wish, lost.get(wish.owner)) for wish in wishes}
    results: Results = {wish: refusal for wish, refusal in refusals.items() if refusal is not None}
    ours = [wish for wish in wishes if wish not in results]
    if ours:
        for wish, result in zip(ours, await statement(db, ours), strict=True):
            late = wish.owner in lost and isinstance(result, D3Error)
            results[wish] = lost[wish.owner] if late else result
    return results


def _refusal(wish: ChunkRequest, lost: FencedError | None) -> FencedError | None:
    """A former owner may store outcomes of rows that are untouched since; one that was stopped, how they ended."""
    if lost is None or isinstance(wish.work, NoteEvent):
        return None
    if lost.code == "cancelled":
        return lost if wish.at_once else None
    late = isinstance(wish.work, Settle | Release) and not wish.work.call.items
    return None if late else lost


async def _found(db: AsyncConnection[Any], wish: ChunkRequest) -> object:
    match wish.work:
        case Lanes():
            return await row_claims.lanes(db, wish.owner, wish.work)
        case Take():
            return await row_claims.take(db, wish.owner, wish.work)
        case _:
            raise TypeError(wish)


async def _noted(db: AsyncConnection[Any], wishes: Sequence[ChunkRequest]) -> Results:
    rows = [
        (wish.owner.run, wish.owner.round, note.at, note.kind, note.seconds, escape(note.note))
        for wish in wishes
        if isinstance(wish.work, NoteEvent)
        for note in [wish.work.event]
    ]
    if rows:
        await db.execute(_NOTES, [list(column) for column in zip(*rows, strict=True)])
    return dict.fromkeys(wishes)


def _answer(results: Mapping[ChunkRequest, object]) -> None:
    for wish, result in results.items():
        if wish.done.done():
            continue
        if isinstance(result, BaseException):
            wish.done.set_exception(result)
            # the caller may have been cancelled meanwhile: a failure that no caller waits for is no warning
            wish.done.exception()
        else:
            wish.done.set_result(result)


def _unwritable(error: BaseException) -> JournalError:
    said = " ".join(str(error).split()) or type(error).__name__
    return JournalError(f"The journal cannot be written: {said}.", code="journal")


class PostgresJournal:
    """`journal.protocols.Journal` over one chunk. *rows* are to be sent as it was opened; 0 where nothing is left."""

    def __init__(self, writer: Writer, owner: ChunkOwner, rows: int) -> None:
        self.run = owner.run
        self.chunk = owner.chunk
        self.epoch = owner.epoch
        self.serial = owner.serial
        self.rows = rows
        self.failure: BaseException | None = None
        """The first write that was lost."""
        self._writer = writer
        self._owner = owner
        self._under_way: set[asyncio.Future[Any]] = set()

    async def lanes(self, after: int, most: int) -> Sequence[tuple[int, Call | None]]:
        """See `Journal.lanes`."""
        found: Sequence[tuple[int, Call | None]] = await self._ask(Lanes(after, most))
        return found

    async def take(self, lane: int, most: int) -> Call | None:
        """See `Journal.take`."""
        found: Call | None = await self._ask(Take(lane, most))
        return found

    async def claim(self, call: Call, at: float) -> None:
        """See `Journal.claim`."""
        future = self._ask(Claim(call, at))
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(lambda done: None if done.exception() else self.release(call, sent=False))
            raise

    def release(self, call: Call, *, sent: bool) -> None:
        """See `Journal.release`."""
        self._ask(Release(call, sent), told=True)

    def settle(self, settlement: CallResult) -> asyncio.Future[list[RowOutcome]]:
        """See `Journal.settle`."""
        return self._ask(Settle(settlement), told=True)

    def note(self, event: Event) -> None:
        """See `Journal.note`."""
        self._ask(NoteEvent(event), told=True)

    async def flush(self) -> None:
        """See `Journal.flush`; raises what the first write that was lost ran into."""
        while self._under_way:
            await asyncio.wait(self._under_way)
            # what was stored last has been answered, but no caller has been called back yet
            await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure

    async def aclose(self) -> int:
        """Store what is left and give the chunk up; how many of its rows are still to be sent.

        Raises the first write that was lost. A former owner gives nothing up and raises nothing for it.
        """
        with suppress(FencedError):
            await self.flush()
        return await self._writer.alone(lambda db: chunk_owners.close_as(db, self._owner, now=self._writer.wall()))

    def _ask(self, work: RequestBody, *, told: bool = False) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._under_way.add(future)
        future.add_done_callback(self._told if told else self._under_way.discard)
        self._writer.ask(ChunkRequest(self._owner, work, future))
        return future

    def _told(self, future: asyncio.Future[Any]) -> None:
        self._under_way.discard(future)
        if not future.cancelled() and self.failure is None:
            self.failure = future.exception()


async def open_chunk(
    writer: Writer,
    run: int,
    chunk: int,
    *,
    round: int,  # noqa: A002 - the word of the schema
    who: str,
    now: float,
) -> PostgresJournal:
    """Become the owner of *chunk*, as *who* (told to people: pid, host): whoever had it before is fenced.

    What that one left `sent` is `unknown` from now on; where twice is the same as once it is still to be sent.
    Raises `FencedError`: `superseded` when the run was submitted again since *round* or is gone, `cancelled`; and
    `JournalError` at once when the database does not answer.
    """
    owner, rows = await writer.alone(lambda db: chunk_owners.open_as(db, run, chunk, round, who=who, now=now))
    return PostgresJournal(writer, owner, rows)
