"""What is read of a journal, whichever database keeps it: all that files, reports and `status` are written from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from d3async.journal.figures import Figures
    from d3async.journal.records import ItemRecord, Owner, RowRecord, Run
    from d3async.sansio.row_marks import Mark


class Reader(Protocol):
    """One journal at one moment; see `JournalReader`, which says more of each."""

    @property
    def folder(self) -> Path:
        """Where its files are written, and what it is called in what to type next."""
        ...

    @property
    def figures(self) -> Figures:
        """The statements of `journal.figures` in the words of its database."""
        ...

    @property
    def has_items(self) -> bool:
        """Whether any row has items."""
        ...

    def meta(self) -> dict[str, str]:
        """Everything the journal says about itself and its file."""
        ...

    def owner(self) -> Owner | None:
        """Who works on it."""
        ...

    def counts(self) -> dict[str, int]:
        """Rows of the current file by outcome, all six always."""
        ...

    def counts_by_profile(self) -> dict[str | None, dict[str, int]]:
        """As `counts`, for each profile that rows go to."""
        ...

    def item_counts(self) -> dict[str, int]:
        """Items of the current file's rows by outcome."""
        ...

    def settled_by_hand(self) -> dict[str, int]:
        """Rows of the current file that a user settled, wholly or in some items, by outcome."""
        ...

    def vanished(self) -> int:
        """Rows that were in an earlier state of the file and are no longer."""
        ...

    def in_flight(self) -> int:
        """Rows sent whose answer is not recorded."""
        ...

    def to_send(self) -> int:
        """Rows that are still to be sent."""
        ...

    def done_since(self, at: float) -> int:
        """Rows answered after *at*, in seconds since 1970, UTC."""
        ...

    def rows(self, outcomes: Iterable[str] | None = None, *, full: bool = False) -> Iterator[RowRecord]:
        """Rows of the current file, in its order."""
        ...

    def items(self, outcomes: Iterable[str] | None = None) -> Iterator[ItemRecord]:
        """Items of the current file's rows, in the rows' order."""
        ...

    def marks(self, outcomes: Iterable[str]) -> Iterator[Mark] | None:
        """The mark of each of `rows(outcomes)`; None where its rows have none."""
        ...

    def written(self) -> dict[str, list[str]]:
        """Digests of what was written into files of its folder, by their names."""
        ...

    def answer(self, number: int) -> str | None:
        """D3's answer as text."""
        ...

    def runs(self) -> list[Run]:
        """Every run over it, the first one first."""
        ...

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of one small SQL question, in the words of its database."""
        ...

    def check(self) -> None:
        """Raise `ConservationError` unless every row, and every item of a row that was tried, has one outcome."""
        ...
