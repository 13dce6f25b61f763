"""Group commit: writes asked for while one group is being stored make up the next, in the order they were asked for."""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from d3async.errors import D3Error, JournalError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from d3async.journal.base import Event, RowOutcome, Settlement
    from d3async.journal.store import Store
    from d3async.sansio.call import Call

_PAUSE = 0.5
T = TypeVar("T")


class GroupJournal:
    """`Journal` over a `Store`: one thread, one transaction a group; a group with a claim is on disk before it returns.

    When the disk refuses, a group without claims is tried again every half second for *patience* seconds.
    """

    def __init__(self, db: sqlite3.Connection, store: Store, *, patience: float = 30.0) -> None:
        self._db = db
        self._store = store
        self._patience = patience
        self._waiting: list[tuple[Callable[[], Any], asyncio.Future[Any], bool]] = []
        self._writer: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="d3async-journal")
        self.failure: JournalError | None = None

    async def lanes(self, after: int, most: int) -> Sequence[tuple[int, Call | None]]:
        """See `Journal.lanes`."""
        return await self._ask(lambda: self._store.lanes(after, most))

    async def take(self, lane: int, most: int) -> Call | None:
        """See `Journal.take`."""
        return await self._ask(lambda: self._store.take(lane, most))

    async def claim(self, call: Call, at: float) -> None:
        """See `Journal.claim`."""
        await self._ask(lambda: self._store.claim(call, at), durable=True)

    def release(self, call: Call, *, sent: bool) -> None:
        """See `Journal.release`."""
        self._ask(lambda: self._store.release(call, sent=sent))

    def settle(self, settlement: Settlement) -> asyncio.Future[list[RowOutcome]]:
        """See `Journal.settle`."""
        return self._ask(lambda: self._store.settle(settlement))

    def note(self, event: Event) -> None:
        """See `Journal.note`."""
        self._ask(lambda: self._store.note(event))

    async def flush(self) -> None:
        """See `Journal.flush`; raises `JournalError` when something could not be stored."""
        while self._writer is not None:
            await asyncio.shield(self._writer)
        if self.failure is not None:
            raise self.failure

    async def aclose(self) -> None:
        """Store what is left and end the thread; the connection stays open."""
        try:
            await self.flush()
        finally:
            self._thread.shutdown()

    def _ask(self, work: Callable[[], T], *, durable: bool = False) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_look_at)
        self._waiting.append((work, future, durable))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        return future

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                group, self._waiting = self._waiting, []
                results = await self._stored(loop, group)
                for (_, future, _), result in zip(group, results, strict=True):
                    _resolve(future, result)
        finally:
            self._writer = None

    async def _stored(self, loop: asyncio.AbstractEventLoop, group: Sequence[tuple[Any, Any, bool]]) -> list[Any]:
        durable = any(claim for _, _, claim in group)
        deadline = loop.time() + self._patience
        while True:
            try:
                return await loop.run_in_executor(self._thread, self._transact, [work for work, _, _ in group], durable)
            except sqlite3.Error as error:
                failure = JournalError(f"The journal cannot be written: {error}.", code="journal")
                failure.__cause__ = error
            if durable or loop.time() >= deadline:
                # a claim is never waited for: without it nothing is sent; outcomes beside it are stored on their own
                return await self._one_by_one(loop, group, failure) if durable and len(group) > 1 else [failure]
            await asyncio.sleep(_PAUSE)

    async def _one_by_one(
        self, loop: asyncio.AbstractEventLoop, group: Sequence[tuple[Any, Any, bool]], failure: JournalError
    ) -> list[Any]:
        self.failure = failure
        rest = [entry for entry in group if not entry[2]]
        stored = iter(await self._stored(loop, rest) if rest else [])
        return [failure if claim else next(stored, failure) for _, _, claim in group]

    def _transact(self, works: Sequence[Callable[[], Any]], durable: bool) -> list[Any]:  # noqa: FBT001 - a thread's arguments are positional
        """Run *works* in one transaction. A work that raises is undone alone; what the others did stands."""
        self._db.execute(f"pragma synchronous = {'full' if durable else 'normal'}")
        self._db.execute("begin immediate")
        try:
            self._store.guard()
            results = [self._attempt(work) for work in works]
            self._db.execute("commit")
        except D3Error as error:
            self._rollback()
            return [error] * len(works)
        except BaseException:
            self._rollback()
            raise
        return results

    def _attempt(self, work: Callable[[], Any]) -> Any:
        self._db.execute("savepoint work")
        try:
            result = work()
        except D3Error as error:
            self._db.execute("rollback to work")
            result = error
        self._db.execute("release work")
        return result

    def _rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("rollback")


def _resolve(future: asyncio.Future[Any], result: Any) -> None:
    if future.done():
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)


def _look_at(future: asyncio.Future[Any]) -> None:
    """Nobody may be waiting for a note or a release: its failure is kept in `failure`, not warned about."""
    if not future.cancelled():
        future.exception()
