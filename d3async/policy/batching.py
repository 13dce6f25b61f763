"""How many items go into one call, and what is done with a call that D3 refuses as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count, groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from d3async.d3.call import normalize_number
from d3async.d3.response import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable

    from d3async.d3.call import Call
    from d3async.d3.response import Answer


_WAVE = 1 << 40
"""More than a file has rows."""


def lane_in_wave(lane: int, wave: int) -> int:
    """The number of *lane* once it is in *wave*: lanes of later waves have greater numbers."""
    return lane + wave * _WAVE


def wave_of(lane: int) -> int:
    """Waves follow one another: the next begins when the last call of the one before it is settled."""
    return lane // _WAVE


def later_waves(edges: Iterable[tuple[int, int]]) -> dict[int, int]:
    """The wave of each lane that cannot be in the first one, so that lanes joined by an edge are in different ones.

    *edges* are pairs (lane, lower lane), ordered by their lane: as few waves as going through them once finds.
    """
    waves: dict[int, int] = {}
    for lane, lower in groupby(edges, key=itemgetter(0)):
        taken = {waves.get(other, 0) for _, other in lower}
        wave = next(wave for wave in count() if wave not in taken)
        if wave:
            waves[lane] = wave
    return waves


@dataclass(frozen=True, slots=True)
class SentPart:
    """What became of a part of a refused call: *size* items, and whether D3 took all of them as a list."""

    size: int
    taken: bool


class ListLimit:
    """How many items a call may carry: as many as asked for, and fewer once a server has shown that it takes no more.

    The server's limit is between what was taken and what was refused for its length. It is closed in on by single
    calls of a size in between; all others keep to what is known to be taken.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._refused = most + 1
        self._probe = 0

    def size(self) -> int:
        """The most items that the next call is to carry; call `done` when it has ended."""
        if self._refused > self._most:
            return self._most
        if not self._probe and self._refused - self._taken > 1:
            self._probe = (self._taken + self._refused) // 2
            return self._probe
        return max(1, self._taken)

    def done(self, size: int) -> None:
        """A call for which `size` gave *size* has ended, however it did."""
        if size == self._probe:
            self._probe = 0

    def taken(self, items: int) -> None:
        """D3 took a list of so many items: if it refused as long a one, it was not for its length."""
        self._taken = max(self._taken, items)
        if self._taken >= self._refused:
            self._refused = self._most + 1

    def split(self, refused: int, parts: tuple[SentPart, ...]) -> None:
        """A list of *refused* items was turned down and went on as *parts*.

        If every part went through, no item was to blame: it was the length.
        """
        if self._taken < refused < self._refused and all(part.taken for part in parts):
            self._refused = refused


def worth_splitting(call: Call, answer: Answer | None) -> bool:
    """Whether halves of *call* may fare better than the whole: not when D3 blames the source itself."""
    if not isinstance(answer, Refused) or len(call.items) < 2:  # noqa: PLR2004 - one item has no halves
        return False
    said = normalize_number(answer.message)
    blames_source = normalize_number(call.label) in said and not any(
        normalize_number(item) in said for item in call.items
    )
    return not blames_source
