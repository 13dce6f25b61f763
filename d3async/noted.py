"""What the limiter of a run went through, as events of the run's journal."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

from d3async.journal.base import Event
from d3async.sansio.protocol import Throttled

if TYPE_CHECKING:
    from collections.abc import Callable

    from d3async.delivery import Attempt
    from d3async.limiter import LimiterNumbers

TICK = 0.25
"""Seconds between two looks at the limiter; also the shortest pause that is noted."""


class Notes(Protocol):
    """What is needed of a journal."""

    def note(self, event: Event) -> None:
        """Record *event*."""
        ...


class Noted:
    """Notes each 429 when it comes, and pauses, outages and rates when `look` finds them.

    *numbers* are those of a limiter that was there before the run; *wall* tells seconds since 1970.
    """

    def __init__(
        self, journal: Notes, numbers: LimiterNumbers | None = None, wall: Callable[[], float] = time.time
    ) -> None:
        self._journal = journal
        self._wall = wall
        self._paused = numbers.paused_s if numbers else 0.0
        self._learnt = numbers.learnt if numbers else None
        self._outages = numbers.outages if numbers else 0

    def attempt(self, attempt: Attempt) -> None:
        """A request has left and was answered, or was not."""
        if isinstance(attempt.answer, Throttled):
            self._journal.note(Event(attempt.at, "throttled", attempt.answer.retry_after, attempt.answer.message))

    def look(self, numbers: LimiterNumbers) -> None:
        """Compare the limiter's *numbers* with those of the last look."""
        if numbers.paused_s - self._paused >= TICK:
            self._journal.note(Event(self._wall(), "pause", numbers.paused_s - self._paused))
            self._paused = numbers.paused_s
        if numbers.learnt is not None and numbers.learnt != self._learnt:
            self._journal.note(Event(self._wall(), "rate", numbers.learnt))
        self._learnt = numbers.learnt
        if numbers.outages > self._outages:
            self._journal.note(Event(self._wall(), "outage", numbers.opens_in))
        self._outages = numbers.outages


async def every(seconds: float, tick: Callable[[], None]) -> None:
    """Call *tick* at once and then every so many *seconds*, until cancelled."""
    while True:
        tick()
        await asyncio.sleep(seconds)
