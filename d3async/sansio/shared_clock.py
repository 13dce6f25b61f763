"""The store's clock, told by one's own: when a question left, what that clock said, when the answer came."""

import math

_DRIFT = 2e-4
"""Seconds by which two clocks may part in one second."""
_SLACK = 0.005
"""Seconds by which two answers may contradict each other before the store's clock counts as set."""


class SharedClock:
    """Keeps the bounds of own time minus store time; each answer can only make them narrower."""

    def __init__(self) -> None:
        self._low, self._high = -math.inf, math.inf
        self._at = -math.inf
        self.round_trip = 0.0

    def sample(self, left: float, store: float, came: float) -> bool:
        """Take in one answer; say whether the store's clock was set forward since the last."""
        if self._low == -math.inf:
            self._low, self._high, self.round_trip = left - store, came - store, came - left
        else:
            aged = (came - self._at) * _DRIFT
            self._low, self._high = self._low - aged, self._high + aged
            self.round_trip += (min(came - left, 1.0) - self.round_trip) / 8
        self._at = came
        forward, back = came - store < self._low - _SLACK, left - store > self._high + _SLACK
        if forward or back:
            self._low, self._high = left - store, came - store
        else:
            self._low, self._high = max(self._low, left - store), min(self._high, came - store)
            self._low, self._high = min(self._low, self._high), max(self._low, self._high)
        return forward

    @property
    def offset(self) -> float:
        """Own time minus store time; 0.0 before the first answer."""
        return 0.0 if self._low == -math.inf else (self._low + self._high) / 2
