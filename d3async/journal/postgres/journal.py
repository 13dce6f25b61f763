"""One chunk of a run as the engine's journal, and the writer that stores for all chunks of a process."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Sequence
    from typing import Self

    from d3async.journal.base import Event, RowOutcome, Settlement
    from d3async.sansio.call import Call


class Writer:
    """One connection for every chunk a process works on: what they ask for at once is one transaction.

    A context manager. *conninfo* is a URL or what libpq takes. Claims fail as soon as the database does not answer;
    everything else is held in memory and tried again until it is stored, for *patience* seconds (None: as long as the
    process lives). Whether a group was stored whose connection broke is read back before anything is done again.
    """

    def __init__(self, conninfo: str, *, patience: float | None = None) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(self, *_: object) -> None:
        raise NotImplementedError


class PostgresJournal:
    """`journal.base.Journal` over one chunk. *rows* are to be sent as it was opened; 0 where nothing is left."""

    run: int
    chunk: int
    epoch: int
    rows: int
    serial: bool
    failure: BaseException | None
    """The first write that was lost."""

    async def lanes(self, after: int, most: int) -> Sequence[tuple[int, Call | None]]:
        """See `Journal.lanes`."""
        raise NotImplementedError

    async def take(self, lane: int, most: int) -> Call | None:
        """See `Journal.take`."""
        raise NotImplementedError

    async def claim(self, call: Call, at: float) -> None:
        """See `Journal.claim`."""
        raise NotImplementedError

    def release(self, call: Call, *, sent: bool) -> None:
        """See `Journal.release`."""
        raise NotImplementedError

    def settle(self, settlement: Settlement) -> Future[list[RowOutcome]]:
        """See `Journal.settle`."""
        raise NotImplementedError

    def note(self, event: Event) -> None:
        """See `Journal.note`."""
        raise NotImplementedError

    async def flush(self) -> None:
        """See `Journal.flush`."""
        raise NotImplementedError

    async def aclose(self) -> int:
        """Store what is left and give the chunk up; how many of its rows are still to be sent.

        Raises what `flush` has not told yet. A former owner gives nothing up and raises nothing for it.
        """
        raise NotImplementedError


async def open_chunk(
    writer: Writer,
    run: int,
    chunk: int,
    *,
    round: int,  # noqa: A002 - the word of the schema
    who: str,
    now: float,
) -> PostgresJournal:
    """Become the owner of *chunk*, as *who* (told to people: pid, host): whoever had it before is fenced.

    What that one left `sent` is `unknown` from now on; where twice is the same as once it is still to be sent.
    Raises `FencedError`: `superseded` when the run was submitted again since *round* or is gone, `cancelled`; and
    `JournalError` at once when the database does not answer.
    """
    raise NotImplementedError
