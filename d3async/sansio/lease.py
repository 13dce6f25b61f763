"""Slots in hand: reserved, not yet used; what is not used in its time is dropped, never sent late."""

import math
from collections import deque

_LEASE, _AT_LEAST = 0.1, 0.01
"""Seconds of its own share that a process reserves at once where there are many, and in any case."""
_QUICK = 1000.0
"""Requests a second of its own share from which reserving costs more than a slot that another waits for."""
_FEW = 2
"""Processes up to which each slot is reserved by itself: nobody waits for a slot that another holds unused."""
_WAYS = 1.5
"""Round trips to the store that slots in hand should last for."""


def slots_to_ask(rate: float, *, members: int, waiting: int, round_trip: float) -> int:
    """How many slots to reserve at once, where *rate* a second is the limit of all, and *waiting* want one here."""
    own = rate / max(members, 1)
    usual = 1 if members <= _FEW else math.ceil(own * _LEASE)
    at_least = _AT_LEAST if own < _QUICK else _LEASE
    return max(1, math.floor(own * at_least), min(waiting, max(usual, math.ceil(own * round_trip * _WAYS))))


class Lease:
    """Times are seconds of the caller's clock. A slot may be used from its time until *late* seconds after it."""

    def __init__(self) -> None:
        self._runs: deque[tuple[float, float, int]] = deque()
        self._owed = 0

    def __len__(self) -> int:
        return sum(count for _, _, count in self._runs)

    def add(self, first: float, *, every: float, slots: int) -> None:
        """Put *slots* in hand, the *first* at its time and one *every* so many seconds after it."""
        self._runs.append((first, every, slots))

    def put_back(self, due: float) -> None:
        """Keep a slot that was taken and will not be used."""
        self._runs.appendleft((due, 1.0, 1))

    def owe(self, slots: int) -> None:
        """Leave so many of the next slots unused: requests of earlier ones were sent late."""
        self._owed = max(self._owed, slots)

    def next(self, now: float, late: float) -> float | None:
        """The time of the next slot that can still be used; None where there is none in hand."""
        while self._runs:
            first, every, slots = self._runs[0]
            if first >= now - late and not self._owed:
                return first
            self._runs.popleft()
            lost = max(math.ceil((now - late - first) / every), 0) if first < now - late else 0
            lost += self._pay(slots - lost)
            if lost < slots:
                self._runs.appendleft((first + lost * every, every, slots - lost))
                return first + lost * every
        return None

    def take(self, now: float, late: float) -> float | None:
        """Take a slot whose time has come; None where there is none."""
        due = self.next(now, late)
        if due is None or due > now:
            return None
        first, every, slots = self._runs[0]
        if slots > 1:
            self._runs[0] = (first + every, every, slots - 1)
        else:
            self._runs.popleft()
        return due

    def drop(self) -> None:
        """Have no slot any more."""
        self._runs.clear()

    def _pay(self, slots: int) -> int:
        paid = min(self._owed, max(slots, 0))
        self._owed -= paid
        return paid
