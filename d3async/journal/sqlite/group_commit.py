"""Group commit: writes asked for while one group is being stored make up the next."""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import TYPE_CHECKING, Any

from d3async.errors import D3Error, JournalError
from d3async.journal.lasting import Log
from d3async.journal.wishes import Kind, Wish, in_order, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from d3async.journal.base import Event, RowOutcome, Settlement
    from d3async.journal.store import Store
    from d3async.sansio.call import Call

_PAUSE = 0.5
_TURNS = 2
"""Turns of the loop for which a group waits for others: answers that are there by then make one group, not two."""
_PATIENCE_WITH_OTHERS = 10_000
"""Milliseconds for which another process may keep the journal locked."""


class GroupJournal:
    """`Journal` over a `Store`: one transaction a group; a group with a claim is on disk before it returns.

    A thread waits for a slow disk (*log*) and for other processes, and searches. What is left are statements of a few
    microseconds, which would spend more on handing the interpreter from thread to thread than on their work; so would
    waiting for a disk that was quick the last time.

    When the disk refuses, claims fail at once, for without them nothing is sent; everything else is tried again
    every half second for *patience* seconds. *failure* is the first write that was lost. *gone* says, before claims
    are stored, why the journal would be lost with all that it knows; then they fail too.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        store: Store,
        *,
        patience: float = 30.0,
        log: Log | None = None,
        gone: Callable[[], JournalError | None] | None = None,
    ) -> None:
        self._db = db
        self._store = store
        self._log = log or Log(db)
        self._patience = patience
        self._gone = gone
        self._waiting: list[Wish] = []
        self._loop = asyncio.get_running_loop()
        self._writer: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="d3async-journal")
        self._told = False
        self.failure: BaseException | None = None
        db.execute("pragma busy_timeout = 0")

    async def lanes(self, after: int, most: int, profile: str | None = None) -> Sequence[tuple[int, Call | None]]:
        """See `Store.lanes`."""
        asked = self._ask(Kind.SEARCH, lambda: self._store.lanes(after, most, profile))
        found: Sequence[tuple[int, Call | None]] = await asked
        return found

    async def take(self, lane: int, most: int) -> Call | None:
        """See `Journal.take`."""
        found: Call | None = await self._ask(Kind.SEARCH, lambda: self._store.take(lane, most))
        return found

    async def claim(self, call: Call, at: float) -> None:
        """See `Journal.claim`."""
        claimed = self._ask(Kind.CLAIM, (call, at))
        try:
            await claimed
        except asyncio.CancelledError:
            if claimed.done() and not claimed.cancelled() and claimed.exception() is None:
                self.release(call, sent=False)
            raise

    def release(self, call: Call, *, sent: bool) -> None:
        """See `Journal.release`."""
        self._ask(Kind.WORD, lambda: self._store.release(call, sent=sent))

    def settle(self, settlement: Settlement) -> asyncio.Future[list[RowOutcome]]:
        """See `Journal.settle`."""
        return self._ask(Kind.SETTLEMENT, settlement)

    def note(self, event: Event) -> None:
        """See `Journal.note`."""
        self._ask(Kind.WORD, lambda: self._store.note(event))

    async def flush(self) -> None:
        """See `Journal.flush`; raises what the first write that was lost ran into."""
        await self._written()
        self._told = True
        if self.failure is not None:
            raise self.failure

    async def aclose(self) -> None:
        """Store what is left and end the thread; the connection stays open. Raises what `flush` has not told yet."""
        try:
            await self._written()
        finally:
            self._thread.shutdown()
            self._log.close()
            self._db.execute(f"pragma busy_timeout = {_PATIENCE_WITH_OTHERS}")
        if self.failure is not None and not self._told:
            raise self.failure

    async def _written(self) -> None:
        while self._writer is not None:
            await asyncio.shield(self._writer)
        # what was stored last has been answered, but nobody has been called back yet
        await asyncio.sleep(0)

    def _ask(self, kind: Kind, what: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append(Wish(kind, what, future))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write(), name="d3async-journal")
        return future

    async def _write(self) -> None:
        try:
            while self._waiting:
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
                group, self._waiting = self._waiting, []
                await self._store_group(group)
        finally:
            self._writer = None

    async def _store_group(self, group: Sequence[Wish]) -> None:
        """Store *group* and tell each wish what became of it; no wish is ever left without a word."""
        deadline = self._loop.time() + self._patience
        while group:
            group = in_order(group)
            failure = await self._try(group)
            if failure is None:
                return
            claims = [wish for wish in (*group, *self._waiting) if wish.kind is Kind.CLAIM]
            self._answer(claims, [failure] * len(claims))
            self._waiting = [wish for wish in self._waiting if wish.kind is not Kind.CLAIM]
            group = [wish for wish in group if wish.kind is not Kind.CLAIM]
            if claims:
                continue
            if self.failure is not None or self._loop.time() >= deadline:
                self._answer(group, [failure] * len(group))
                return
            await asyncio.sleep(_PAUSE)

    async def _try(self, group: Sequence[Wish]) -> JournalError | None:
        kinds = {wish.kind for wish in group}
        results: Sequence[Any]
        if self._gone is not None and Kind.CLAIM in kinds and (failure := self._gone()) is not None:
            return failure
        try:
            if Kind.SEARCH in kinds or self._log.in_commit or not self._begun_at_once():
                results = await self._loop.run_in_executor(self._thread, self._transact, group)
            else:
                results = self._results(group)
                self._commit()
        except sqlite3.Error as error:
            return _not_written(error)
        except Exception as error:  # noqa: BLE001 - a defect of ours; it is raised wherever a wish is waited for
            self._answer(group, [error] * len(group))
            return None
        if Kind.CLAIM in kinds:
            results = await self._lasting(group, results)
        self._answer(group, results)
        return None

    async def _lasting(self, group: Sequence[Wish], results: Sequence[Any]) -> Sequence[Any]:
        """*results*, once they are on disk; where they cannot be brought there, no claim of *group* stands."""
        try:
            if self._log.quick:
                self._log.sync()
            else:
                await self._loop.run_in_executor(self._thread, self._log.sync)
        except OSError as error:
            claims = [wish.kind is Kind.CLAIM for wish in group]
            for wish, claim, result in zip(group, claims, results, strict=True):
                if claim and result is None:
                    self.release(wish.what[0], sent=False)
            failure = _not_written(error)
            return [failure if claim else result for claim, result in zip(claims, results, strict=True)]
        return results

    def _begun_at_once(self) -> bool:
        """Begin a transaction without waiting; whether another process let us."""
        try:
            self._db.execute("begin immediate")
        except sqlite3.OperationalError:
            return False
        return True

    def _transact(self, group: Sequence[Wish]) -> list[Any]:
        self._db.execute(f"pragma busy_timeout = {_PATIENCE_WITH_OTHERS}")
        try:
            self._db.execute("begin immediate")
            results = self._results(group)
            # without a log, a commit waits for whoever reads
            self._commit()
        finally:
            self._db.execute("pragma busy_timeout = 0")
        return results

    def _results(self, group: Sequence[Wish]) -> list[Any]:
        """Fulfil *group* in the open transaction; it is no longer open when nothing of it may stand."""
        try:
            self._store.guard()
            return self._done(group)
        except D3Error as error:
            self._rollback()
            return [error] * len(group)
        except BaseException:
            self._rollback()
            raise

    def _done(self, group: Sequence[Wish]) -> list[Any]:
        """A wish that raises is undone alone; what the others did stands."""
        self._db.execute("savepoint works")
        try:
            results = [result for kind, alike in groupby(group, kind_of) for result in self._fulfil(kind, list(alike))]
        except D3Error:
            self._db.execute("rollback to works")
            results = [self._attempt(wish) for wish in group]
        self._db.execute("release works")
        return results

    def _fulfil(self, kind: Kind, wishes: Sequence[Wish]) -> Sequence[Any]:
        if kind is Kind.SETTLEMENT:
            return self._store.settle_all([wish.what for wish in wishes])
        if kind is Kind.CLAIM:
            self._store.claim_all([wish.what for wish in wishes])
            return [None] * len(wishes)
        return [wish.what() for wish in wishes]

    def _commit(self) -> None:
        if not self._db.in_transaction:
            return
        try:
            self._db.execute("commit")
        except BaseException:
            self._rollback()
            raise

    def _attempt(self, wish: Wish) -> Any:
        self._db.execute("savepoint work")
        result: Any
        try:
            (result,) = self._fulfil(wish.kind, [wish])
        except D3Error as error:
            self._db.execute("rollback to work")
            result = error
        self._db.execute("release work")
        return result

    def _rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("rollback")

    def _answer(self, wishes: Sequence[Wish], results: Sequence[Any]) -> None:
        for wish, result in zip(wishes, results, strict=True):
            if wish.done.done():
                self._take_back(wish, result)
            elif not isinstance(result, BaseException):
                wish.done.set_result(result)
            else:
                wish.done.set_exception(result)
                # whoever asked may have been cancelled meanwhile: a failure nobody waits for is no warning
                wish.done.exception()
                if wish.told:
                    self.failure = self.failure or result

    def _take_back(self, wish: Wish, result: Any) -> None:
        """Nobody waits for *wish* any more: a claim of it would stay for ever."""
        if wish.kind is Kind.CLAIM and not isinstance(result, BaseException):
            self.release(wish.what[0], sent=False)


def _not_written(error: Exception) -> JournalError:
    failure = JournalError(f"The journal cannot be written: {error}.", code="journal")
    failure.__cause__ = error
    return failure
