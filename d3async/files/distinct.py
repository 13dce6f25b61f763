"""How many different values a long stream has, and which come again, in memory that does not grow with it."""

from __future__ import annotations

import tempfile
from array import array
from bisect import bisect_left
from itertools import pairwise
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

_PARTS = 64
_FULL = 1 << 13
_SIZE = 8
_BOUNDS = [-(1 << 63) + part * (1 << 64) // _PARTS for part in range(_PARTS)] + [1 << 63]


class Distinct:
    """Keeps 8 bytes a value in a temporary file: its hash, sorted in runs, so that equal ones can be found together.

    Two different values may be taken for the same, once in 10^19 pairs. *repeats* says whether `repeated` will be
    asked, which takes longer. A context manager: the file is gone with it.
    """

    def __init__(self, *, repeats: bool = False) -> None:
        self._new: list[int] | set[int] = [] if repeats else set()
        self._take = self._new.extend if isinstance(self._new, list) else self._new.update
        self._runs: list[list[tuple[int, int]]] = [[] for _ in range(_PARTS)]
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, values: Iterable[Hashable]) -> None:
        """Take *values* in."""
        self._take(map(hash, values))
        if len(self._new) >= _FULL:
            self._put_away()

    def _put_away(self) -> None:
        numbers = sorted(self._new)
        self._new.clear()
        start = self._file.seek(0, 2)
        array("q", numbers).tofile(self._file)
        edges = [bisect_left(numbers, bound) for bound in _BOUNDS]
        for runs, (first, end) in zip(self._runs, pairwise(edges), strict=True):
            if first < end:
                runs.append((start + first * _SIZE, end - first))

    def count(self) -> int:
        """How many different values there were."""
        return sum(len(set(part)) for part in self._parts())

    def repeated(self) -> Iterator[int]:
        """The hash of each value that came more than once."""
        for part in self._parts():
            seen: set[int] = set()
            again: set[int] = set()
            for number in part:
                (again if number in seen else seen).add(number)
            yield from again

    def _parts(self) -> Iterator[array[int]]:
        """All hashes, equal ones in the same part."""
        self._put_away()
        for runs in self._runs:
            part = array("q")
            for place, count in runs:
                self._file.seek(place)
                part.frombytes(self._file.read(count * _SIZE))
            yield part
