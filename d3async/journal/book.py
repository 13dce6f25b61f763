"""What reading D3 back asks of a journal, whichever database keeps it: what is unknown, and how that is settled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from d3async.journal.pairs import Pair, Source
    from d3async.journal.reconcile import News, TaskIncident
    from d3async.sansio.task_search import SentTask


class LinkPairs(Protocol):
    """The links to look up, source by source."""

    def batches(self, most: int) -> Iterator[Sequence[Source]]:
        """At most *most* sources at a time that are asked for by the same account at the same site."""
        ...

    def of(self, source: Source) -> Iterator[Sequence[Pair]]:
        """The pairs of *source*, some at a time."""
        ...

    def close(self) -> None:
        """Forget them."""
        ...


class Book(Protocol):
    """Rows nobody knows about. Each change holds at once; it raises `JournalError` when it can't be stored."""

    def task_incidents(self) -> Iterator[TaskIncident]:
        """Incidents with unknown tasks, read as they are wanted."""
        ...

    def unknown_tasks(self, incident: TaskIncident) -> list[SentTask]:
        """The tasks of *incident* nobody knows about, oldest row first."""
        ...

    def created_tasks(self, incident: TaskIncident) -> list[SentTask]:
        """The tasks of *incident* that D3 said it created."""
        ...

    def settle_tasks(self, news: Iterable[News]) -> None:
        """Record what is known of tasks now."""
        ...

    def settle_items(self, news: Iterable[News], *, was: str = "unknown") -> None:
        """Record what is known of items that were in the state *was*, and what follows for their rows."""
        ...
