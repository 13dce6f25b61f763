"""The way back after a cut: careful near the rate that was refused, quick once past it."""

import math
from dataclasses import dataclass

_SECONDS = 5.6
"""Time in which the rate gains its whole scale beyond the plateau, if nobody refuses."""


@dataclass(frozen=True, slots=True)
class Regain:
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
