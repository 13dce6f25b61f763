"""The outage gate: when a server cannot be reached at all, everyone waits together and one request tries."""

import math

from d3async.sansio.probe import Probe

_FIRST_WAIT = 0.5
_LONGEST_WAIT = 8.0


class Outage:
    """Counts outage events; nobody leaves before *opens_at*. Times are seconds on any one monotonic clock."""

    def __init__(self) -> None:
        self.events = 0
        self._event_at = -math.inf
        self._gate = -math.inf
        self._probe = Probe()
        self.opens_at = -math.inf

    def holds(self, now: float) -> float:
        """Return the seconds until the next request may leave."""
        return max(self.opens_at - now, 0.0)

    def granted(self, now: float) -> None:
        """Note that a request leaves: during an outage it is the only one until its fate is known."""
        if self.events:
            self._probe.sent(now)
            self._close()

    def unused(self, granted_at: float) -> None:
        """Note that the request granted at *granted_at* was given up before it left."""
        self._probe.back(granted_at)
        self._close()

    def unreachable(self, sent_at: float, now: float, jitter: float) -> None:
        """Note that a connection failed; failures of requests granted before the last event are part of it."""
        self._probe.back(sent_at)
        self._close()
        if self.events and sent_at <= self._event_at:
            return
        wait = min(_FIRST_WAIT * 2 ** min(self.events, 10), _LONGEST_WAIT)
        self._gate = now + wait * (0.5 + 0.5 * jitter)
        self._event_at = now
        self.events += 1
        self._close()

    def reached(self) -> None:
        """Note that the server answered, whatever it said."""
        if not self.events:
            return
        self.events = 0
        self._gate = self._event_at = self.opens_at = -math.inf
        self._probe = Probe()

    def timed_out(self, sent_at: float) -> None:
        """Note a time-out or 5xx: it proves a connection only for a request that left after the outage began."""
        if sent_at > self._event_at:
            self.reached()

    def _close(self) -> None:
        self.opens_at = max(self._gate, self._probe.until)
