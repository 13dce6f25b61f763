"""The in-flight cap: how many requests a server under strain is given at once."""

import math


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
