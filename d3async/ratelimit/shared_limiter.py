"""One process's part of a shared limit: slots reserved, signs of life, and the pacer of these slots."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from d3async.ratelimit.shared_rate_controller import JITTER, SharedRateController
from d3async.ratelimit.store_protocol import (
    BEAT,
    BEAT_IDLE,
    COMING_BACK,
    PROMISE,
    PROMISE_IDLE,
    WINDOW,
    Heartbeat,
    Members,
    ReservedSlots,
    SharedClock,
    SlotRequest,
    StoreError,
    StoreOutage,
    again_after,
    left_over,
    own_turn,
    slots_to_ask,
)
from d3async.ratelimit.token_queue import Pacer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sized
    from typing import Self

    from d3async.ratelimit.shared_rate_controller import LearnedRate
    from d3async.ratelimit.store_protocol import LimitStore

# As in metronome.py: after this long without a sign of life the process may have been frozen, and what was granted
# just before it may be written just after it.
_STILL = 0.25
_WRITING = 0.04
_ALIVE = 0.5
_NAP = 0.25
_LEARNT_FROM = 10


class SharedPacer:
    """Beats as `Pacer` does, when *share* says so. *line* is who waits for a beat.

    A slot is used from its time until the allowed lateness after it. Later it is lost, so a process that was frozen
    sends nothing of what it had reserved before.
    """

    def __init__(
        self,
        share: SharedLimit,
        line: Sized,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]],
    ) -> None:
        self._share, self._line, self._clock, self._sleep = share, line, clock, sleep
        self._alone = Pacer(clock)
        self._lease = ReservedSlots()
        self._static = False
        self._last = self._taken = -math.inf
        self._seen = clock()
        self._asking: asyncio.Task[None] | None = None
        self.lateness = self._alone.lateness

    async def beat(self, rate: float, now: float) -> bool:
        """See `Pacer.beat`."""
        if not self._share.open:
            return await self._alone.beat(rate, now)
        return not self._outdated() and self._take(now)

    async def tick(self, rate: float) -> float:
        """See `Pacer.tick`."""
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
        """See `Pacer.owe`."""
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
        """Take the slot that was kept: it is used now."""
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


log = logging.getLogger("d3async")

UNSEEN = 8
"""Processes to reckon with where the store could never be asked how many there are."""
_STATIC = 0.95
"""Part of the limit that is divided while the store is lost: each keeps its own pace, and the plans may differ."""

PROBE, SOON = 1.0, 0.05
"""Seconds between two probes while nothing but 429 comes, and within which a probe must leave that is reserved."""


class Slots(NamedTuple):
    """Slots that were reserved: the *first*'s time on the own clock, seconds between two, and their *number*."""

    first: float
    every: float
    number: int


class SharedLimit:
    """The limit *key* of *store*, as one process sees it, for one `Limiter` in one event loop; entered once or oftener.

    While it is not open the limiter paces for itself alone. Where the store cannot be reached, each process takes
    the rate divided by the processes last seen, in turns, until it can; *tell* hears of both. Nothing is raised.
    A store that is *owned* is opened and closed with the share.
    """

    def __init__(
        self,
        store: LimitStore,
        key: str,
        *,
        owned: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random: Callable[[], float] = random.random,
        tell: Callable[[str], None] = log.warning,
    ) -> None:
        self.key, self._owned = key, owned
        self.name = uuid4().hex
        self.standing = Members(UNSEEN, 0, int(random() * UNSEEN) % UNSEEN)
        self.alive_at = self._beat_at = clock()
        self.held_until = -math.inf
        self._store, self._clock, self._sleep, self._random, self._tell = store, clock, sleep, random, tell
        self._contact, self._there = StoreOutage(), SharedClock()
        self._said_lost, self._entered = False, 0
        self._mind = SharedRateController(None)
        self._limit: float | None = None
        self._members, self._silent = 1, 0
        self._used, self._promise = False, 0.0
        self._wake = asyncio.Event()
        self._living: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._entered += 1
        if self._entered > 1:
            return self
        try:
            if self._owned:
                await self._store.__aenter__()
            await self._beat()
        except BaseException:
            self._entered -= 1
            await self._close()
            raise
        self._living = asyncio.create_task(self._live(), name="d3async-share")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._entered -= 1
        if self._entered:
            return
        if self._living is not None:
            self._living.cancel()
            with suppress(asyncio.CancelledError):
                await self._living
            self._living = None
        if not self._contact.lost:
            with suppress(StoreError):
                await self._store.leave(self.key, self.name)
        await self._close()

    async def _close(self) -> None:
        if self._owned:
            await self._store.__aexit__()

    @property
    def open(self) -> bool:
        """Whether slots are to be had here."""
        return self._living is not None

    @property
    def lost(self) -> bool:
        """Whether the store cannot be reached at the moment."""
        return self._contact.lost

    @property
    def members(self) -> int:
        """Processes that share the limit, this one included, as far as is known."""
        return self.standing.members

    @property
    def round_trip(self) -> float:
        """Seconds from a question to the store until its answer."""
        return self._there.round_trip

    @property
    def jitter(self) -> float:
        """The least margin for requests that shift against each other, in seconds."""
        return JITTER

    def mind(self, limit: float | None) -> SharedRateController:
        """The rate controller of the limiter that uses this share; *limit* in requests a second, None finds it."""
        self._mind, self._limit = SharedRateController(limit), limit
        return self._mind

    def pace(self, line: Sized) -> SharedPacer:
        """The metronome of the limiter that uses this share; *line* is who waits for a beat."""
        return SharedPacer(self, line, clock=self._clock, sleep=self._sleep)

    def publish(self) -> None:
        """Tell the others at once what the mind has learnt."""
        self._wake.set()

    async def reserve(self, rate: float, *, slots: int, late: float) -> Slots | None:
        """Reserve *slots* of *rate* a second. None where the store has been lost."""
        self._note_use()
        wish = self._wish(rate, slots, late)
        left = self._clock()
        try:
            got = await self._store.reserve(self.key, wish)
        except StoreError as error:
            self._lost(error)
            return None
        set_forward = self._there.sample(left, got.now, came := self._clock())
        self._members, self._silent = got.members, got.silent
        self._mind.learn(got.lesson, got.gate + self._there.offset, came)
        if self._mind.news or (got.members != self.standing.members and came - self._beat_at > BEAT / 5):
            self._wake.set()
        first = got.first + self._there.offset
        if set_forward:
            # what others have reserved is in the past now, and is sent all the same
            self._pause(came)
            return Slots(self.held_until, wish.every, 0)
        return Slots(first, wish.every, wish.slots if got.granted else 0)

    def _wish(self, rate: float, slots: int, late: float) -> SlotRequest:
        late = max(late - 2 * self.round_trip, 0.0)
        if self._mind.probing:
            # one of all tries the door; who is not the one asks again later
            return SlotRequest(1, PROBE, late, SOON, self._mind.epoch, rate)
        every = 1 / left_over(rate, replace(self.standing, members=self._members, silent=self._silent))
        return SlotRequest(slots, every, late, math.inf, self._mind.epoch, rate)

    def static_turn(self, rate: float, after: float) -> float:
        """The next turn of this process while the store is lost, later than *after*, on the own clock."""
        self._note_use()
        every = 1 / min(rate, self._limit * _STATIC if self._limit else rate)
        earliest = max(self._clock(), self._contact.static_from(), after + every / 2) - self._there.offset
        return own_turn(earliest, every=every, standing=self.standing) + self._there.offset

    def _note_use(self) -> None:
        self._used = True
        if self._promise == PROMISE_IDLE:
            self._wake.set()

    def _pause(self, now: float) -> None:
        self.held_until = now + WINDOW
        self._mind.hold(self.held_until)
        self._wake.set()

    async def _live(self) -> None:
        while True:
            await self._nap()
            await self._beat()

    async def _nap(self) -> None:
        """Until the next sign of life, or until there is news; never so short that it becomes a flood."""
        until = self._clock() + self._beats_after()
        while (rest := until - self._clock()) > 0 and not self._wake.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(min(rest, BEAT)):
                    await self._wake.wait()
            self.alive_at = self._clock()
        self._wake.clear()

    def _beats_after(self) -> float:
        if self._contact.lost:
            return again_after(self._random())
        return BEAT if self._promise == PROMISE else BEAT_IDLE

    async def _beat(self) -> None:
        self._promise = PROMISE if self._used else PROMISE_IDLE
        self._used = False
        left = self._beat_at = self._clock()
        beat = self._news(left)
        try:
            told = await self._store.beat(self.key, self.name, beat)
        except StoreError as error:
            self._lost(error, self._promise if error.sent else 0.0)
            self._mind.untold(beat.lesson)
            return
        set_forward = self._there.sample(left, told.now, came := self._clock())
        if came >= self.held_until and not set_forward:
            # while everyone pauses, the others' promises were still made by the old time
            self.standing = told.standing
        self._members, self._silent = told.standing.members, told.standing.silent
        self._mind.others_accepted(told.standing.elsewhere)
        self._mind.learn(self._heard(beat.lesson, told.lesson), told.gate + self._there.offset, came)
        if set_forward:
            self._pause(came)
        if self._contact.lost and told.standing.unsure:
            # the others may be on their way back to a store that was lost, and do not know of this process
            self.held_until = came + COMING_BACK
        self._contact.heard(came, self._promise)
        if self._said_lost:
            self._said_lost = False
            self._tell("the limit is shared again")

    def _news(self, now: float) -> Heartbeat:
        mind = self._mind
        beat = Heartbeat(
            promise=self._promise,
            accepted=mind.accepted_lately(now),
            pause=mind.closed_for(now) if mind.raised else 0.0,
            known=mind.epoch,
            lesson=mind.lesson() if mind.news else None,
        )
        mind.told()
        return beat

    def _heard(self, ours: LearnedRate | None, theirs: LearnedRate) -> LearnedRate:
        """*theirs*; where it is the one this process told, it has nothing to learn from it."""
        if ours is not None and theirs == ours:
            self._mind.epoch = ours.epoch
        return theirs

    def _lost(self, error: StoreError, promise: float = 0.0) -> None:
        self._contact.gone(self._clock(), promise)
        if not self._said_lost:
            self._said_lost = True
            members = self.standing.members
            share = "going on alone" if members == 1 else f"keeping to 1/{members} of the rate"
            self._tell(f"the limit cannot be shared ({self._store.place}: {error.message}): {share} until it can")
            self._wake.set()
