"""What a store of shared limits can do, and the values that go to it and come from it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from d3async.errors import D3Error
from d3async.sansio.lesson import Lesson
from d3async.sansio.membership import Standing

if TYPE_CHECKING:
    from typing import Self

    from d3async.sansio.reservation import Wish


class StoreError(D3Error):
    """The store of a shared limit cannot be had at the moment; it stays inside this room.

    *sent* says whether the store may have heard what it was told.
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
    lesson: Lesson
    members: int
    silent: int


@dataclass(frozen=True, slots=True)
class Beat:
    """A sign of life, good for *promise* seconds; *pause* seconds nobody may leave.

    A *lesson* is taken where nobody has told another since *known*.
    """

    promise: float
    accepted: int = 0
    pause: float = 0.0
    known: int = 0
    lesson: Lesson | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """What the store answers to a sign of life."""

    now: float
    gate: float
    lesson: Lesson
    standing: Standing = field(default_factory=Standing)


@runtime_checkable
class Store(Protocol):
    """Keeps shared limits by key. Every method raises `StoreError`, and none takes long to do so."""

    @property
    def place(self) -> str:
        """What it is called in words; no secret."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    async def reserve(self, key: str, wish: Wish) -> Reserved:
        """Reserve slots; returns at once, the slots may lie in the future."""

    async def beat(self, key: str, name: str, beat: Beat) -> Told:
        """Note a sign of life of the process *name*."""

    async def leave(self, key: str, name: str) -> None:
        """Forget the process *name*."""


def to_text(lesson: Lesson) -> str:
    """What of *lesson* has no column of its own."""
    return json.dumps({name: value for name, value in asdict(lesson).items() if name not in {"epoch", "rate"}})


def to_lesson(epoch: int, rate: float, text: str) -> Lesson:
    """The lesson of three columns. Raises StoreError where another program wrote there."""
    try:
        return Lesson(epoch, rate, **json.loads(text or "{}"))
    except (ValueError, TypeError) as error:
        raise StoreError(f"it holds something else ({type(error).__name__})") from None
