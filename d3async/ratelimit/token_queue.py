"""Queue of coroutines waiting for a rate-limit token, retries first; the pacer that hands tokens out."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from aiolimiter import AsyncLimiter

from d3async.ratelimit.rate_controller import LatenessAllowance, burst

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sized

# After this long without a beat the process may have been frozen, and what was granted just before it may be written
# just after it: so many seconds of requests are counted again.
_STILL = 0.25
_WRITING = 0.04


class Pacer:
    """Beats at any rate through aiolimiter's public API.

    An AsyncLimiter lets its whole capacity through at the start, keeps the rate it was made with, gives nothing
    back, and may re-order its waiters. So its capacity is one request and the lateness to be caught up; a new rate
    is a new AsyncLimiter, filled through `acquire` to where the old one stood; an unused beat is kept for
    the length of one beat; and only one caller at a time waits for a beat.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._bucket = AsyncLimiter(1, 1)
        self._rate = math.nan
        self._last = self._free_at = -math.inf
        self._unused = False
        self._owed = 0
        self.lateness = LatenessAllowance()

    async def beat(self, rate: float, now: float) -> bool:
        """Take the beat that is due *now*, for a caller that is first in the queue; say whether there was one."""
        if now < self._free_at or rate != self._rate:
            return False
        self._note_beat(rate, now)
        await self._bucket.acquire()
        return True

    async def tick(self, rate: float) -> float:
        """Wait for the next beat at *rate* per second and return its time on the clock."""
        if self._unused and (again := self._beat_again(rate)) is not None:
            return again
        if rate != self._rate:
            await self._follow(rate)
        due = self._last + (1 + self._owed) / rate
        waits = self._clock() < due
        if self._owed:
            await self._pay(rate)
        self._free_at = math.inf
        await self._bucket.acquire()
        now = self._clock()
        if waits and now - due < _STILL:
            self.lateness.note(now - due)
        self._note_beat(rate, now)
        return now

    def _note_beat(self, rate: float, now: float) -> None:
        beat = 1 / rate
        still = now - self._last - beat
        self._owed = math.ceil(rate * _WRITING) if _STILL < still < math.inf else 0
        self._last = now
        self._free_at = now + beat * (1 + self._owed)

    def _beat_again(self, rate: float) -> float | None:
        self._unused = False
        now = self._clock()
        if now - self._last >= 1 / rate:
            return None
        self._last, self._rate = now, math.nan
        return now

    async def _pay(self, rate: float) -> None:
        if (self._clock() - self._last) * rate >= self._owed + 1:
            self._owed = 0
        while self._owed:
            await self._bucket.acquire()
            self._owed = max(self._owed - 1, 0)

    def owe(self) -> None:
        """Count one request again, because it reached the wire in a later window than it was granted for."""
        self._owed += 1
        self._free_at += 1 / self._rate

    def give_back(self, granted_at: float, rate: float) -> bool:
        """Keep the beat of *granted_at* for as long as one beat lasts, if it was the last; say whether it is kept."""
        self._unused = granted_at == self._last and self._clock() - granted_at < 1 / rate
        return self._unused

    def take_back(self) -> None:
        """Forget the beat that was kept: it is used now."""
        self._unused = False

    async def _follow(self, rate: float) -> None:
        capacity = burst(rate, self.lateness.allowance)
        self._bucket, self._rate = AsyncLimiter(capacity, capacity / rate), rate
        to_come = min(max(1 - rate * (self._clock() - self._last), 0.0), 1.0)
        await self._bucket.acquire(min(capacity - 1 + to_come, capacity))


class GrantRules(Protocol):
    """What the line asks at every grant."""

    def pace(self) -> float:
        """Return the rate, in requests a second."""

    def opens_at(self) -> float:
        """Return the time before which no request may leave."""

    def open(self, now: float) -> bool:
        """Say whether one may leave *now*."""

    def late(self, allowance: float) -> None:
        """Note how many seconds the pacer is let off."""

    def granted(self, now: float) -> None:
        """Note a grant."""

    def returned(self, granted_at: float) -> None:
        """Note that a grant will not be used."""


class PacerProtocol(Protocol):
    """What `Pacer` does, see there."""

    lateness: LatenessAllowance

    async def beat(self, rate: float, now: float) -> bool:
        """Take the beat that is due, if one is."""

    async def tick(self, rate: float) -> float:
        """Wait for the next beat."""

    def owe(self) -> None:
        """Count one request again."""

    def give_back(self, granted_at: float, rate: float) -> bool:
        """Keep a fresh beat that was not used; say whether it is kept."""

    def take_back(self) -> None:
        """Forget the beat that was kept."""


class TokenQueue:
    """Waiters of one event loop. The dispenser task lives only while the queue is not empty.

    *pacer* makes another metronome for this line.
    """

    def __init__(
        self,
        rules: GrantRules,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]],
        pacer: Callable[[Sized], PacerProtocol] | None = None,
    ) -> None:
        self._rules, self._clock, self._sleep, self._pacer = rules, clock, sleep, pacer
        self.metronome: PacerProtocol = Pacer(clock) if pacer is None else pacer(self)
        self._retries: deque[asyncio.Future[float]] = deque()
        self._queue: deque[asyncio.Future[float]] = deque()
        self._dispenser: asyncio.Task[None] | None = None
        self._paused = 0.0
        self._paused_at: float | None = None
        self._pause_until = 0.0

    def afresh(self) -> TokenQueue:
        """Return an empty line with the same rules and the time paused so far: the old loop's waiters died with it."""
        turns = TokenQueue(self._rules, clock=self._clock, sleep=self._sleep, pacer=self._pacer)
        turns._paused = self._paused
        return turns

    def __len__(self) -> int:
        return len(self._retries) + len(self._queue)

    @property
    def paused(self) -> float:
        """Seconds the gate was closed while a request waited."""
        return self._paused + (0.0 if self._paused_at is None else self._clock() - self._paused_at)

    async def take_free(self) -> float | None:
        """Take a token without waiting: queue empty, gate open, a beat due. None where there is none."""
        now = self._clock()
        rules = self._rules
        if self._dispenser is None and rules.open(now) and await self.metronome.beat(rules.pace(), now):
            rules.granted(now)
            return now
        return None

    async def take(self, *, head: bool) -> float:
        """Wait for one turn; *head* goes before everyone but earlier heads. Return the clock time of the grant."""
        if (free := await self.take_free()) is not None:
            return free
        turn: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        (self._retries if head else self._queue).append(turn)
        if self._dispenser is None:
            self._start()
        try:
            return await turn
        except asyncio.CancelledError:
            self._leave(turn)
            raise

    def give_back(self, granted_at: float) -> None:
        """Pass a fresh grant that will not be used to the next in the queue, or keep it for a caller within a beat."""
        self._rules.returned(granted_at)
        fresh = self.metronome.give_back(granted_at, self._rules.pace())
        if fresh and len(self):
            self.metronome.take_back()
            self._grant_next()

    def look_again(self) -> None:
        """Wake the dispenser where the gate opens earlier than it thought, or the queue is empty."""
        if self._dispenser is None:
            return
        if not len(self) or (self._paused_at is not None and self._rules.opens_at() < self._pause_until):
            self._dispenser.cancel()
            self._dispenser = None
            self._end_pause()
            if len(self):
                self._start()

    def _start(self) -> None:
        self._dispenser = asyncio.get_running_loop().create_task(self._dispense(), name="d3async-dispenser")
        self._dispenser.add_done_callback(self._pass_on_failure)

    def _pass_on_failure(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        self._dispenser = None
        for turn in (*self._retries, *self._queue):
            if not turn.done():
                turn.set_exception(error)
        self._retries.clear()
        self._queue.clear()

    async def _dispense(self) -> None:
        while len(self):
            opens_at = self._rules.opens_at()
            if opens_at > self._clock():
                await self._pause(opens_at)
            else:
                await self.metronome.tick(self._rules.pace())
                self._rules.late(self.metronome.lateness.allowance)
                self._grant_next()
        self._dispenser = None

    async def _pause(self, until: float) -> None:
        self._paused_at, self._pause_until = self._clock(), until
        await self._sleep(until - self._paused_at)
        self._end_pause()

    def _end_pause(self) -> None:
        self._paused, self._paused_at = self.paused, None

    def _grant_next(self) -> None:
        now = self._clock()
        if self._rules.opens_at() > now:
            return
        for line in (self._retries, self._queue):
            while line:
                turn = line.popleft()
                if not turn.done():
                    self._rules.granted(now)
                    turn.set_result(now)
                    return

    def _leave(self, turn: asyncio.Future[float]) -> None:
        for line in (self._retries, self._queue):
            with suppress(ValueError):
                line.remove(turn)
        if not turn.cancelled() and turn.exception() is None:
            self.give_back(turn.result())
        self.look_again()
