"""How late the pacer is let off: a busy loop wakes it late, and what it missed may be caught up, within the limit."""

import math

from d3async.sansio.rate import LATENESS

_STEP = 0.005
_MOST = 0.050
_UP, _DOWN = 0.00095, 0.00005


class Lateness:
    """Follows the lateness (seconds) that nineteen of twenty beats keep to: allowing more costs more than it saves.

    Allowed in steps, so that the rate does not change with every beat.
    """

    def __init__(self) -> None:
        self.allowance = LATENESS
        self._usual = 0.0

    def note(self, late: float) -> None:
        """Take in how *late* one beat was."""
        self._usual = min(self._usual + _UP, _MOST) if late > self._usual else max(self._usual - _DOWN, 0.0)
        self.allowance = max(math.ceil(self._usual / _STEP) * _STEP, LATENESS)
