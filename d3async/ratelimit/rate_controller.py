"""The rate controller: what each answer, and when it came, says about how fast to go and when to pause."""

import math

from d3async.sansio.probe import Probe
from d3async.sansio.recent import Recent
from d3async.sansio.regain import Regain

LATENESS = 0.010
"""Seconds by which the pacer may be late (timers, a busy loop) and still catch up."""
JITTER = 0.020
"""Seconds by which requests may be shifted against each other between grant and server."""

# Finding an unknown limit: from 10 a second, a little faster with each good answer.
_START_RATE, _STEP = 10.0, 0.6
_LOWEST_RATE = 0.5

# A cut goes below the rate that was accepted in the last second, which is what the server takes; the first of
# several is not deeper than this, because refusals that count as requests make that rate look low.
_BELOW = 0.95
_FIRST_CUT, _LATER_CUTS = 0.9, 0.5

# The gate: three requests' time, doubling up to three seconds, less a random part so that clients spread.
_FIRST_PAUSE, _LONGEST_PAUSE = 3.0, 3.0
_SURE_PART, _SURE_PART_BLOCKED = 0.5, 0.8
_BLOCKED_AFTER = 2
_REOPENED_AT = 0.95

# A refusal at full speed that stays alone was two requests meeting by accident: after so many good answers the rate
# is restored, and the margin against jitter is wider by this much until some minutes of good answers take it back.
_ALONE_AFTER, _ALONE_FOR = 2.0, 24
_WIDER, _MOST_ACCIDENTS, _FORGIVEN = 0.004, 20.0, 1 / 3000


def paced(limit: float, jitter: float = JITTER, lateness: float = LATENESS) -> float:
    """Turn a *limit* of requests a second into the rate to pace at.

    Pacing at rate r with burst b puts at most floor(r·w + b) requests into any w seconds. With b = 1 + lateness·r and
    w = 1 s stretched by the jitter, that is at most the limit for r = limit·(1 - lateness)/(1 + jitter).
    """
    return limit * (1 - lateness) / (1 + jitter)


def burst(rate: float, lateness: float = LATENESS) -> float:
    """Say how many requests the pacer may send at once at *rate*: one, and what was missed by being late."""
    return 1 + lateness * rate


class RateController:
    """Finds and keeps the fastest rate a server takes: time comes in as an argument, so do the dice.

    *limit* is the ceiling in requests a second, None where it is to be found. Times are seconds on any one monotonic
    clock. Nobody may leave before *opens_at*; *rate* is the pace from then on, *top* the fastest it may become,
    *learnt* the rate at which the server last refused, None once the top is regained; while *probing*, one request at
    a time finds out whether a block is over.

    Refusals of requests sent before an event was noticed belong to that event: one full window, seen by all that
    were in flight, is one cut and one pause.
    """

    def __init__(self, limit: float | None) -> None:
        self.top = math.inf if limit is None else paced(limit)
        self.rate = _START_RATE if limit is None else self.top
        self.opens_at = self._gate = -math.inf
        self.learnt: float | None = None
        self._limit = limit
        self._lowest = min(_LOWEST_RATE, self.top)
        self._jitter, self._lateness, self._accidents = JITTER, LATENESS, 0.0
        self._accepted = Recent()
        self._events, self._event_at = 0, -math.inf
        self._blocked_since: float | None = None
        self._starting = limit is None
        self.probing = self._reopening = False
        self._probe = Probe()
        self._before = self.rate
        self._scale = limit or _START_RATE
        self._regain: Regain | None = None
        self._alone_for = 0

    def holds(self, now: float) -> float:
        """Return the seconds until the next request may leave, as far as gate and probe decide."""
        return max(self.opens_at - now, 0.0)

    def blocked_for(self, now: float) -> float:
        """Return the seconds since which every answer was a refusal."""
        return 0.0 if self._blocked_since is None else max(now - self._blocked_since, 0.0)

    def allow(self, *, jitter: float | None = None, lateness: float | None = None) -> None:
        """Follow the *jitter* and the *lateness* that were measured, in seconds; None leaves the last."""
        self._jitter = self._jitter if jitter is None else jitter
        self._lateness = self._lateness if lateness is None else lateness
        self._set_top()

    def granted(self, now: float) -> None:
        """Note that a request leaves: after a block it is the only one until its answer comes."""
        if self.probing:
            self._probe.sent(now)
            self._close()

    def silent(self, sent_at: float) -> None:
        """Note that the request granted at *sent_at* will say nothing about the limit: unused, unsent or unanswered."""
        self._probe.back(sent_at)
        self._close()

    def failed(self, sent_at: float) -> None:
        """Note that the request granted at *sent_at* failed for another reason than the limit."""
        self._blocked_since = None
        self.silent(sent_at)

    def accepted(self, sent_at: float, now: float) -> None:
        """Note an answer, received *now*, that was not a refusal."""
        self._accepted.add(now)
        self._blocked_since = None
        if self._accidents:
            self._accidents = max(self._accidents - _FORGIVEN, 0.0)
            self._set_top()
        if sent_at > self._event_at:
            self._events = 0
            self._probe.back(sent_at)
            self._close()
            self._speed_up(now)

    def throttled(self, sent_at: float, now: float, retry_after: float | None, jitter: float) -> None:
        """Note a refusal received *now*; the server stated *retry_after* seconds, or None. *jitter* is in [0, 1).

        A stated wait of 0 is none: a server that says so while it refuses everything would be asked without end.
        """
        if self._blocked_since is None:
            self._blocked_since = now
        self._probe.back(sent_at)
        if sent_at > self._event_at:
            self._slow_down(now)
            pause = retry_after + jitter / self.rate if retry_after else self._own_pause(jitter)
            self._events += 1
            self._event_at = now
        else:
            pause = -math.inf if retry_after is None else retry_after
        self._gate = max(self._gate, now + pause)
        self._close()

    def _speed_up(self, now: float) -> None:
        if self._starting:
            self._raise_to(self.rate + _STEP)
        elif self.probing or self._reopening:
            self._reopen(now)
        elif self._alone_for == 1:
            self._take_for_an_accident()
        elif self._regain:
            self._alone_for = max(self._alone_for - 1, 0)
            self._raise_to(self._regain.rate(now))
            if self.rate == self.top:
                self._regain = self.learnt = None

    def _slow_down(self, now: float) -> None:
        accepted = self._accepted.count(now)
        self._alone_for = 0
        if not self._events:
            self._before = self.rate
            if self.rate == self.top and now - self._event_at > _ALONE_AFTER:
                self._alone_for = _ALONE_FOR
        if accepted or self._events < _BLOCKED_AFTER:
            self._cut(accepted, now)
        else:
            self.probing, self._reopening = True, False
            self.rate = max(self._before / 2, self._lowest)

    def _cut(self, accepted: float, now: float) -> None:
        deepest = _LATER_CUTS if self._events or self._starting else _FIRST_CUT
        plateau = min(self.rate, max(accepted, self.rate * deepest))
        if self._starting:
            self._scale = plateau
        self._starting = self._reopening = False
        self.learnt = plateau
        self.rate = max(_BELOW * plateau, self._lowest)
        self._regain = Regain(plateau, self.rate, now, self._scale)

    def _own_pause(self, jitter: float) -> float:
        most = min(_LONGEST_PAUSE, _FIRST_PAUSE / self.rate * 2.0 ** min(self._events, 20))
        sure = _SURE_PART_BLOCKED if self.probing else _SURE_PART
        return most * (sure + (1 - sure) * jitter)

    def _reopen(self, now: float) -> None:
        goal = _REOPENED_AT * self._before
        self.probing, self._reopening = False, True
        self._raise_to(min(self.rate + 1, goal))
        if self.rate >= goal:
            self._reopening = False
            self._regain = Regain(self._before, self.rate, now, self._scale)

    def _take_for_an_accident(self) -> None:
        self._alone_for, self._regain, self.learnt = 0, None, None
        self.rate = self.top
        self._accidents = min(self._accidents + 1, _MOST_ACCIDENTS)
        self._set_top()

    def _set_top(self) -> None:
        if self._limit is not None:
            at_top = self.rate == self.top
            self.top = paced(self._limit, self._jitter + self._accidents * _WIDER, self._lateness)
            self.rate = self.top if at_top else min(self.rate, self.top)

    def _raise_to(self, rate: float) -> None:
        self.rate = min(self.top, max(self.rate, rate))

    def _close(self) -> None:
        self.opens_at = max(self._gate, self._probe.until)
