"""Feeder, work queue and workers: every row that is to be sent gets its outcome."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import anyio

from d3async.d3.commands import all_commands
from d3async.d3.response import Reply, Unauthorized
from d3async.engine.delivery import Stopper
from d3async.errors import FencedError, FolderGoneError, JournalError, first_failure
from d3async.journal.model import CallResult, Event
from d3async.policy.batching import ListLimit, SentPart, wave_of, worth_splitting
from d3async.policy.halt_and_exit_codes import Stop, reached
from d3async.policy.outcome import judge
from d3async.policy.refused_access import MOST_SET_ASIDE, RefusedAccess, same_access

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

    def __init__(self, on_dry: Callable[[], None]) -> None:
        """*on_dry* is called where no lane is left to be taken, and none comes before others are done."""
        self._lanes: deque[Lane] = deque()
        self._aside: list[Lane] = []
        self._under_way = 0
        self._over = self._awaited = False
        self._on_dry = on_dry
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
            if self._over or self._awaited:
                self._on_dry()
            if self._lanes:
                break
            if self._over and not self._aside:
                return None
            if self._came.is_set():
                self._came = asyncio.Event()
            await self._came.wait()
        lane = self._lanes.popleft()
        self._went.set()
        return lane

    def set_aside(self, lane: Lane) -> int:
        """Keep *lane*, which was taken, until `resume`; how many are kept."""
        self._aside.append(lane)
        return len(self._aside)

    def resume(self) -> None:
        """Let the lanes that were set aside be taken again, before all others."""
        self._lanes.extendleft(reversed(self._aside))
        self._aside.clear()
        self._came.set()

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
        self._awaited = True
        self._came.set()
        while self._under_way:
            self._went = asyncio.Event()
            await self._went.wait()
        self._awaited = False

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
        self._access = RefusedAccess()
        self._refused: list[Delivered] = []
        self._in_flight = 0
        self.stopper = Stopper(self._stopping, admit=self._access.admit)
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
        self._line = WorkQueue(self._nothing_left_to_try)

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
        try:
            with self._scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._feed)
                    for _ in range(self._workers):
                        group.start_soon(self._work)
        finally:
            self._give_back_refused()

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
        self._line.resume()
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
            done = True
            try:
                done = await self._carry_lane(lane) if call is None else await self._carry_if_it_may(call)
            except JournalError as error:
                self._lost_journal(error)
            if done:
                self._line.carried()
            elif self._line.set_aside(taken) > MOST_SET_ASIDE:
                self._nothing_left_to_try()

    def _lost_journal(self, error: JournalError) -> None:
        code = error.code if isinstance(error, FencedError | FolderGoneError) else "journal"
        self.stopper.stop(Stop(code, error.message))

    async def _carry_lane(self, lane: int) -> bool:
        """Carry the calls of *lane*, one after the other: one source is never in flight twice. Whether all are done."""
        done = True
        while done and self.stopper.reason is None:
            size = self._limit.size()
            call = await self._journal.take(lane, size)
            if call is None:
                self._limit.done(size)
                return True
            done = await self._carry_if_it_may(call)
            self._limit.done(size)
        return done

    async def _carry_if_it_may(self, call: Call) -> bool:
        """Carry *call*; False while it may not be sent, because a refusal is not explained."""
        if self.stopper.reason is None and not self._access.may_go(call):
            return False
        return await self._carry(call) is not None

    async def _carry(self, call: Call) -> tuple[SentPart, ...] | None:
        """Bring *call* to its outcome; the parts its items were sent in, None where it is to be carried later."""
        if self.stopper.reason is not None:
            return ()
        repeatable = all_commands()[call.command].repeatable
        self._in_flight += 1
        try:
            done = await self._carrier.deliver(call, repeatable=repeatable, log=self._journal, stopper=self.stopper)
        finally:
            self._in_flight -= 1
        self._explain(call, done)
        if done.kept_back and done.answer is None:
            return None
        if done.answer is None or isinstance(done.answer, Unauthorized):
            return ()
        if call.items and worth_splitting(call, done.answer):
            return await self._split(done.call)
        self._settle(done, done.answer)
        return self._learnt(call, done.answer) if call.items else ()

    def _explain(self, call: Call, done: Delivered) -> None:
        """What the answer to *call* says of rows that were refused with 401."""
        found = self._access.came(call, done.answer)
        if isinstance(done.answer, Unauthorized):
            self._refused.append(done)
            if found == "refused":
                self.stopper.stop(Stop("unauthorized", done.answer.message))
        elif found == "accepted":
            blamed = [refused for refused in self._refused if same_access(refused.call, call)]
            self._refused = [refused for refused in self._refused if not same_access(refused.call, call)]
            for refused in blamed:
                if refused.answer is not None:
                    self._settle(refused, refused.answer)
        if found:
            self._line.resume()

    def _nothing_left_to_try(self) -> None:
        """Stop where a refusal cannot be explained: no row is in flight, and none is left that may be sent."""
        if self._in_flight or not self._refused or self.stopper.reason is not None:
            return
        answer = self._refused[0].answer
        incidents = ", ".join(sorted({refused.call.label for refused in self._refused})[:3])
        message = f"{answer.message if isinstance(answer, Unauthorized) else ''} It was about {incidents};"
        self.stopper.stop(Stop("unauthorized", f"{message} no row about another incident was left to try the key with"))

    def _give_back_refused(self) -> None:
        """Rows whose refusal was not explained did not happen, unless an earlier attempt is in doubt."""
        for done in self._refused:
            if done.call.maybe and done.answer is not None:
                self._settle(done, done.answer)
            else:
                self._journal.release(done.call, sent=True)
        self._refused.clear()

    def _learnt(self, call: Call, answer: Answer) -> tuple[SentPart, ...]:
        taken = isinstance(answer, Reply)
        if taken:
            self._limit.taken(len(call.items))
        return (SentPart(len(call.items), taken=taken),)

    async def _split(self, call: Call) -> tuple[SentPart, ...]:
        self._journal.release(call, sent=True)
        parts: tuple[SentPart, ...] = ()
        for half in call.halves():
            parts += await self._carry(half) or ()
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
