"""Slot, gate, token: every request waits here for its place, its pause and its turn."""

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from d3async.ratelimit.rate_controller import InFlightCap, JitterMargin, Outage, RateController
from d3async.ratelimit.token_queue import TokenQueue

if TYPE_CHECKING:
    from d3async.ratelimit.shared_limiter import SharedLimit


@dataclass(frozen=True, slots=True)
class LimiterNumbers:
    """What the limiter knows at one moment. Rates are requests a second, times are seconds.

    *ceiling* is the limit that was set, else the one learnt from refusals, else None. *paused_s* is the time the
    gate was closed while a request waited. *learnt* is the rate the last refusal showed the server to accept; None
    before the first, and again once the ceiling is regained. *members* is how many processes share the limit.
    """

    rate: float
    ceiling: float | None
    granted: int
    throttled: int
    paused_s: float
    in_flight: int
    in_flight_cap: int
    waiting: int
    opens_in: float
    outages: int
    learnt: float | None
    members: int = 1


class Limiter:
    """One limit, shared by every caller of one event loop.

    aiolimiter is the clock, `ratelimit.rate_controller` the mind. The order is slot, token, (journal), wire. *rate* is
    the most requests in any second, paced a little below; None finds it. *concurrency* is the most requests in flight.
    A token may be used up to 20 ms later than it was granted without more than *rate* requests reaching the wire in any
    second; tell `settle_jitter` where it takes longer. With a *share* of a limit, see `d3async.ratelimit.choose_store`,
    all of this holds for every process that has one together.

    Raises RuntimeError where a second event loop uses it while the first is still open.
    """

    def __init__(
        self,
        *,
        rate: float | None = 50.0,
        concurrency: int = 32,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random: Callable[[], float] = random.random,
        share: "SharedLimit | None" = None,
    ) -> None:
        if rate is not None and not 0 < rate < float("inf"):
            raise ValueError(f"rate must be a positive number of requests a second, or None to find it; got {rate!r}")
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1; got {concurrency!r}")
        self._set_rate = rate
        self._clock, self._random = clock, random
        self._share = share
        self._mind = RateController(rate) if share is None else share.mind(rate)
        self._outage = Outage()
        self._rules = _Both(self._mind, self._outage)
        self._turns = TokenQueue(self._rules, clock=clock, sleep=sleep, pacer=None if share is None else share.pace)
        self._margin = JitterMargin() if share is None else JitterMargin(share.jitter)
        self._cap = InFlightCap(concurrency)
        self._places: deque[asyncio.Future[None]] = deque()
        self._in_flight = 0
        self._throttled = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def shared(self) -> AbstractAsyncContextManager[object]:
        """A block in which the limit is shared, if this limiter has a share; blocks may overlap."""
        return nullcontext() if self._share is None else self._share

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold one in-flight place, first come first served; the places shrink under time-outs and 5xx."""
        await self.take_slot()
        try:
            yield
        finally:
            self.leave_slot()

    def slot_now(self) -> bool:
        """Take an in-flight place if one is free and no request waits for it; say whether it was taken."""
        self._enter_loop()
        if self._places or self._in_flight >= self._cap.cap:
            return False
        self._in_flight += 1
        return True

    async def take_slot(self) -> None:
        """Wait for an in-flight place. A cancelled wait takes none."""
        if self.slot_now():
            return
        place: asyncio.Future[None] = self._enter_loop().create_future()
        self._places.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.cancelled():
                with suppress(ValueError):
                    self._places.remove(place)
            else:
                self.leave_slot()
            raise

    def leave_slot(self) -> None:
        """Give an in-flight place back."""
        self._in_flight -= 1
        if self._places:
            self._fill_places()

    async def free_token(self) -> float | None:
        """Return what `token` does if it has not to wait, else None; never waits."""
        self._enter_loop()
        return await self._turns.take_free()

    async def token(self, *, head: bool = False) -> float:
        """Wait for gate and pace, first come first served; return the clock time of the grant ("sent at").

        *head* is for a retry: it goes before everyone but earlier retries. A cancelled wait delays no other.
        """
        self._enter_loop()
        return await self._turns.take(head=head)

    def accepted(self, sent_at: float) -> None:
        """Note that the request granted at *sent_at* got an answer that was not a 429."""
        now = self._clock()
        self._mind.accepted(sent_at, now)
        self._cap.accepted(sent_at)
        if self._places:
            self._fill_places()
        self._outage.reached()
        self._turns.look_again()

    def throttled(self, sent_at: float, retry_after: float | None) -> None:
        """Note a 429 for the request granted at *sent_at*, with the wait in seconds that it stated."""
        self._throttled += 1
        self._mind.throttled(sent_at, self._clock(), retry_after, self._random())
        self._outage.reached()
        self._turns.look_again()
        if self._share is not None:
            self._share.publish()

    def strained(self, sent_at: float) -> None:
        """Note a time-out or a 5xx of the request granted at *sent_at*: fewer places in flight for everyone."""
        self._cap.strained(sent_at, self._clock())
        self._mind.failed(sent_at)
        self._outage.timed_out(sent_at)
        self._turns.look_again()

    def unreachable(self, sent_at: float) -> None:
        """Note that no connection could be made: everyone waits, 0.5 s doubling to 8 s, and one request tries."""
        self._mind.silent(sent_at)
        self._outage.unreachable(sent_at, self._clock(), self._random())
        self._turns.look_again()

    def unused(self, sent_at: float) -> None:
        """Note that the request granted at *sent_at* will not be sent: its token goes to the next in the queue."""
        self._turns.give_back(sent_at)
        self._turns.look_again()

    def settle_jitter(self, header_delay_s: float) -> None:
        """Take in how long after its grant a request's headers were written; widens the margin where it varies."""
        before = self._margin.margin
        for _ in range(self._margin.late(header_delay_s)):
            self._turns.metronome.owe()
        if self._margin.margin != before:
            self._mind.allow(jitter=self._margin.margin)

    @property
    def outages(self) -> int:
        """Outage events in a row; 0 while the server can be reached."""
        return self._outage.events

    @property
    def blocked_for(self) -> float:
        """Seconds since which nothing but 429 came; 0.0 unless the last answer was one."""
        return self._mind.blocked_for(self._clock())

    @property
    def opens_in(self) -> float:
        """Seconds until the gate opens; 0.0 while it is open."""
        return max(self._rules.opens_at() - self._clock(), 0.0)

    @property
    def numbers(self) -> LimiterNumbers:
        """The state of this moment, for progress and summary."""
        return LimiterNumbers(
            rate=self._mind.rate,
            ceiling=self._mind.learnt if self._set_rate is None else self._set_rate,
            granted=self._rules.grants,
            throttled=self._throttled,
            paused_s=self._turns.paused,
            in_flight=self._in_flight,
            in_flight_cap=self._cap.cap,
            waiting=len(self._turns),
            opens_in=self.opens_in,
            outages=self._outage.events,
            learnt=self._mind.learnt,
            members=1 if self._share is None else self._share.members,
        )

    def _enter_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None and not self._loop.is_closed():
                raise RuntimeError("this Limiter belongs to another event loop that is still open; make one per loop")
            self._loop = loop
            self._places.clear()
            self._in_flight = 0
            self._turns = self._turns.afresh()
        return loop

    def _fill_places(self) -> None:
        while self._places and self._in_flight < self._cap.cap:
            place = self._places.popleft()
            if not place.done():
                self._in_flight += 1
                place.set_result(None)


class _Both:
    """The rate controller and the outage gate, asked as one."""

    def __init__(self, mind: RateController, outage: Outage) -> None:
        self._mind, self._outage = mind, outage
        self.grants = 0
        self._lateness = 0.0

    def pace(self) -> float:
        return self._mind.rate

    def opens_at(self) -> float:
        return max(self._mind.opens_at, self._outage.opens_at)

    def open(self, now: float) -> bool:
        return now >= self._mind.opens_at and now >= self._outage.opens_at

    def late(self, allowance: float) -> None:
        if allowance != self._lateness:
            self._lateness = allowance
            self._mind.allow(lateness=allowance)

    def granted(self, now: float) -> None:
        self.grants += 1
        if self._mind.probing:
            self._mind.granted(now)
        if self._outage.events:
            self._outage.granted(now)

    def returned(self, granted_at: float) -> None:
        self.grants -= 1
        self._mind.silent(granted_at)
        self._outage.unused(granted_at)
