"""Our controller and what people use instead, behind one face: when may the next request leave?"""

# ruff: noqa: ARG002 - a client has the face of all clients and uses what it needs

import math
import random
from typing import Protocol

from d3async.ratelimit.rate_controller import LatenessAllowance, RateController, burst

LIMIT = 50.0


class Client(Protocol):
    backs_off_alone: bool
    """Whether a refused task sleeps by itself (full jitter, or the stated wait) before it asks for its turn again."""

    def ready_at(self, now: float) -> float: ...
    def sent(self, now: float) -> None: ...
    def accepted(self, sent_at: float, now: float) -> None: ...
    def refused(self, sent_at: float, now: float, wait: float | None) -> None: ...


class LeakyBucket:
    """aiolimiter's arithmetic, for a fixed rate."""

    backs_off_alone = True

    def __init__(self, rate: float, capacity: float) -> None:
        self.rate, self.capacity = rate, capacity
        self._level = 0.0
        self._last = 0.0

    def ready_at(self, now: float) -> float:
        level = max(self._level - (now - self._last) * self.rate, 0.0)
        return now + max(level + 1 - self.capacity, 0.0) / self.rate

    def sent(self, now: float) -> None:
        self._level = max(self._level - (now - self._last) * self.rate, 0.0) + 1
        self._last = now

    def accepted(self, sent_at: float, now: float) -> None: ...
    def refused(self, sent_at: float, now: float, wait: float | None) -> None: ...


class NoLimiter(LeakyBucket):
    def __init__(self) -> None:
        super().__init__(1.0, 1.0)

    def ready_at(self, now: float) -> float:
        return now

    def sent(self, now: float) -> None: ...


class Asynciolimiter:
    """asynciolimiter's `Limiter`: a beat on a grid, up to five missed beats made up for."""

    backs_off_alone = True

    def __init__(self, rate: float, max_burst: int = 5) -> None:
        self._beat, self._most = 1 / rate, max_burst / rate
        self._next = 0.0

    def ready_at(self, now: float) -> float:
        return max(now, self._next)

    def sent(self, now: float) -> None:
        self._next = max(self._next, now - self._most) + self._beat

    def accepted(self, sent_at: float, now: float) -> None: ...
    def refused(self, sent_at: float, now: float, wait: float | None) -> None: ...


class Botocore:
    """botocore 1.44's adaptive mode: a token bucket of one second, off until the first refusal, moved by CUBIC."""

    backs_off_alone = True

    def __init__(self) -> None:
        self._enabled = False
        self._rate = self._capacity = self._tokens = 0.5
        self._filled_at = 0.0
        self._w_max = 0.0
        self._fell_at = 0.0
        self._measured = 0.0
        self._bin = 0.0
        self._in_bin = 0

    def ready_at(self, now: float) -> float:
        if not self._enabled:
            return now
        self._fill(now)
        return now + max(1 - self._tokens, 0.0) / self._rate

    def sent(self, now: float) -> None:
        if self._enabled:
            self._fill(now)
            self._tokens -= 1

    def accepted(self, sent_at: float, now: float) -> None:
        self._measure(now)
        k = (self._w_max * 0.3 / 0.4) ** (1 / 3)
        self._set(min(0.4 * (now - self._fell_at - k) ** 3 + self._w_max, 2 * self._measured), now)

    def refused(self, sent_at: float, now: float, wait: float | None) -> None:
        self._measure(now)
        self._w_max = min(self._rate, self._measured) if self._enabled else self._measured
        self._fell_at = now
        self._enabled = True
        self._set(0.7 * self._w_max, now)

    def _measure(self, now: float) -> None:
        self._in_bin += 1
        half_second = math.floor(now * 2) / 2
        if half_second > self._bin:
            self._measured = 0.8 * self._in_bin / (half_second - self._bin) + 0.2 * self._measured
            self._bin, self._in_bin = half_second, 0

    def _fill(self, now: float) -> None:
        self._tokens = min(self._tokens + (now - self._filled_at) * self._rate, self._capacity)
        self._filled_at = now

    def _set(self, rate: float, now: float) -> None:
        self._fill(now)
        self._rate = max(rate, 0.5)
        self._capacity = max(self._rate, 1.0)
        self._tokens = min(self._tokens, self._capacity)


class Ours:
    """`d3async.ratelimit.rate_controller.RateController`, the very object, paced by the arithmetic of the limiter's

    clock.
    """

    backs_off_alone = False

    def __init__(self, dice: random.Random, limit: float | None = LIMIT) -> None:
        self.mind = RateController(limit)
        self._dice = dice
        self._lateness = LatenessAllowance()
        self._next = self._due = -math.inf

    def ready_at(self, now: float) -> float:
        rate = self.mind.rate
        at = self._next + (2 - burst(rate, self._lateness.allowance)) / rate
        return max(at, self.mind.opens_at, now)

    def sent(self, now: float) -> None:
        rate = self.mind.rate
        if self.mind.opens_at < self._due:
            self._lateness.note(min(now - self._due, 0.25))
            self.mind.allow(lateness=self._lateness.allowance)
        self._next = max(self._next + 1 / rate, now)
        self._due = now + 1 / rate
        self.mind.granted(now)

    def accepted(self, sent_at: float, now: float) -> None:
        self.mind.accepted(sent_at, now)

    def refused(self, sent_at: float, now: float, wait: float | None) -> None:
        self.mind.throttled(sent_at, now, wait, self._dice.random())


CLIENTS = {
    "no limiter": lambda _: NoLimiter(),
    "AsyncLimiter(50, 1)": lambda _: LeakyBucket(LIMIT, LIMIT),
    "AsyncLimiter(1, 1/50)": lambda _: LeakyBucket(LIMIT, 1.0),
    "asynciolimiter(50)": lambda _: Asynciolimiter(LIMIT),
    "botocore adaptive": lambda _: Botocore(),
    "d3async": Ours,
    "d3async --rate auto": lambda dice: Ours(dice, None),
}
