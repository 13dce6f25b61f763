"""aiolimiter kept on time: one consumer, any rate, no burst at the start or after a change."""

import math
from collections.abc import Callable

from aiolimiter import AsyncLimiter

from d3async.sansio.lateness import Lateness
from d3async.sansio.rate import burst

# After this long without a beat the process may have been frozen, and what was granted just before it may be written
# just after it: so many seconds of requests are counted again.
_STILL = 0.25
_WRITING = 0.04


class Metronome:
    """Beats at any rate through aiolimiter's public API.

    An AsyncLimiter lets its whole capacity through at the start, keeps the rate it was made with, gives nothing
    back, and may re-order its waiters. So its capacity is one request and the lateness to be caught up; a new rate
    is a new AsyncLimiter, filled through `acquire` to where the old one stood; a beat that nobody used is kept for
    the length of one beat; and only one caller at a time waits for a beat.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._bucket = AsyncLimiter(1, 1)
        self._rate = math.nan
        self._last = self._free_at = -math.inf
        self._unused = False
        self._owed = 0
        self.lateness = Lateness()

    async def beat(self, rate: float, now: float) -> bool:
        """Take the beat that is due *now*, for a caller that has nobody in front; say whether there was one."""
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
        """Forget the beat that was kept: somebody has it."""
        self._unused = False

    async def _follow(self, rate: float) -> None:
        capacity = burst(rate, self.lateness.allowance)
        self._bucket, self._rate = AsyncLimiter(capacity, capacity / rate), rate
        to_come = min(max(1 - rate * (self._clock() - self._last), 0.0), 1.0)
        await self._bucket.acquire(min(capacity - 1 + to_come, capacity))
