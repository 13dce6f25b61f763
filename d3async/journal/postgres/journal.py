"""One chunk of a run as the engine's journal."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from d3async.errors import FencedError
from d3async.journal.postgres import owners
from d3async.journal.postgres.wishes import Claim, Lanes, Note, Release, Settle, Take, Wish
from d3async.journal.postgres.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from d3async.journal.base import Event, RowOutcome, Settlement
    from d3async.journal.postgres.wishes import Owner, Work
    from d3async.sansio.call import Call

__all__ = ["PostgresJournal", "Writer", "open_chunk"]


class PostgresJournal:
    """`journal.base.Journal` over one chunk. *rows* are to be sent as it was opened; 0 where nothing is left."""

    def __init__(self, writer: Writer, owner: Owner, rows: int) -> None:
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

    def settle(self, settlement: Settlement) -> asyncio.Future[list[RowOutcome]]:
        """See `Journal.settle`."""
        return self._ask(Settle(settlement), told=True)

    def note(self, event: Event) -> None:
        """See `Journal.note`."""
        self._ask(Note(event), told=True)

    async def flush(self) -> None:
        """See `Journal.flush`; raises what the first write that was lost ran into."""
        while self._under_way:
            await asyncio.wait(self._under_way)
            # what was stored last has been answered, but nobody has been called back yet
            await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure

    async def aclose(self) -> int:
        """Store what is left and give the chunk up; how many of its rows are still to be sent.

        Raises the first write that was lost. A former owner gives nothing up and raises nothing for it.
        """
        with suppress(FencedError):
            await self.flush()
        return await self._writer.alone(lambda db: owners.close_as(db, self._owner, now=self._writer.wall()))

    def _ask(self, work: Work, *, told: bool = False) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._under_way.add(future)
        future.add_done_callback(self._told if told else self._under_way.discard)
        self._writer.ask(Wish(self._owner, work, future))
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
    owner, rows = await writer.alone(lambda db: owners.open_as(db, run, chunk, round, who=who, now=now))
    return PostgresJournal(writer, owner, rows)
