"""Whether the store of a shared limit can be reached, and from when on to go by the static plan without it."""

import math

NOTICED = 0.6
"""Seconds within which the others know that a promise was not kept."""
BEAT, BEAT_IDLE = 0.5, 5.0
"""Seconds between two signs of life, of a process that sends and of one that does not."""
PROMISE, PROMISE_IDLE = 1.0, 6.0
"""Seconds for which a sign of life is good."""
_AGAIN = 0.5
COMING_BACK = 1.0
"""Seconds after which whoever had lost the store has asked it again, and knows who is there."""


class Contact:
    """Times are seconds of the caller's own clock.

    A process that has lost the store sends nothing until the others must have noticed and left it its share: from
    then on it takes that. What it had reserved it still uses.
    """

    def __init__(self) -> None:
        self._promised = -math.inf
        self.lost = True

    def heard(self, now: float, promise: float) -> None:
        """Note a sign of life that the store took, good for *promise* seconds."""
        self.lost = False
        self._promised = now + promise

    def gone(self, now: float, promise: float = 0.0) -> None:
        """Note that the store gave no answer *now*; it may have taken a sign of life good for *promise* seconds."""
        self.lost = True
        if promise:
            self._promised = max(self._promised, now + promise)

    def static_from(self) -> float:
        """The time from which the static share may be used while the store is lost."""
        return self._promised + NOTICED


def again_after(dice: float) -> float:
    """Seconds after which a store that was lost is asked again; *dice*, in [0, 1), lets processes spread."""
    return _AGAIN * (0.5 + 0.5 * dice)
