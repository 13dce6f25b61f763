"""A run that an app awaits: jobs in, one outcome for each job out, in a queue that makers wait for."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import anyio

from d3async.batch_journal import BatchJournal, chunks
from d3async.engine.engine import Engine
from d3async.engine.observers import TICK, EventRecorder, OutcomeSeen, call_every, counted
from d3async.errors import GONE, D3Error, JournalError
from d3async.journal.sqlite.group_commit import GroupCommitJournal
from d3async.journal.sqlite.row_claims import RowStoreWithOutcomes
from d3async.policy.halt_and_exit_codes import GRACE, Stop, error_for_stop, stop_of, with_default

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from d3async.batch_journal import BatchOptions, Jobs
    from d3async.d3.call import Call
    from d3async.engine.delivery import Delivered, Stopper
    from d3async.engine.engine import CallSender
    from d3async.engine.observers import ObserverHub
    from d3async.journal.model import JobOutcome, RowOutcome
    from d3async.journal.protocols import AttemptLog
    from d3async.journal.sqlite.run_folder import RunFolder
    from d3async.ratelimit.limiter import LimiterNumbers

T = TypeVar("T")


class OutcomeQueue(Generic[T]):
    """One takes, several put. *most* is when makers are to wait; what is under way then may still be put."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._ready: deque[T] = deque()
        self._filled = asyncio.Event()
        self._roomy = asyncio.Event()
        self._roomy.set()
        self._dropped = self._closed = False

    def put(self, thing: T) -> None:
        """Hand *thing* over; never waits."""
        if self._dropped:
            return
        self._ready.append(thing)
        self._filled.set()
        if len(self._ready) >= self._most:
            self._roomy.clear()

    async def room(self) -> None:
        """Wait until fewer than *most* things wait to be taken."""
        await self._roomy.wait()

    async def take(self) -> T | None:
        """The next thing; None once the outbox is closed and empty."""
        while not self._ready:
            if self._closed:
                return None
            self._filled.clear()
            await self._filled.wait()
        thing = self._ready.popleft()
        if len(self._ready) < self._most:
            self._roomy.set()
        return thing

    def drop(self) -> None:
        """Nothing is taken any more: forget what waits, and let no producer wait for room."""
        self._dropped = True
        self._ready.clear()
        self._roomy.set()

    def close(self) -> None:
        """Nothing more comes."""
        self._closed = True
        self._filled.set()


_LEFT = Stop("interrupted", "The run was left before it was done.")


class JobRun:
    """What `D3Client.run` gives: iterate over it once, with `async for`.

    Every job gets one `JobOutcome`: first those that earlier runs over the journal have settled, then each as it is
    finished, at last those that were not sent. A run that ended early then raises why. *counts* and *stop* may be
    read at any time. Leaving the loop stops the run: what is in flight may finish, and nothing new is sent; where the
    next line is to wait for that, use `async with d3.run(…) as run:` around the loop.
    """

    def __init__(
        self,
        jobs: Jobs,
        terms: BatchOptions,
        book: BatchJournal,
        *,
        carrier: CallSender,
        watch: ObserverHub,
        numbers: Callable[[], LimiterNumbers],
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.stop: Stop | None = None
        self.requests = 0
        self._jobs = jobs
        self._terms = terms
        self._book = book
        self._carrier = carrier
        self._watch = watch
        self._numbers = numbers
        self._outbox: OutcomeQueue[JobOutcome] = OutcomeQueue(terms.ahead)
        self._owner: asyncio.Task[None] | None = None
        self._engine: Engine | None = None
        self._loading = True
        self._left = False

    async def __aiter__(self) -> AsyncIterator[JobOutcome]:
        if self._owner is not None or self._left:
            raise RuntimeError("a run is iterated over once: call `run` again, with the same journal to go on")
        # a task of its own: what it has open must not depend on who iterates, nor when
        self._owner = asyncio.create_task(self._own(), name="d3async-run")
        try:
            while (outcome := await self._outbox.take()) is not None:
                yield outcome
            await asyncio.wait([self._owner])
            if not self._owner.cancelled():
                self._owner.result()
        finally:
            await self.aclose()
        stop = self.stop or (_LEFT if self._left and self._owner.cancelled() else None)
        if stop is not None and (stop.code != "halt" or self.counts["unsent"]):
            raise error_for_stop(stop, attempts=self.requests)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop; wait until what is in flight is done and all is stored. Cancelled meanwhile, drop what is in flight."""
        self._leave()
        if self._owner is None:
            return
        interrupted = None
        with anyio.CancelScope(shield=True):
            while not self._owner.done():
                try:
                    await asyncio.wait([self._owner])
                except asyncio.CancelledError as error:
                    interrupted = error
                    if self._engine is not None:
                        self._engine.cancel()
        if interrupted is not None:
            raise interrupted
        if not self._owner.cancelled():
            self._owner.exception()

    def _leave(self) -> None:
        if self._left or (self._owner is not None and self._owner.done()):
            return
        self._left = True
        self._outbox.drop()
        if self._engine is not None:
            self._engine.stop(_LEFT)
        elif self._loading and self._owner is not None:
            self._owner.cancel()

    async def _own(self) -> None:
        """Everything from the first job to the closed journal."""
        book, started, before = self._book, time.monotonic(), self._numbers()
        try:
            await book.open()
            async for chunk in chunks(self._jobs):
                await book.add(chunk)
            self._loading = False
            rows = await book.begin()
            try:
                await self._list(todo=False)
                self.stop = await self._send(rows)
                await book.settle_leftovers()
                await self._list(todo=True)
            finally:
                facts = _facts(before, self._numbers(), self.requests, time.monotonic() - started)
                stop = await book.finish(self.stop or (_LEFT if self._left else None), facts)
                if stop is not None and stop.code == GONE:
                    self.stop = stop
        finally:
            self._outbox.close()
            await book.close()

    async def _list(self, *, todo: bool) -> None:
        after = 0
        while not self._left and (page := await self._book.page(todo=todo, after=after)):
            for told in page:
                await self._outbox.room()
                self._tell(told)
            after = page[-1].row

    async def _send(self, rows: int) -> Stop | None:
        if self._left or not rows:
            return _LEFT if self._left else None
        folder = self._book.folder
        journal = GroupCommitJournal(
            folder.db,
            RowStoreWithOutcomes(folder.db, epoch=folder.epoch),
            patience=max(self._terms.drain, 1.0),
            gone=folder.gone,
        )
        self._engine = self._engine_over(journal, rows)
        noted = EventRecorder(journal, self._numbers())
        # every attempt of the client's: all its callers share one limiter
        self._watch.noting.append(noted.attempt)

        def look() -> None:
            noted.look(self._numbers())
            self._look_for(folder)

        looking = asyncio.create_task(call_every(TICK, look))
        try:
            stop = await self._engine.run()
            noted.look(self._numbers())
            await journal.flush()
        except JournalError as error:
            return stop_of(error)
        finally:
            looking.cancel()
            self._watch.noting.remove(noted.attempt)
            self._engine = None
            with suppress(D3Error):
                await journal.aclose()
        return stop

    def _engine_over(self, journal: GroupCommitJournal, rows: int) -> Engine:
        return Engine(
            carrier=self,
            journal=journal,
            rows=rows,
            workers=self._terms.workers,
            halts=with_default(self._terms.halts),
            links_per_call=self._terms.links_per_call,
            drain=self._terms.drain,
            on_row=self._finished,
        )

    def _look_for(self, folder: RunFolder) -> None:
        """Stop once the run folder is gone: nothing that is learnt then would be kept."""
        engine, error = self._engine, folder.gone()
        if engine is not None and error is not None and engine.stopper.reason is None:
            engine.stop(Stop(error.code, error.message))
            asyncio.get_running_loop().call_later(GRACE, engine.cancel)

    async def deliver(self, call: Call, *, repeatable: bool, log: AttemptLog, stopper: Stopper) -> Delivered:
        """The engine's way to D3: no further ahead than the iterating caller allows."""
        with stopper.before_the_wire():
            await self._outbox.room()
        done = await self._carrier.deliver(call, repeatable=repeatable, log=log, stopper=stopper)
        self.requests += done.attempts
        return done

    def _finished(self, row: RowOutcome) -> None:
        if row.told is not None:
            self._tell(row.told)

    def _tell(self, told: JobOutcome) -> None:
        self.counts[told.outcome] += 1
        self._outbox.put(told)
        if not told.earlier and told.command is not None:
            items = counted(item.outcome for item in told.items)
            self._watch.outcome(OutcomeSeen(type(told.command).__name__, told.row, told.outcome, told.code, items))


def _facts(before: LimiterNumbers, after: LimiterNumbers, requests: int, elapsed: float) -> dict[str, Any]:
    return {
        "finished_at": time.time(),
        "requests": requests,
        "throttled": after.throttled - before.throttled,
        "paused_s": round(after.paused_s - before.paused_s, 3),
        "rate": round(requests / elapsed, 2) if elapsed else 0.0,
        "elapsed_s": round(elapsed, 3),
        "limiter": {"ceiling": after.ceiling, "learnt": after.learnt},
    }
