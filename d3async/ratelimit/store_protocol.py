"""What a store of shared limits can do; members, reservations, lost contact and clocks, all of it pure."""

from __future__ import annotations

import json
import math
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from d3async.errors import D3Error
from d3async.ratelimit.shared_rate_controller import LearnedRate

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

FORGOTTEN = 5.0
"""Seconds after which a silent process with no connection to the store is taken for dead."""
_LONGEST_PROMISE = 7.0
CUT_OFF = 60.0
"""The same where its connection is still open: it was frozen, or cut off, and may go on sending its static share."""


@dataclass(frozen=True, slots=True)
class Member:
    """A process as the store knows it. *due* is the time by which it promised to be heard of again.

    *accepted* is the number of its requests that were answered in the last second, and not by a 429.
    """

    name: str
    due: float
    accepted: int = 0
    connected: bool = False


@dataclass(frozen=True, slots=True)
class Members:
    """One process among *members*, of which *silent* may be cut off; *index* is its place, from 0.

    *elsewhere* is what the others got answered in the last second. *unsure*: some process is there that has not kept
    its promise, for however long: it may have been frozen, or the store's clock set forward a moment ago.
    """

    members: int = 1
    silent: int = 0
    index: int = 0
    elsewhere: int = 0
    unsure: bool = False


def members(others: Iterable[Member], name: str, now: float, *, since: float = -math.inf) -> Members:
    """The place of process *name* among *others*; the store can be reached *since* then."""
    others = list(others)
    kept = [other for other in others if _kept(other, now, since)]
    return Members(
        members=1 + len(kept),
        silent=sum(not _kept_word(other, now) for other in kept),
        index=sum(other.name < name for other in kept),
        elsewhere=sum(other.accepted for other in kept if _kept_word(other, now)),
        unsure=any(not _kept_word(other, now) and (other.connected or other in kept) for other in others),
    )


def _kept_word(member: Member, now: float) -> bool:
    # a promise too far ahead was made by a clock that has been set back
    return now <= member.due <= now + _LONGEST_PROMISE


def _kept(member: Member, now: float, since: float) -> bool:
    if member.due > now + _LONGEST_PROMISE:
        return member.connected
    return max(member.due, since) + FORGOTTEN > now or (member.connected and member.due + CUT_OFF > now)


def left_over(rate: float, standing: Members) -> float:
    """What of *rate* a second may be reserved while silent members may be sending their static share.

    Each of them keeps a pace of its own, so its requests can fall together with ours: one a second more is left to it.
    """
    if not standing.silent:
        return rate
    rest = rate * (standing.members - standing.silent) / standing.members - standing.silent
    return max(rest, rate / standing.members / 2)


def own_turn(after: float, *, every: float, standing: Members) -> float:
    """The first time from *after* on that is this process's by the plan for days without a store.

    Time is cut into turns of *every* seconds which go round among the members. All reckon by the store's clock as
    they last knew it, so together they keep the pace that they kept with it.
    """
    turn = math.ceil(after / every - 1e-6)
    turn += (standing.index - turn) % standing.members
    return turn * every


WINDOW = 1.0
"""Seconds in which a server counts requests."""
BACK = 0.25
"""Seconds by which the store's clock may go back before it counts as set back."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """What is stored of one limit. Times are seconds on the store's clock, which may be set at any time.

    *free* is the first time not reserved, *at* the latest time of a reservation; no request leaves before
    *gate*.
    """

    free: float
    at: float
    gate: float = 0.0


@dataclass(frozen=True, slots=True)
class SlotRequest:
    """Slots to be reserved, one *every* so many seconds, if the first comes *within* so many seconds.

    *late*: slots so many seconds old are still good. *epoch* and *rate* say what the asker has learnt: within one
    epoch the highest rate is kept.
    """

    slots: int
    every: float
    late: float = 0.0
    within: float = math.inf
    epoch: int = 0
    rate: float = 0.0


def settled(bucket: Bucket, now: float) -> Bucket:
    """Return *bucket* as it is to be read *now*.

    A clock that was set back costs everybody a whole window once: what was reserved by the old time is out by then,
    and no process waits for the old time to come again.
    """
    if now < bucket.at - BACK:
        return Bucket(now + WINDOW, now, now + max(bucket.gate - bucket.at, 0.0))
    return Bucket(bucket.free, max(bucket.at, now), bucket.gate)


def reserve(bucket: Bucket, now: float, wish: SlotRequest) -> tuple[Bucket, float, bool]:
    """Return the bucket, the time of the first slot, and whether it was reserved."""
    bucket = settled(bucket, now)
    first = max(bucket.free, bucket.gate, now - wish.late)
    granted = first - now <= wish.within
    free = first + wish.slots * wish.every if granted else bucket.free
    return Bucket(free, bucket.at, bucket.gate), first, granted


def closed(bucket: Bucket, now: float, pause: float) -> Bucket:
    """Return *bucket* with its gate closed for *pause* seconds; 0 leaves it as it is."""
    bucket = settled(bucket, now)
    return Bucket(bucket.free, bucket.at, max(bucket.gate, now + pause)) if pause else bucket


class StoreError(D3Error):
    """The store of a shared limit cannot be had at the moment; it stays inside this room.

    *sent* says whether the statement may have reached the store.
    """


@dataclass(frozen=True, slots=True)
class Reserved:
    """The time of the *first* slot, whether it was *granted*, and what else there is to know.

    Times are seconds on the store's clock.
    """

    now: float
    first: float
    granted: bool
    gate: float
    lesson: LearnedRate
    members: int
    silent: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A sign of life, good for *promise* seconds; no request may leave for *pause* seconds.

    A *lesson* is stored where no process has stored another since *known*.
    """

    promise: float
    accepted: int = 0
    pause: float = 0.0
    known: int = 0
    lesson: LearnedRate | None = None


@dataclass(frozen=True, slots=True)
class HeartbeatAnswer:
    """What the store answers to a sign of life."""

    now: float
    gate: float
    lesson: LearnedRate
    standing: Members = field(default_factory=Members)


@runtime_checkable
class LimitStore(Protocol):
    """Keeps shared limits by key. Every method raises `StoreError`, and none takes long to do so."""

    @property
    def place(self) -> str:
        """What it is called in words; no secret."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    async def reserve(self, key: str, wish: SlotRequest) -> Reserved:
        """Reserve slots; returns at once, the slots may lie in the future."""

    async def beat(self, key: str, name: str, beat: Heartbeat) -> HeartbeatAnswer:
        """Note a sign of life of the process *name*."""

    async def leave(self, key: str, name: str) -> None:
        """Forget the process *name*."""


def to_text(lesson: LearnedRate) -> str:
    """What of *lesson* has no column of its own."""
    return json.dumps({name: value for name, value in asdict(lesson).items() if name not in {"epoch", "rate"}})


def to_lesson(epoch: int, rate: float, text: str) -> LearnedRate:
    """The lesson of three columns. Raises StoreError where another program wrote there."""
    try:
        return LearnedRate(epoch, rate, **json.loads(text or "{}"))
    except (ValueError, TypeError) as error:
        raise StoreError(f"it holds something else ({type(error).__name__})") from None


NOTICED = 0.6
"""Seconds within which the others know that a promise was not kept."""
BEAT, BEAT_IDLE = 0.5, 5.0
"""Seconds between two signs of life, of a process that sends and of one that does not."""
PROMISE, PROMISE_IDLE = 1.0, 6.0
"""Seconds for which a sign of life is good."""
_AGAIN = 0.5
COMING_BACK = 1.0
"""Seconds after which every process that had lost the store has asked it again, and knows its members."""


class StoreOutage:
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


_LEASE, _AT_LEAST = 0.1, 0.01
"""Seconds of its own share that a process reserves at once where there are many, and in any case."""
_QUICK = 1000.0
"""Requests a second of its own share from which reserving costs more than a slot that another waits for."""
_FEW = 2
"""Processes up to which each slot is reserved by itself: no process waits for a slot that another holds unused."""
_WAYS = 1.5
"""Round trips to the store that slots in hand should last for."""


def slots_to_ask(rate: float, *, members: int, waiting: int, round_trip: float) -> int:
    """How many slots to reserve at once, where *rate* a second is the limit of all, and *waiting* want one here."""
    own = rate / max(members, 1)
    usual = 1 if members <= _FEW else math.ceil(own * _LEASE)
    at_least = _AT_LEAST if own < _QUICK else _LEASE
    return max(1, math.floor(own * at_least), min(waiting, max(usual, math.ceil(own * round_trip * _WAYS))))


class ReservedSlots:
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
