"""What operations say, ask and show while they go on: a terminal, a page or an app answers in its own way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from d3async.engine.observers import ServerProgress
    from d3async.journal.model import RowOutcome, Similar
    from d3async.operations.plan import Plan


class OperationObserver(Protocol):
    """Gets the messages of one operation. A text may hold control characters of a job file or an answer."""

    def message(self, text: str) -> None:
        """One or more whole lines that the user must see."""
        ...

    def detail(self, text: str) -> None:
        """One or more whole lines that a user who wants quiet does without."""
        ...


class AskingObserver(OperationObserver, Protocol):
    """Answers for the user too."""

    def confirm(self, question: Question) -> bool | None:
        """Whether the user agrees; None where no one can be asked."""
        ...


class Progress(Protocol):
    """Shows how far a run is. Times in seconds."""

    def row(self, row: RowOutcome) -> None:
        """A row is finished."""
        ...

    def tick(self, at: Sequence[ServerProgress], waiting: int) -> None:
        """Some time has passed, a few times a second: the servers worked on, and the rows of those yet to begin."""
        ...

    def tell(self, text: str) -> None:
        """Say something that stays."""
        ...

    def close(self) -> None:
        """The run is over."""
        ...


class RunObserver(AskingObserver, Protocol):
    """Answers for the user of a run."""

    def planned(self, plan: Plan) -> None:
        """Show what is about to be sent."""
        ...

    def request(self, request: Mapping[str, Any]) -> None:
        """Show one request of a dry run, as JSON; its secrets are masked."""
        ...

    def progress(self, rows: int) -> Progress:
        """What shows the sending of *rows*."""
        ...


@dataclass(frozen=True, slots=True)
class SendRows:
    """Whether what *plan* says is to be sent; where no one can be asked, it is."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class SendUnknownRows:
    """Whether *rows* that may exist in D3 already are to be sent again."""

    rows: int


@dataclass(frozen=True, slots=True)
class SendSimilarRows:
    """Whether rows that look like rows sent before are meant."""

    similar: Similar


@dataclass(frozen=True, slots=True)
class StartAnew:
    """Whether a new run may send rows again, although *rows* were sent from *folder*."""

    folder: Path
    rows: int


@dataclass(frozen=True, slots=True)
class SubmitRows:
    """Whether *rows* for *tenants* are to be submitted; where no one can be asked, they are."""

    rows: int
    tenants: int
    with_unknown: bool


@dataclass(frozen=True, slots=True)
class SubmitSimilarRows:
    """Whether rows that look like others are meant; *text* shows them."""

    text: str


Question = SendRows | SendUnknownRows | SendSimilarRows | StartAnew | SubmitRows | SubmitSimilarRows
