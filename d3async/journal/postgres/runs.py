"""The runs of a fleet as a whole: which there are, how they stand, what is left, stop, end, forget."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from psycopg import AsyncConnection


@dataclass(frozen=True, slots=True)
class FleetRun:
    """A run in the database. *meta* as in a run folder (base_url, input, rows …), *facts* of the last round."""

    id: int
    name: str
    tenant: str
    round: int
    serial: bool
    cancelled: bool
    meta: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk that has rows left to send. *who* has it open since *since* (seconds since 1970), None: nobody."""

    run: int
    chunk: int
    round: int
    tenant: str
    left: int
    who: str | None
    since: float | None


@dataclass(frozen=True, slots=True)
class Overview:
    """How one run stands: rows of its file by outcome, rows in flight, rows the present round still has to send."""

    id: int
    name: str
    tenant: str
    round: int
    outcomes: Mapping[str, int]
    in_flight: int
    to_send: int
    open_chunks: int
    started_at: float | None
    finished_at: float | None
    cancelled_at: float | None


async def find(connection: AsyncConnection[Any], name: str | int) -> FleetRun:
    """The run called *name*, or of that id. Raises `JournalError` (`no_run`)."""
    raise NotImplementedError


async def overview(connection: AsyncConnection[Any], names: Sequence[str] | None = None) -> list[Overview]:
    """Every run, or those of *names*, in the order in which they came."""
    raise NotImplementedError


async def chunks_left(connection: AsyncConnection[Any], run: int | None = None) -> list[Chunk]:
    """Chunks with rows to send, of *run* or of all runs that are not cancelled: what ought to be in the queue."""
    raise NotImplementedError


async def cancel(connection: AsyncConnection[Any], run: int, *, now: float) -> int:
    """Let no further row of *run* be claimed; what is in flight may end. The number of rows that stay unsent.

    Submitting the run again takes it up again.
    """
    raise NotImplementedError


async def finish(
    connection: AsyncConnection[Any],
    run: int,
    round: int,  # noqa: A002 - the word of the schema
    *,
    now: float,
    exit_code: int,
    facts: Mapping[str, Any],
) -> bool:
    """Write down how the round ended, once: False when somebody has, or when rows are still to be sent.

    Raises `ConservationError` when rows are lost or made up.
    """
    raise NotImplementedError


async def drop(connection: AsyncConnection[Any], run: int) -> int:
    """Forget *run* with all its rows, a slice at a time, each in a transaction of its own; how many rows it had."""
    raise NotImplementedError
