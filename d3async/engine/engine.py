"""Feeder, work queue and workers: every row that is to be sent gets its outcome."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import anyio

from d3async.d3.commands import all_commands
from d3async.d3.response import Reply
from d3async.engine.delivery import Stopper
from d3async.errors import FencedError, FolderGoneError, JournalError, first_failure
from d3async.journal.model import CallResult, Event
from d3async.policy.batching import ListLimit, SentPart, wave_of, worth_splitting
from d3async.policy.halt_and_exit_codes import Stop, reached
from d3async.policy.outcome import judge

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from d3async.d3.call import Call
    from d3async.d3.response import Answer
    from d3async.engine.delivery import Delivered
    from d3async.journal.model import RowOutcome
    from d3async.journal.protocols import AttemptLog, Journal
    from d3async.policy.halt_and_exit_codes import Halt

    Lane = tuple[int, Call | None]
    StopSource = Callable[[Callable[[Stop], None]], AbstractContextManager[None]]
    """A block in which a user's wish to stop calls what it is given, in the event loop that runs there."""


class WorkQueue:
    """First come, first served; one feeder, many workers. A stream would switch tasks for every lane, this does not."""

    def __init__(self) -> None:
        self._lanes: deque[Lane] = deque()
        self._under_way = 0
        self._over = False
        self._came = asyncio.Event()
        self._went = asyncio.Event()

    def add(self, lane: Lane) -> None:
        """Let *lane* be taken."""
        self._lanes.append(lane)
        self._under_way += 1
        self._came.set()

    async def take(self) -> Lane | None:
        """The next lane; None when there will be none any more."""
        while not self._lanes:
            if self._over:
                return None
            if self._came.is_set():
                self._came = asyncio.Event()
            await self._came.wait()
        lane = self._lanes.popleft()
        self._went.set()
        return lane

    def carried(self) -> None:
        """Note that a lane that was taken is done."""
        self._under_way -= 1
        self._went.set()

    async def nearly_taken(self, left: int) -> None:
        """Wait until at most *left* lanes are still to be taken."""
        while len(self._lanes) > left:
            self._went = asyncio.Event()
            await self._went.wait()

    async def all_carried(self) -> None:
        """Wait until every lane that was added is done."""
        while self._under_way:
            self._went = asyncio.Event()
            await self._went.wait()

    def close(self) -> None:
        """No lane comes any more."""
        self._over = True
        self._came.set()


_PAGE = 200
_ANSWER_KEPT = 16_384
"""Characters of D3's answer kept in the journal."""


class CallSender(Protocol):
    """What the engine needs of `delivery.Delivery`."""

    async def deliver(self, call: Call, *, repeatable: bool, log: AttemptLog, stopper: Stopper) -> Delivered:
        """Bring *call* to its final answer."""
        ...


class Engine:
    """One run over one journal. *workers* calls at most are under way; *rows* this run is to send in all.

    *on_row* hears of each finished row; *drain* is how long, in seconds, calls in flight may take after a stop.
    """

    def __init__(
        self,
        *,
        carrier: CallSender,
        journal: Journal,
        rows: int,
        workers: int = 32,
        halts: Sequence[Halt] = (),
        links_per_call: int = 50,
        drain: float = 30.0,
        on_row: Callable[[RowOutcome], None] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.stopper = Stopper(self._stopping)
        self.counts: Counter[str] = Counter()
        self._carrier = carrier
        self._journal = journal
        self._rows = rows
        self._workers = workers
        self._halts = halts
        self._limit = ListLimit(links_per_call)
        self._drain = drain
        self._on_row = on_row
        self._wall = wall
        self._scope = anyio.CancelScope()
        self._line = WorkQueue()

    async def run(self) -> Stop | None:
        """Send what is to be sent; the reason why it ended early, or None.

        Raises `JournalError` when an outcome could not be stored, and any other `D3Error` as itself; what was known
        until then is stored first.
        """
        try:
            await self._send_all()
        except BaseException as error:  # noqa: BLE001 - it is raised again
            # what keeps the rest from being stored must not hide what went wrong first
            with suppress(JournalError):
                await self._flush()
            raise first_failure(error) from None
        await self._flush()
        return self.stopper.reason

    async def _send_all(self) -> None:
        with self._scope:
            async with anyio.create_task_group() as group:
                group.start_soon(self._feed)
                for _ in range(self._workers):
                    group.start_soon(self._work)

    async def _flush(self) -> None:
        try:
            with anyio.CancelScope(shield=True):
                await self._journal.flush()
        except FencedError as error:
            self._lost_journal(error)

    def stop(self, reason: Stop) -> None:
        """Start nothing new; what is in flight may finish within *drain* seconds."""
        self.stopper.stop(reason)

    def cancel(self) -> None:
        """Drop what is in flight: whatever has left becomes `unknown`."""
        self._scope.cancel()

    def _stopping(self, reason: Stop) -> None:
        self._journal.note(Event(self._wall(), "stop", reason.retry_after, f"{reason.code}: {reason.message}"))
        self._scope.deadline = anyio.current_time() + self._drain

    async def _feed(self) -> None:
        after = -1
        try:
            while lanes := await self._lanes(after):
                with self.stopper.before_the_wire():
                    for wave, lane in ((wave_of(lane[0]), lane) for lane in lanes):
                        if wave != wave_of(after):
                            await self._line.all_carried()
                        after = lane[0]
                        self._line.add(lane)
                    await self._line.nearly_taken(self._workers)
        finally:
            self._line.close()

    async def _lanes(self, after: int) -> Sequence[Lane]:
        if self.stopper.reason is not None:
            return ()
        try:
            return await self._journal.lanes(after, _PAGE)
        except JournalError as error:
            self._lost_journal(error)
            return ()

    async def _work(self) -> None:
        while (taken := await self._line.take()) is not None:
            lane, call = taken
            try:
                if call is not None:
                    await self._carry(call)
                else:
                    await self._carry_lane(lane)
            except JournalError as error:
                self._lost_journal(error)
            self._line.carried()

    def _lost_journal(self, error: JournalError) -> None:
        code = error.code if isinstance(error, FencedError | FolderGoneError) else "journal"
        self.stopper.stop(Stop(code, error.message))

    async def _carry_lane(self, lane: int) -> None:
        """Carry the calls of *lane*, one after the other: one source is never in flight twice."""
        while self.stopper.reason is None:
            size = self._limit.size()
            call = await self._journal.take(lane, size)
            if call is None:
                self._limit.done(size)
                return
            await self._carry(call)
            self._limit.done(size)

    async def _carry(self, call: Call) -> tuple[SentPart, ...]:
        """Bring *call* to its outcome; the parts its items were sent in."""
        if self.stopper.reason is not None:
            return ()
        repeatable = all_commands()[call.command].repeatable
        done = await self._carrier.deliver(call, repeatable=repeatable, log=self._journal, stopper=self.stopper)
        if done.answer is None:
            return ()
        if call.items and worth_splitting(call, done.answer):
            return await self._split(done.call)
        self._settle(done, done.answer)
        return self._learnt(call, done.answer) if call.items else ()

    def _learnt(self, call: Call, answer: Answer) -> tuple[SentPart, ...]:
        taken = isinstance(answer, Reply)
        if taken:
            self._limit.taken(len(call.items))
        return (SentPart(len(call.items), taken=taken),)

    async def _split(self, call: Call) -> tuple[SentPart, ...]:
        self._journal.release(call, sent=True)
        parts: tuple[SentPart, ...] = ()
        for half in call.halves():
            parts += await self._carry(half)
        if sum(part.size for part in parts) == len(call.items):
            self._limit.split(len(call.items), parts)
        return parts

    def _settle(self, done: Delivered, answer: Answer) -> None:
        said = None
        if done.response is not None:
            said = done.response.body[: 4 * _ANSWER_KEPT].decode("utf-8", "replace")[:_ANSWER_KEPT]
        verdict = judge(done.call, answer)
        future = self._journal.settle(CallResult(done.call, verdict, said, self._wall()))
        future.add_done_callback(self._rows_done)

    def _rows_done(self, future: Future[list[RowOutcome]]) -> None:
        if future.cancelled() or future.exception() is not None:
            return
        for row in future.result():
            self.counts[row.outcome] += 1
            if self._on_row:
                self._on_row(row)
        if self.stopper.reason is None and (words := reached(self._halts, self.counts, self._rows)):
            self.stopper.stop(Stop("halt", words))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Uvloop where it is installed (extra `fast`)."""
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
