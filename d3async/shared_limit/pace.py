"""The metronome of a limit that is shared: its beats are slots that were reserved."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from d3async.metronome import Metronome
from d3async.sansio.lease import Lease, slots_to_ask

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sized

    from d3async.shared_limit.share import Share

# As in metronome.py: after this long without a sign of life the process may have been frozen, and what was granted
# just before it may be written just after it.
_STILL = 0.25
_WRITING = 0.04
_ALIVE = 0.5
_NAP = 0.25
_LEARNT_FROM = 10


class SharedPace:
    """Beats as `Metronome` does, when *share* says so. *line* is who waits for a beat.

    A slot is used from its time until the allowed lateness after it. Later it is lost, so a process that was frozen
    sends nothing of what it had reserved before.
    """

    def __init__(
        self, share: Share, line: Sized, *, clock: Callable[[], float], sleep: Callable[[float], Awaitable[object]]
    ) -> None:
        self._share, self._line, self._clock, self._sleep = share, line, clock, sleep
        self._alone = Metronome(clock)
        self._lease = Lease()
        self._static = False
        self._last = self._taken = -math.inf
        self._seen = clock()
        self._asking: asyncio.Task[None] | None = None
        self.lateness = self._alone.lateness

    async def beat(self, rate: float, now: float) -> bool:
        """See `Metronome.beat`."""
        if not self._share.open:
            return await self._alone.beat(rate, now)
        return not self._outdated() and self._take(now)

    async def tick(self, rate: float) -> float:
        """See `Metronome.tick`."""
        while self._share.open:
            now = self._clock()
            self._note_standstill(rate, now)
            if self._outdated():
                self._lease.drop()
            if self._take(now):
                return now
            due = self._lease.next(now, self.lateness.allowance)
            if due is None:
                await self._fill(rate)
            else:
                await self._await(due, rate)
        return await self._alone.tick(rate)

    def owe(self) -> None:
        """See `Metronome.owe`."""
        if self._share.open:
            self._lease.owe(1)
        else:
            self._alone.owe()

    def give_back(self, granted_at: float, rate: float) -> bool:
        """Keep the slot of *granted_at* for as long as it may be used; say whether it may."""
        if not self._share.open:
            return self._alone.give_back(granted_at, rate)
        fresh = granted_at == self._last and self._clock() <= self._taken + self.lateness.allowance
        if fresh:
            self._lease.put_back(self._taken)
            self._last = -math.inf
        return fresh

    def take_back(self) -> None:
        """Take the slot that was kept: somebody has it."""
        if self._share.open:
            self._take(self._clock())
        else:
            self._alone.take_back()

    def _take(self, now: float) -> bool:
        due = self._lease.take(now, self.lateness.allowance)
        if due is None:
            return False
        self._last, self._taken = now, due
        return True

    def _outdated(self) -> bool:
        """Whether what is in hand goes by a plan that does not hold any more."""
        return self._static and not self._share.lost and len(self._lease) > 0

    def _note_standstill(self, rate: float, now: float) -> None:
        if now - max(self._seen, self._share.alive_at) > _ALIVE + _STILL:
            self._lease.owe(math.ceil(rate / self._share.members * _WRITING))
        self._seen = now

    async def _await(self, due: float, rate: float) -> None:
        now = self._clock()
        until = due if self._lease_will_do() else max(due - self._lead(rate), now)
        if until <= now:
            self._ask(rate)
            until = due
        wakes = min(until, now + _NAP) if self._static else until
        await self._sleep(wakes - now)
        late = self._clock() - wakes
        self._seen = self._clock()
        if late >= _STILL:
            self._lease.owe(math.ceil(rate / self._share.members * _WRITING))
        elif wakes == due:
            # of many processes each sees few beats: it learns from each as much as one alone would from them all
            for _ in range(min(self._share.members, _LEARNT_FROM)):
                self.lateness.note(max(late, 0.0))

    def _lease_will_do(self) -> bool:
        return self._asking is not None or self._share.lost or len(self._lease) >= len(self._line)

    def _lead(self, rate: float) -> float:
        """Seconds before the last slot's time at which to ask for more: none where the next comes long after it."""
        trip = self._share.round_trip
        return 1.5 * trip if trip > self._share.members / rate / 4 else 0.0

    def _ask(self, rate: float) -> None:
        self._asking = asyncio.get_running_loop().create_task(self._draw(rate), name="d3async-slots")
        self._asking.add_done_callback(lambda _: setattr(self, "_asking", None))

    async def _fill(self, rate: float) -> None:
        if (held := self._share.held_until - self._clock()) > 0:
            await self._sleep(held)
        elif self._asking is not None:
            await asyncio.wait({self._asking})
        elif self._share.lost:
            self._static = True
            self._lease.add(self._share.static_turn(rate, self._taken), every=1.0, slots=1)
        else:
            await self._draw(rate)

    async def _draw(self, rate: float) -> None:
        share = self._share
        slots = slots_to_ask(rate, members=share.members, waiting=len(self._line), round_trip=share.round_trip)
        got = await share.reserve(rate, slots=slots, late=self.lateness.allowance)
        if got is None:
            return
        self._static = False
        if got.number:
            self._lease.add(got.first, every=got.every, slots=got.number)
        else:
            await self._sleep(min(max(got.first - self._clock(), 0.0), _NAP))
