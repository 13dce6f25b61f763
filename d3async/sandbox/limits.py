"""How a server may count requests: five kinds of limit, pure, the time comes in as an argument."""

import math
from collections import deque
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Literal, Protocol, assert_never

Kind = Literal["fixed", "sliding", "counting", "bucket", "nginx"]
KINDS: tuple[Kind, ...] = ("fixed", "sliding", "counting", "bucket", "nginx")


class Limit(Protocol):
    """Decides over one request that arrives at *now* (seconds on any steady clock)."""

    def ask(self, now: float) -> float:
        """Return 0.0 and count the request, or the seconds after which it would have been let in."""


def make_limit(kind: Kind, rate: float, burst: float | None = None) -> Limit:
    """Build the limit that lets *rate* requests a second in.

    *burst* is the bucket's capacity (default: one second's worth) or nginx's `burst=` (default 0);
    the windows have none.
    """
    match kind:
        case "fixed":
            return FixedWindow(max(1, int(rate)))
        case "sliding":
            return SlidingLog(max(1, int(rate)))
        case "counting":
            return SlidingLog(max(1, int(rate)), counts_refused=True)
        case "bucket":
            return TokenBucket(rate, max(1.0, rate if burst is None else burst))
        case "nginx":
            return NginxMeter(rate, int(burst or 0))
    assert_never(kind)


@dataclass(slots=True)
class FixedWindow:
    """At most *limit* requests in each whole second; what Redis `INCR` limiters do."""

    limit: int
    _window: int = -1
    _count: int = 0

    def ask(self, now: float) -> float:
        """See `Limit.ask`."""
        window = math.floor(now)
        if window != self._window:
            self._window, self._count = window, 0
        if self._count >= self.limit:
            return window + 1 - now
        self._count += 1
        return 0.0


@dataclass(slots=True)
class SlidingLog:
    """At most *limit* requests in any second; with *counts_refused* the refused ones fill the log too."""

    limit: int
    counts_refused: bool = False
    _log: deque[float] = field(default_factory=deque)

    def ask(self, now: float) -> float:
        """See `Limit.ask`."""
        log = self._log
        while log and log[0] <= now - 1.0:
            log.popleft()
        full = len(log) >= self.limit
        if not full or self.counts_refused:
            log.append(now)
        # From here on *limit* entries back decides: when it leaves the log, one place is free.
        return max(log[-self.limit] + 1.0 - now, 1e-9) if full else 0.0


@dataclass(slots=True)
class TokenBucket:
    """*capacity* tokens, full at first, refilled with *rate* a second; a request takes one."""

    rate: float
    capacity: float
    _tokens: float = -1.0
    _at: float = 0.0

    def ask(self, now: float) -> float:
        """See `Limit.ask`."""
        if self._tokens < 0:
            self._tokens, self._at = self.capacity, now
        self._tokens = min(self.capacity, self._tokens + (now - self._at) * self.rate)
        self._at = now
        if self._tokens < 1.0 - 1e-9:
            return (1.0 - self._tokens) / self.rate
        self._tokens = max(0.0, self._tokens - 1.0)
        return 0.0


@dataclass(slots=True)
class NginxMeter:
    """nginx `limit_req rate=…r/s burst=… nodelay`: a leaky bucket in whole milliseconds; refusals are free.

    Source: nginx/src/http/modules/ngx_http_limit_req_module.c, `ngx_http_limit_req_lookup`.
    """

    rate: float
    burst: int = 0
    _excess: int = -1
    _last: int = 0

    def ask(self, now: float) -> float:
        """See `Limit.ask`."""
        at, per_second = int(now * 1000), int(self.rate * 1000)
        if self._excess < 0:
            self._excess, self._last = 0, at
            return 0.0
        excess = max(0, self._excess - per_second * max(0, at - self._last) // 1000 + 1000)
        if excess > self.burst * 1000:
            return (excess - self.burst * 1000) / per_second
        self._excess, self._last = excess, at
        return 0.0


RetryAfter = Literal["none", "seconds", "decimal", "date"] | float


def retry_after(form: RetryAfter, wait: float, wall_clock: float) -> str | None:
    """Write the Retry-After header for a *wait* in seconds; a number as *form* is sent whatever the wait."""
    match form:
        case "none":
            return None
        case "seconds":
            return str(max(1, math.ceil(wait)))
        case "decimal":
            return f"{wait:.3f}"
        case "date":
            return formatdate(math.ceil(wall_clock + wait), usegmt=True)
        case number:
            return f"{number:g}"
