"""The rate controller: what each answer, and when it came, says about how fast to go and when to pause."""

import math
from dataclasses import dataclass, field

from d3async.sansio.probe import Probe
from d3async.sansio.scatter import Scatter

WINDOW = 1.0
"""Seconds over which a limit of L requests counts: a rate is per second."""
LATENESS = 0.010
"""Seconds by which the pacer may be late (timers, a busy loop) and still catch up."""
JITTER = 0.020
"""Seconds by which requests may be shifted against each other between grant and server."""

_START_RATE = 5.0
_LOWEST_RATE = 0.5
_MARGIN = 0.05
_CUBIC = 0.2
_HOPELESS_AFTER = 2
_LONE = 24
_LONE_AFTER = 5.0
_LONGEST_BACKOFF = 2.0


def paced(limit: float, jitter: float = JITTER) -> float:
    """Turn a *limit* of requests a second into the rate to pace at.

    Pacing at rate r with burst b puts at most floor(r·w + b) requests into any w seconds. With b = 1 + LATENESS·r and
    w stretched by the jitter, that stays at or below the limit for r = limit·(1 - LATENESS)/(1 + jitter).
    """
    return limit * (WINDOW - LATENESS) / (WINDOW + jitter)


def burst(rate: float) -> float:
    """Say how many requests the pacer may send at once at *rate*: one, and what was missed by being late."""
    return 1 + LATENESS * rate


@dataclass(slots=True)
class Recent:
    """Counts events over the last second, in tenths, so that memory does not grow with the rate."""

    _tenths: list[int] = field(default_factory=lambda: [0] * 10)
    _newest: int = 0

    def add(self, now: float) -> None:
        """Count one event *now*."""
        self._forget(now)
        self._tenths[self._newest % 10] += 1

    def count(self, now: float) -> int:
        """Return the events of the second that ends *now*."""
        self._forget(now)
        return sum(self._tenths)

    def _forget(self, now: float) -> None:
        tenth = math.floor(now * 10)
        for stale in range(max(self._newest + 1, tenth - 9), tenth + 1):
            self._tenths[stale % 10] = 0
        self._newest = max(self._newest, tenth)


class RateController:
    """Finds and keeps the fastest rate a server takes: time comes in as an argument, so do the dice.

    *limit* is the ceiling in requests a second, None where it is to be found. Times are seconds on any one
    monotonic clock; *jitter* arguments are numbers in [0, 1).
    """

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self.top = math.inf if limit is None else paced(limit)
        self.rate = _START_RATE if limit is None else self.top
        self._lowest = min(_LOWEST_RATE, self.top)
        self.opens_at = self._gate = -math.inf
        self.learnt: float | None = None
        self._starting = limit is None
        self._accepted = Recent()
        self._events = 0
        self._event_at = -math.inf
        self._blocked_since: float | None = None
        self._probing = self._reopening = False
        self._probe = Probe()
        self._before = self.rate
        self._plateau = self.rate
        self._cut_to = self.rate
        self._cut_at: float | None = None
        self._scatter = Scatter()
        self._lone = 0

    def holds(self, now: float) -> float:
        """Return the seconds until the next request may leave, as far as gate and probe decide."""
        return max(self.opens_at - now, 0.0)

    def granted(self, now: float) -> None:
        """Note that a request leaves: after a block it is the only one until its answer comes."""
        if self._probing:
            self._probe.sent(now)
            self._close()

    def blocked_for(self, now: float) -> float:
        """Return the seconds since which every answer was a refusal."""
        return 0.0 if self._blocked_since is None else max(now - self._blocked_since, 0.0)

    def accepted(self, sent_at: float, now: float) -> None:
        """Note an answer, received *now*, that was not a refusal."""
        self._accepted.add(now)
        self._blocked_since = None
        if sent_at <= self._event_at:
            return
        self._events = 0
        self._probe.back(sent_at)
        self._close()
        if self._scatter.on:
            self.rate = min(self._scatter.follow(self.rate, refused=False), self.top)
        elif self._starting:
            self._raise_to(self.rate + 1)
        elif self._probing or self._reopening:
            self._reopen(now)
        elif self._lone == 1:
            self.rate, self._lone, self._cut_at = self.top, 0, None
        elif self._cut_at is not None:
            self._lone = max(self._lone - 1, 0)
            self._climb(now)

    def silent(self, sent_at: float) -> None:
        """Note that the request granted at *sent_at* will say nothing about the limit: unused, unsent or unanswered."""
        self._probe.back(sent_at)
        self._close()

    def allow(self, jitter: float) -> None:
        """Follow a *jitter* margin that was measured, in seconds."""
        at_top = self.rate == self.top
        self.top = math.inf if self._limit is None else paced(self._limit, jitter)
        self.rate = self.top if at_top else min(self.rate, self.top)

    def throttled(self, sent_at: float, now: float, retry_after: float | None, jitter: float) -> None:
        """Note a refusal received *now*; the server stated *retry_after* seconds, or nothing."""
        if self._blocked_since is None:
            self._blocked_since = now
        stated = -math.inf if retry_after is None else now + retry_after
        if sent_at <= self._event_at:
            self._gate = max(self._gate, stated)
            self._close()
            return
        accepted = self._accepted.count(now)
        self._scatter.event(now, self.rate, accepted)
        if self._scatter.on:
            self.rate = max(self._scatter.follow(self.rate, refused=True), self._lowest)
            self._gate = max(self._gate, stated, now + 1 / self.rate)
            self._event_at = now
        else:
            self._congested(accepted, now, stated, jitter)
        self._probe.back(sent_at)
        self._close()

    def _congested(self, accepted: int, now: float, stated: float, jitter: float) -> None:
        if not self._events:
            self._before = self.rate
            self._lone = _LONE if self.rate >= self.top and now - self._event_at > _LONE_AFTER else 0
        else:
            self._lone = 0
        if accepted or self._events < _HOPELESS_AFTER:
            self._cut(accepted, now)
        else:
            self._probing, self._reopening = True, False
            self._cut_to = self.rate = max(self._before / 2, self._lowest)
        own = now + min(_LONGEST_BACKOFF, 2 / self.rate * 2**self._events) * (0.5 + 0.5 * jitter)
        self._gate = max(self._gate, own if math.isinf(stated) else stated + jitter / self.rate)
        self._events += 1
        self._event_at = now

    def _close(self) -> None:
        self.opens_at = max(self._gate, self._probe.until)

    def _cut(self, accepted: float, now: float) -> None:
        self._starting = False
        self._plateau = min(self.rate, max(accepted, self.rate / 2))
        self.learnt = self._plateau
        self._cut_to = self.rate = max((1 - _MARGIN) * self._plateau, self._lowest)
        self._cut_at = now

    def _reopen(self, now: float) -> None:
        goal = 0.95 * self._before
        self._probing, self._reopening = False, True
        self._raise_to(min(self.rate + 1, goal))
        if self.rate >= goal:
            self._reopening = False
            self._plateau, self._cut_to, self._cut_at = self._before, self.rate, now

    def _climb(self, now: float) -> None:
        if self._cut_at is None:
            return
        inflection = (max(self._plateau - self._cut_to, 0.0) / _CUBIC) ** (1 / 3)
        since = now - self._cut_at
        self._raise_to(_CUBIC * (since - inflection) ** 3 + self._plateau)

    def _raise_to(self, rate: float) -> None:
        self.rate = min(self.top, max(self.rate, rate))
