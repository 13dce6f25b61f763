"""What a group of writes is made of: wishes, and the order in which they are fulfilled."""

from __future__ import annotations

from enum import IntEnum
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence


class Kind(IntEnum):
    """In the order in which the wishes of one group are fulfilled: no call is claimed and settled in one group."""

    SETTLEMENT = 0
    WORD = 1
    """A release or an event."""
    CLAIM = 2
    """To be on disk before anything is sent, or not to be."""
    SEARCH = 3
    """It may read much."""


class Wish(NamedTuple):
    """One thing asked for: what `Store` is to be told, for a word or a search a function."""

    kind: Kind
    what: Any
    done: asyncio.Future[Any]

    @property
    def told(self) -> bool:
        """Nobody need wait for it: its failure is kept."""
        return self.kind <= Kind.WORD


kind_of = attrgetter("kind")


def in_order(group: Sequence[Wish]) -> list[Wish]:
    """*group* as it is fulfilled, without claims that nobody waits for any more."""
    wanted = (wish for wish in group if wish.kind is not Kind.CLAIM or not wish.done.cancelled())
    return sorted(wanted, key=kind_of)
