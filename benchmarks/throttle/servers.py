"""Nine ways to enforce "L requests a second", each as `admit(now)`: what a client meets without being told which."""

import random
from collections import deque
from collections.abc import Callable
from typing import Protocol

WINDOW = 1.0


class Server(Protocol):
    limit: float

    def admit(self, now: float) -> bool: ...


class FixedWindow:
    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._window = -1
        self._count = 0

    def admit(self, now: float) -> bool:
        if int(now) != self._window:
            self._window, self._count = int(now), 0
        if self._count >= self.limit:
            return False
        self._count += 1
        return True


class SlidingLog:
    def __init__(self, limit: float, *, count_refused: bool = False) -> None:
        self.limit = limit
        self._count_refused = count_refused
        self._log: deque[float] = deque()

    def admit(self, now: float) -> bool:
        while self._log and self._log[0] <= now - WINDOW:
            self._log.popleft()
        admitted = len(self._log) < self.limit
        if admitted or self._count_refused:
            self._log.append(now)
        return admitted


class SlidingCounter:
    """Cloudflare's estimate: this window's count and the overlapping part of the last one's."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._window = -1
        self._count = self._previous = 0

    def admit(self, now: float) -> bool:
        window = int(now)
        if window != self._window:
            self._previous = self._count if window == self._window + 1 else 0
            self._window, self._count = window, 0
        if self._count + self._previous * (1 - (now - window)) >= self.limit:
            return False
        self._count += 1
        return True


class TokenBucket:
    def __init__(self, limit: float, *, seconds: float) -> None:
        self.limit = limit
        self._seconds = seconds
        self._tokens = limit * seconds
        self._last = 0.0

    def admit(self, now: float) -> bool:
        self._tokens = min(self._tokens + (now - self._last) * self.limit, self.limit * self._seconds)
        self._last = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Nginx:
    """`limit_req`: a meter in thousandths, a clock in milliseconds; refused requests are not charged."""

    def __init__(self, limit: float, *, burst: int) -> None:
        self.limit = limit
        self._burst = burst * 1000
        self._excess = 0.0
        self._last: int | None = None

    def admit(self, now: float) -> bool:
        ms = int(now * 1000)
        if self._last is None:
            self._last = ms
            return True
        excess = max(self._excess - self.limit * abs(ms - self._last) + 1000, 0.0)
        if excess > self._burst:
            return False
        self._excess, self._last = excess, ms
        return True


class Nodes:
    """A fleet behind a balancer that picks at random; each node keeps its own share of the limit."""

    def __init__(self, limit: float, dice: random.Random, *, nodes: int = 4) -> None:
        self._dice = dice
        self._nodes = [TokenBucket(limit / nodes, seconds=1.0) for _ in range(nodes)]

    @property
    def limit(self) -> float:
        return sum(node.limit for node in self._nodes)

    @limit.setter
    def limit(self, limit: float) -> None:
        for node in self._nodes:
            node.limit = limit / len(self._nodes)

    def admit(self, now: float) -> bool:
        return self._dice.choice(self._nodes).admit(now)


KINDS: dict[str, Callable[[float, random.Random], Server]] = {
    "fixed window": lambda limit, _: FixedWindow(limit),
    "sliding log": lambda limit, _: SlidingLog(limit),
    "refusals count": lambda limit, _: SlidingLog(limit, count_refused=True),
    "sliding counter": lambda limit, _: SlidingCounter(limit),
    "bucket L": lambda limit, _: TokenBucket(limit, seconds=1.0),
    "bucket L/5": lambda limit, _: TokenBucket(limit, seconds=0.2),
    "nginx burst 5": lambda limit, _: Nginx(limit, burst=5),
    "nginx burst 0": lambda limit, _: Nginx(limit, burst=0),
    "4 nodes of L/4": Nodes,
}
"""Each kind from (limit, dice)."""

STEADY = tuple(kind for kind in KINDS if kind not in {"nginx burst 0", "4 nodes of L/4"})
"""The kinds that a client at the documented limit can live with: the rows that must hold."""
