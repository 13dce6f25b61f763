"""How fast to go, from what each answer says: cuts, pauses, the way back; outages; requests in flight."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass


class RecentEvents:
    """Times are seconds on any one monotonic clock."""

    def __init__(self) -> None:
        self._tenths = [0] * 10
        self._newest = 0

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
        if tenth <= self._newest:
            return
        for stale in range(max(self._newest + 1, tenth - 9), tenth + 1):
            self._tenths[stale % 10] = 0
        self._newest = tenth


_SECONDS = 5.6
"""Time in which the rate gains its whole scale beyond the plateau, if there is no refusal."""


@dataclass(frozen=True, slots=True)
class RateRecovery:
    """A cubic through a plateau (CUBIC, RFC 9438 §4.2). Rates are requests a second.

    *plateau* is the rate at which the server refused, *start* the one it was cut to *at* that time; *scale* is the
    same for clients that share a limit, so that the slower gains as much as the faster and they become equal.
    """

    plateau: float
    start: float
    at: float
    scale: float

    def rate(self, now: float) -> float:
        """Return the rate to try *now*."""
        to_plateau = math.cbrt(max(self.plateau - self.start, 0.0) / self.scale)
        return self.plateau + self.scale * ((now - self.at) / _SECONDS - to_plateau) ** 3


_PATIENCE = 10.0


class Probe:
    """At most one is out, and the others wait *until* its fate is known; after 10 s without it is given up."""

    def __init__(self) -> None:
        self._sent_at = -math.inf
        self.until = -math.inf

    def sent(self, now: float) -> None:
        """Note that the probe leaves *now*."""
        self._sent_at, self.until = now, now + _PATIENCE

    def back(self, sent_at: float) -> None:
        """Note the fate of the request granted at *sent_at*; only the probe's own matters."""
        if sent_at == self._sent_at:
            self.until = -math.inf


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
    clock. No request may leave before *opens_at*; *rate* is the pace from then on, *top* the fastest it may become,
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
        self._accepted = RecentEvents()
        self._events, self._event_at = 0, -math.inf
        self._blocked_since: float | None = None
        self._starting = limit is None
        self.probing = self._reopening = False
        self._probe = Probe()
        self._before = self.rate
        self._scale = limit or _START_RATE
        self._regain: RateRecovery | None = None
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
        self._regain = RateRecovery(plateau, self.rate, now, self._scale)

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
            self._regain = RateRecovery(self._before, self.rate, now, self._scale)

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


_SAMPLES = 200
_EVERY = 20
_MOST = 0.100
_FIRST = 0.002
"""How late the very first request may be: much is done once, here and there, and its second would be the fullest."""


class JitterMargin:
    """Keeps the last grant-to-wire delays (seconds) and the spread, *least* at least, of all but the oddest of them."""

    def __init__(self, least: float = JITTER) -> None:
        self._least = self.margin = least
        self._usual = math.inf
        self._delays: deque[float] = deque(maxlen=_SAMPLES)
        self._seen = 0

    def late(self, delay: float) -> int:
        """Take in one *delay*; say how many requests count in a later window too, because they were beyond the margin.

        The first requests make their connections: once one of them shows what is usual, others turn out to be late.
        """
        before = self._usual
        self._delays.append(delay)
        self._seen += 1
        if not self._seen % _EVERY:
            self._look()
        elif self._seen < _EVERY:
            self._usual = min(before, delay)
        if self._seen <= _EVERY and self._usual < before:
            first, *others = self._delays
            slack = [first - _FIRST, *(other - self.margin for other in others)]
            return sum(self._usual < other <= before for other in slack)
        return int(delay - self.margin > self._usual)

    def _look(self) -> None:
        ordered = sorted(self._delays)
        odd = len(ordered) // 50
        self._usual = ordered[odd]
        self.margin = min(max(ordered[-1 - odd] - self._usual, self._least), _MOST)


_LATE_STEP = 0.005
_MOST_LATE = 0.050
_UP, _DOWN = 0.00095, 0.00005


class LatenessAllowance:
    """Follows the lateness (seconds) that nineteen of twenty beats keep to: allowing more costs more than it saves.

    Allowed in steps, so that the rate does not change with every beat.
    """

    def __init__(self) -> None:
        self.allowance = LATENESS
        self._usual = 0.0

    def note(self, late: float) -> None:
        """Take in how *late* one beat was."""
        self._usual = min(self._usual + _UP, _MOST_LATE) if late > self._usual else max(self._usual - _DOWN, 0.0)
        self.allowance = max(math.ceil(self._usual / _LATE_STEP) * _LATE_STEP, LATENESS)


_FIRST_WAIT = 0.5
_LONGEST_WAIT = 8.0


class Outage:
    """Counts outage events; no request leaves before *opens_at*. Times are seconds on any one monotonic clock."""

    def __init__(self) -> None:
        self.events = 0
        self._event_at = -math.inf
        self._gate = -math.inf
        self._probe = Probe()
        self.opens_at = -math.inf

    def holds(self, now: float) -> float:
        """Return the seconds until the next request may leave."""
        return max(self.opens_at - now, 0.0)

    def granted(self, now: float) -> None:
        """Note that a request leaves: during an outage it is the only one until its fate is known."""
        if self.events:
            self._probe.sent(now)
            self._close()

    def unused(self, granted_at: float) -> None:
        """Note that the request granted at *granted_at* was given up before it left."""
        self._probe.back(granted_at)
        self._close()

    def unreachable(self, sent_at: float, now: float, jitter: float) -> None:
        """Note that a connection failed; failures of requests granted before the last event are part of it."""
        self._probe.back(sent_at)
        self._close()
        if self.events and sent_at <= self._event_at:
            return
        wait = min(_FIRST_WAIT * 2 ** min(self.events, 10), _LONGEST_WAIT)
        self._gate = now + wait * (0.5 + 0.5 * jitter)
        self._event_at = now
        self.events += 1
        self._close()

    def reached(self) -> None:
        """Note that the server answered, whatever it said."""
        if not self.events:
            return
        self.events = 0
        self._gate = self._event_at = self.opens_at = -math.inf
        self._probe = Probe()

    def timed_out(self, sent_at: float) -> None:
        """Note a time-out or 5xx: it proves a connection only for a request that left after the outage began."""
        if sent_at > self._event_at:
            self.reached()

    def _close(self) -> None:
        self.opens_at = max(self._gate, self._probe.until)


class InFlightCap:
    """Halves once per strain event and grows by one for every cap-ful of good answers, up to *most*."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._cap = float(most)
        self._cut_at = -math.inf

    @property
    def cap(self) -> int:
        """Requests that may be in flight at once, at least 1."""
        return math.floor(self._cap)

    def strained(self, sent_at: float, now: float) -> None:
        """Note a time-out or a 5xx; those of requests sent before the last cut belong to that cut."""
        if sent_at > self._cut_at:
            self._cap = max(1.0, self._cap / 2)
            self._cut_at = now

    def accepted(self, sent_at: float) -> None:
        """Note a good answer."""
        if sent_at > self._cut_at and self._cap < self.most:
            self._cap = min(float(self.most), self._cap + 1 / self._cap)
