"""Files that lie in a run folder as they were written: the same rows need not be written into them again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    Marks = Mapping[str, list[int]]
    """Size in bytes and time of the last change, in nanoseconds since 1970, by a file's name."""


def marks(paths: Iterable[Path]) -> Marks:
    """What tells those of *paths* that there are from what anybody else may make of them."""
    return {path.name: mark for path in paths if (mark := _mark(path)) is not None}


def stands(path: Path, known: Marks) -> bool:
    """Whether *path* is there and has the mark that is *known* of it."""
    mark = _mark(path)
    return mark is not None and mark == known.get(path.name)


def _mark(path: Path) -> list[int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]
