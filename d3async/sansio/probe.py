"""One request that tries the door while everyone else waits."""

import math

_PATIENCE = 10.0


class Probe:
    """At most one is out, and the others wait *until* its fate is known; after 10 s without it is given up."""

    def __init__(self) -> None:
        self._sent_at = -math.inf
        self.until = -math.inf

    def sent(self, now: float) -> None:
        """Note that the probe leaves *now*."""
        self._sent_at, self.until = now, now + _PATIENCE

    def back(self, sent_at: float) -> None:
        """Note the fate of the request granted at *sent_at*; only the probe's own matters."""
        if sent_at == self._sent_at:
            self.until = -math.inf
