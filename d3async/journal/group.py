"""Group commit: writes asked for while one group is being stored make up the next, in the order they were asked for."""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from d3async.errors import D3Error, JournalError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from d3async.journal.base import Event, RowOutcome, Settlement
    from d3async.journal.store import Store
    from d3async.sansio.call import Call

_PAUSE = 0.5
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Wish:
    """One write asked for. *claim*: it is to be on disk before anything is sent, or not to be."""

    work: Callable[[], Any]
    done: asyncio.Future[Any]
    claim: bool


class GroupJournal:
    """`Journal` over a `Store`: one thread, one transaction a group; a group with a claim is on disk before it returns.

    When the disk refuses, claims fail at once, for without them nothing is sent; everything else is tried again
    every half second for *patience* seconds. *failure* is the first write that was lost.
    """

    def __init__(self, db: sqlite3.Connection, store: Store, *, patience: float = 30.0) -> None:
        self._db = db
        self._store = store
        self._patience = patience
        self._waiting: list[_Wish] = []
        self._writer: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="d3async-journal")
        self.failure: BaseException | None = None

    async def lanes(self, after: int, most: int) -> Sequence[tuple[int, Call | None]]:
        """See `Journal.lanes`."""
        return await self._ask(lambda: self._store.lanes(after, most))

    async def take(self, lane: int, most: int) -> Call | None:
        """See `Journal.take`."""
        return await self._ask(lambda: self._store.take(lane, most))

    async def claim(self, call: Call, at: float) -> None:
        """See `Journal.claim`."""
        await self._ask(lambda: self._store.claim(call, at), claim=True)

    def release(self, call: Call, *, sent: bool) -> None:
        """See `Journal.release`."""
        self._told(self._ask(lambda: self._store.release(call, sent=sent)))

    def settle(self, settlement: Settlement) -> asyncio.Future[list[RowOutcome]]:
        """See `Journal.settle`."""
        return self._told(self._ask(lambda: self._store.settle(settlement)))

    def note(self, event: Event) -> None:
        """See `Journal.note`."""
        self._told(self._ask(lambda: self._store.note(event)))

    async def flush(self) -> None:
        """See `Journal.flush`; raises what the first write that was lost ran into."""
        while self._writer is not None:
            await asyncio.shield(self._writer)
        if self.failure is not None:
            raise self.failure

    async def aclose(self) -> None:
        """Store what is left and end the thread; the connection stays open. Raises as `flush` does."""
        try:
            await self.flush()
        finally:
            self._thread.shutdown()

    def _told(self, future: asyncio.Future[T]) -> asyncio.Future[T]:
        """Nobody need wait for *future*: its failure is kept."""
        future.add_done_callback(self._look_at)
        return future

    def _look_at(self, future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            return
        self.failure = self.failure or future.exception()

    def _ask(self, work: Callable[[], T], *, claim: bool = False) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_seen)
        self._waiting.append(_Wish(work, future, claim))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write(), name="d3async-journal")
        return future

    async def _write(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting, []
                await self._store_group(group)
        finally:
            self._writer = None

    async def _store_group(self, group: Sequence[_Wish]) -> None:
        """Store *group* and tell each wish what became of it; no wish is ever left without a word."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience
        while group:
            failure = await self._try(loop, group)
            if failure is None:
                return
            claims = [wish for wish in (*group, *self._waiting) if wish.claim]
            _answer(claims, [failure] * len(claims))
            self._waiting = [wish for wish in self._waiting if not wish.claim]
            group = [wish for wish in group if not wish.claim]
            if claims:
                continue
            if self.failure is not None or loop.time() >= deadline:
                _answer(group, [failure] * len(group))
                return
            await asyncio.sleep(_PAUSE)

    async def _try(self, loop: asyncio.AbstractEventLoop, group: Sequence[_Wish]) -> JournalError | None:
        durable = any(wish.claim for wish in group)
        try:
            works = [wish.work for wish in group]
            results = await loop.run_in_executor(self._thread, lambda: self._transact(works, durable=durable))
        except sqlite3.Error as error:
            failure = JournalError(f"The journal cannot be written: {error}.", code="journal")
            failure.__cause__ = error
            return failure
        except Exception as error:  # noqa: BLE001 - a defect of ours; it is raised wherever a wish is waited for
            _answer(group, [error] * len(group))
            return None
        _answer(group, results)
        return None

    def _transact(self, works: Sequence[Callable[[], Any]], *, durable: bool) -> list[Any]:
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


def _seen(future: asyncio.Future[Any]) -> None:
    """Whoever asked may have been cancelled meanwhile: a failure nobody waits for is no warning."""
    if not future.cancelled():
        future.exception()


def _answer(wishes: Sequence[_Wish], results: Sequence[Any]) -> None:
    for wish, result in zip(wishes, results, strict=True):
        if wish.done.done():
            continue
        if isinstance(result, BaseException):
            wish.done.set_exception(result)
        else:
            wish.done.set_result(result)
