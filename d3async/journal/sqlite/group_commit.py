"""Group commit: writes asked for while one group is stored make up the next; on disk before anything is sent."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from enum import IntEnum
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from d3async.errors import D3Error, JournalError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from d3async.d3.call import Call
    from d3async.journal.model import CallResult, Event, RowOutcome
    from d3async.journal.sqlite.row_claims import RowStore


class RequestKind(IntEnum):
    """In the order in which the wishes of one group are fulfilled: no call is claimed and settled in one group."""

    SETTLEMENT = 0
    WORD = 1
    """A release or an event."""
    CLAIM = 2
    """To be on disk before anything is sent, or not to be."""
    SEARCH = 3
    """It may read much."""


class WriteRequest(NamedTuple):
    """One thing asked for: what `Store` is to be told, for a word or a search a function."""

    kind: RequestKind
    what: Any
    done: asyncio.Future[Any]

    @property
    def told(self) -> bool:
        """Nobody need wait for it: its failure is kept."""
        return self.kind <= RequestKind.WORD


request_kind = attrgetter("kind")


def in_write_order(group: Sequence[WriteRequest]) -> list[WriteRequest]:
    """*group* as it is fulfilled, without claims that no caller waits for any more."""
    wanted = (wish for wish in group if wish.kind is not RequestKind.CLAIM or not wish.done.cancelled())
    return sorted(wanted, key=request_kind)


_CHECKPOINT = 128
"""Groups after which the log is worked into the database: as long as SQLite's own 1,000 pages, or a little longer."""
_QUICK = 0.001
"""Seconds below which waiting for the disk costs less than having a thread do it."""
_on_disk = getattr(os, "fdatasync", os.fsync)


class WalSync:
    """The log of one connection, brought to disk in one call, not in the commit: that goes from thread to thread.

    `synchronous = full` does the same within each commit, and a commit takes hold of the interpreter several times.
    """

    def __init__(self, db: sqlite3.Connection, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._db = db
        self._clock = clock
        file = next((file for _, name, file in db.execute("pragma database_list") if name == "main"), "")
        wal = db.execute("pragma journal_mode").fetchone()[0] == "wal"
        self._path = f"{file}-wal" if file and wal else None
        self._file: int | None = None
        self._synced = 0
        self._took = _QUICK
        self.in_commit = bool(file) and not wal
        """Whether each commit must wait for the disk: where the file system knows no shared memory."""
        if self._path:
            db.execute("pragma synchronous = normal")
            db.execute("pragma wal_autocheckpoint = 0")
            # at once: later the folder may have been moved
            with suppress(FileNotFoundError):
                self._file = self._opened(self._path)

    @property
    def quick(self) -> bool:
        """Whether the next `sync` will hardly take time, going by the last."""
        return self._took < _QUICK and (self._synced + 1) % _CHECKPOINT != 0

    def sync(self) -> None:
        """Wait until everything that is committed is on disk. Raises OSError."""
        if self._path is None:
            return
        if self._file is None:
            self._file = self._opened(self._path)
        began = self._clock()
        _on_disk(self._file)
        self._took = self._clock() - began
        self._synced += 1
        if self._synced % _CHECKPOINT == 0:
            # the log holds everything: that it grows does no harm
            with suppress(sqlite3.Error):
                self._db.execute("pragma wal_checkpoint(passive)")

    @staticmethod
    def _opened(path: str) -> int:
        return os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


_PAUSE = 0.5
_TURNS = 2
"""Turns of the loop for which a group waits for others: answers that are there by then make one group, not two."""
_PATIENCE_WITH_OTHERS = 10_000
"""Milliseconds for which another process may keep the journal locked."""


class GroupCommitJournal:
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
        store: RowStore,
        *,
        patience: float = 30.0,
        log: WalSync | None = None,
        gone: Callable[[], JournalError | None] | None = None,
    ) -> None:
        self._db = db
        self._store = store
        self._log = log or WalSync(db)
        self._patience = patience
        self._gone = gone
        self._waiting: list[WriteRequest] = []
        self._loop = asyncio.get_running_loop()
        self._writer: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="d3async-journal")
        self._told = False
        self.failure: BaseException | None = None
        db.execute("pragma busy_timeout = 0")

    async def lanes(self, after: int, most: int, profile: str | None = None) -> Sequence[tuple[int, Call | None]]:
        """See `Store.lanes`."""
        asked = self._ask(RequestKind.SEARCH, lambda: self._store.lanes(after, most, profile))
        found: Sequence[tuple[int, Call | None]] = await asked
        return found

    async def take(self, lane: int, most: int) -> Call | None:
        """See `Journal.take`."""
        found: Call | None = await self._ask(RequestKind.SEARCH, lambda: self._store.take(lane, most))
        return found

    async def claim(self, call: Call, at: float) -> None:
        """See `Journal.claim`."""
        claimed = self._ask(RequestKind.CLAIM, (call, at))
        try:
            await claimed
        except asyncio.CancelledError:
            if claimed.done() and not claimed.cancelled() and claimed.exception() is None:
                self.release(call, sent=False)
            raise

    def release(self, call: Call, *, sent: bool) -> None:
        """See `Journal.release`."""
        self._ask(RequestKind.WORD, lambda: self._store.release(call, sent=sent))

    def settle(self, settlement: CallResult) -> asyncio.Future[list[RowOutcome]]:
        """See `Journal.settle`."""
        return self._ask(RequestKind.SETTLEMENT, settlement)

    def note(self, event: Event) -> None:
        """See `Journal.note`."""
        self._ask(RequestKind.WORD, lambda: self._store.note(event))

    async def flush(self) -> None:
        """See `Journal.flush`; raises what the first write that was lost ran into."""
        await self._written()
        self._told = True
        if self.failure is not None:
            raise self.failure

    async def aclose(self) -> None:
        """Store what is left and end the thread; the connection stays open. Raises what `flush` has not raised yet."""
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
        # what was stored last has been answered, but no caller has been called back yet
        await asyncio.sleep(0)

    def _ask(self, kind: RequestKind, what: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append(WriteRequest(kind, what, future))
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

    async def _store_group(self, group: Sequence[WriteRequest]) -> None:
        """Store *group* and tell each wish what became of it; no wish is ever left without a word."""
        deadline = self._loop.time() + self._patience
        while group:
            group = in_write_order(group)
            failure = await self._try(group)
            if failure is None:
                return
            claims = [wish for wish in (*group, *self._waiting) if wish.kind is RequestKind.CLAIM]
            self._answer(claims, [failure] * len(claims))
            self._waiting = [wish for wish in self._waiting if wish.kind is not RequestKind.CLAIM]
            group = [wish for wish in group if wish.kind is not RequestKind.CLAIM]
            if claims:
                continue
            if self.failure is not None or self._loop.time() >= deadline:
                self._answer(group, [failure] * len(group))
                return
            await asyncio.sleep(_PAUSE)

    async def _try(self, group: Sequence[WriteRequest]) -> JournalError | None:
        kinds = {wish.kind for wish in group}
        results: Sequence[Any]
        if self._gone is not None and RequestKind.CLAIM in kinds and (failure := self._gone()) is not None:
            return failure
        try:
            if RequestKind.SEARCH in kinds or self._log.in_commit or not self._begun_at_once():
                results = await self._loop.run_in_executor(self._thread, self._transact, group)
            else:
                results = self._results(group)
                self._commit()
        except sqlite3.Error as error:
            return _not_written(error)
        except Exception as error:  # noqa: BLE001 - a defect of ours; it is raised wherever a wish is waited for
            self._answer(group, [error] * len(group))
            return None
        if RequestKind.CLAIM in kinds:
            results = await self._lasting(group, results)
        self._answer(group, results)
        return None

    async def _lasting(self, group: Sequence[WriteRequest], results: Sequence[Any]) -> Sequence[Any]:
        """*results*, once they are on disk; where they cannot be brought there, no claim of *group* stands."""
        try:
            if self._log.quick:
                self._log.sync()
            else:
                await self._loop.run_in_executor(self._thread, self._log.sync)
        except OSError as error:
            claims = [wish.kind is RequestKind.CLAIM for wish in group]
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

    def _transact(self, group: Sequence[WriteRequest]) -> list[Any]:
        self._db.execute(f"pragma busy_timeout = {_PATIENCE_WITH_OTHERS}")
        try:
            self._db.execute("begin immediate")
            results = self._results(group)
            # without a log, a commit waits for whoever reads
            self._commit()
        finally:
            self._db.execute("pragma busy_timeout = 0")
        return results

    def _results(self, group: Sequence[WriteRequest]) -> list[Any]:
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

    def _done(self, group: Sequence[WriteRequest]) -> list[Any]:
        """A wish that raises is undone alone; what the others did stands."""
        self._db.execute("savepoint works")
        try:
            results = [
                result for kind, alike in groupby(group, request_kind) for result in self._fulfil(kind, list(alike))
            ]
        except D3Error:
            self._db.execute("rollback to works")
            results = [self._attempt(wish) for wish in group]
        self._db.execute("release works")
        return results

    def _fulfil(self, kind: RequestKind, wishes: Sequence[WriteRequest]) -> Sequence[Any]:
        if kind is RequestKind.SETTLEMENT:
            return self._store.settle_all([wish.what for wish in wishes])
        if kind is RequestKind.CLAIM:
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

    def _attempt(self, wish: WriteRequest) -> Any:
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

    def _answer(self, wishes: Sequence[WriteRequest], results: Sequence[Any]) -> None:
        for wish, result in zip(wishes, results, strict=True):
            if wish.done.done():
                self._take_back(wish, result)
            elif not isinstance(result, BaseException):
                wish.done.set_result(result)
            else:
                wish.done.set_exception(result)
                # the caller may have been cancelled meanwhile: a failure that no caller waits for is no warning
                wish.done.exception()
                if wish.told:
                    self.failure = self.failure or result

    def _take_back(self, wish: WriteRequest, result: Any) -> None:
        """Nobody waits for *wish* any more: a claim of it would stay for ever."""
        if wish.kind is RequestKind.CLAIM and not isinstance(result, BaseException):
            self.release(wish.what[0], sent=False)


def _not_written(error: Exception) -> JournalError:
    failure = JournalError(f"The journal cannot be written: {error}.", code="journal")
    failure.__cause__ = error
    return failure


class ProfileJournal:
    """`Journal` for the engine of one D3: the lanes of *profile*, *page* of them at a time; all else is the whole's."""

    def __init__(self, journal: GroupCommitJournal, profile: str | None, *, page: int) -> None:
        self._journal = journal
        self._profile = profile
        self._page = page
        # not methods: each row passes through them several times
        self.take, self.claim, self.release = journal.take, journal.claim, journal.release
        self.settle, self.flush = journal.settle, journal.flush

    async def lanes(self, after: int, most: int) -> Sequence[tuple[int, Call | None]]:
        """See `Journal.lanes`."""
        return await self._journal.lanes(after, min(most, self._page), self._profile)

    def note(self, event: Event) -> None:
        """See `Journal.note`; the note begins with the profile."""
        note = f"{self._profile}: {event.note}" if self._profile is not None and event.note else event.note
        self._journal.note(replace(event, note=note))
