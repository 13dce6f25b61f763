"""When the next slots of a shared limit are: a reservation says when to send, so that nobody has to ask twice."""

import math
from dataclasses import dataclass

WINDOW = 1.0
"""Seconds in which a server counts requests."""
BACK = 0.25
"""Seconds by which the store's clock may go back before it counts as set back."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """What is stored of one limit. Times are seconds on the store's clock, which may be set at any time.

    *free* is the first time nobody has reserved, *at* the latest time at which somebody did; nobody leaves before
    *gate*.
    """

    free: float
    at: float
    gate: float = 0.0


@dataclass(frozen=True, slots=True)
class Wish:
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
    and nobody waits for the old time to come again.
    """
    if now < bucket.at - BACK:
        return Bucket(now + WINDOW, now, now + max(bucket.gate - bucket.at, 0.0))
    return Bucket(bucket.free, max(bucket.at, now), bucket.gate)


def reserve(bucket: Bucket, now: float, wish: Wish) -> tuple[Bucket, float, bool]:
    """Return the bucket, the time of the first slot, and whether it was reserved."""
    bucket = settled(bucket, now)
    first = max(bucket.free, bucket.gate, now - wish.late)
    granted = first - now <= wish.within
    free = first + wish.slots * wish.every if granted else bucket.free
    return Bucket(free, bucket.at, bucket.gate), first, granted


def closed(bucket: Bucket, now: float, pause: float) -> Bucket:
    """Return *bucket* with nobody leaving for *pause* seconds; 0 leaves it as it is."""
    bucket = settled(bucket, now)
    return Bucket(bucket.free, bucket.at, max(bucket.gate, now + pause)) if pause else bucket
