"""What the engine asks of a journal: the truth about which row was sent and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Sequence

    from d3async.journal.told import JobOutcome
    from d3async.sansio.call import Call
    from d3async.sansio.outcome import Verdict


class Settlement(NamedTuple):
    """The last word about a call: what the answer proves, D3's answer as text, when it came (seconds since 1970)."""

    call: Call
    verdict: Verdict
    answer: str | None
    at: float


class RowOutcome(NamedTuple):
    """What became of one row. *items* of a RemoveLinkedIncidents row: (ok, failed, unknown).

    *told* is how an app is told of it, where one is.
    """

    row: int
    outcome: str
    code: str
    message: str
    items: tuple[int, int, int] = (0, 0, 0)
    told: JobOutcome | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something about the run rather than a row; see `schema`, table event."""

    at: float
    kind: str
    seconds: float | None = None
    note: str = ""


class Log(Protocol):
    """What is written down around each attempt."""

    async def claim(self, call: Call, at: float) -> None:
        """Mark *call* as sent, durably. Raises `FencedError` when somebody else has claimed any of it.

        Cancelled, it leaves no mark.
        """
        ...

    def release(self, call: Call, *, sent: bool) -> None:
        """Take the latest mark back: that attempt changed nothing. *sent*: a request left all the same (a 429)."""
        ...


class Journal(Log, Protocol):
    """Writes go in groups: what was learnt, in the order it was told, then claims. One process owns it at a time.

    A call's claim is waited for before anything else is asked about that call.

    Every method may raise `JournalError`; those that change a row raise `FencedError` once another process has
    taken the journal over.
    """

    async def lanes(self, after: int, most: int) -> Sequence[tuple[int, Call | None]]:
        """The next lanes (> *after*, ascending) with work, each with its call where one is all there is to it."""
        ...

    async def take(self, lane: int, most: int) -> Call | None:
        """The next call of *lane*, with at most *most* items; None when the lane has no more work."""
        ...

    def settle(self, settlement: Settlement) -> Future[list[RowOutcome]]:
        """Record the last word; the future brings the rows that are finished by it."""
        ...

    def note(self, event: Event) -> None:
        """Record *event*."""
        ...

    async def flush(self) -> None:
        """Wait until everything asked for so far is stored."""
        ...
