"""How many items go into one call, and what is done with a call that D3 refuses as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from d3async.sansio.call import fold
from d3async.sansio.protocol import Refused

if TYPE_CHECKING:
    from d3async.sansio.call import Call
    from d3async.sansio.protocol import Answer


@dataclass(frozen=True, slots=True)
class Part:
    """What became of a part of a refused call: *size* items, and whether D3 took all of them as a list."""

    size: int
    taken: bool


class ListLimit:
    """The most items a call may carry: as asked for, and less once a server has shown that it takes no more."""

    def __init__(self, most: int) -> None:
        self.most = most

    def learn(self, refused: int, parts: tuple[Part, ...]) -> None:
        """A list of *refused* items was turned down and split into *parts*.

        If every part went through, no item was to blame: it was the length.
        """
        if parts and all(part.taken for part in parts):
            self.most = max(1, min(self.most, max(part.size for part in parts), refused - 1))


def worth_splitting(call: Call, answer: Answer | None) -> bool:
    """Whether halves of *call* may fare better than the whole: not when D3 blames the source itself."""
    if not isinstance(answer, Refused) or len(call.items) < 2:  # noqa: PLR2004 - one item has no halves
        return False
    said = fold(answer.message)
    blames_source = fold(call.label) in said and not any(fold(item) in said for item in call.items)
    return not blames_source
