"""The jitter margin: how far requests shift against each other between grant and wire."""

import math
from collections import deque

from d3async.sansio.rate import JITTER

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
