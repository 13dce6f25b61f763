"""Events of the last second, counted in tenths, so that memory does not grow with the rate."""

import math


class Recent:
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
