"""The jitter margin: how far requests shift against each other between grant and wire."""

from collections import deque

from d3async.sansio.rate import JITTER

_SAMPLES = 200
_EVERY = 20
_MOST = 0.100


class JitterMargin:
    """Keeps the last grant-to-wire delays (seconds) and the spread, *least* at least, of all but the oddest of them."""

    def __init__(self, least: float = JITTER) -> None:
        self._least = self.margin = least
        self._usual = 0.0
        self._delays: deque[float] = deque(maxlen=_SAMPLES)
        self._seen = 0

    def late(self, delay: float) -> bool:
        """Take in one *delay*; say whether it is beyond the margin: that request counts in a later window too."""
        self._delays.append(delay)
        self._seen += 1
        if self._seen == 1 or not self._seen % _EVERY:
            ordered = sorted(self._delays)
            odd = len(ordered) // 50
            self._usual = ordered[odd]
            self.margin = min(max(ordered[-1 - odd] - self._usual, self._least), _MOST)
        return delay > self._usual + self.margin
