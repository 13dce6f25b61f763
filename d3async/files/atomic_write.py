"""Files that are there whole or not at all; those that are as they were written are left alone."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from d3async.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    Marks = Mapping[str, list[int]]
    """Size in bytes and time of the last change, in nanoseconds since 1970, by a file's name."""

_LINES = 500


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of *path* when the block ends well; mode 0600.

    Raises `JournalError` when the disk or the folder refuses it.
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise _refused(path, error) from error
    part = Path(name)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        part.unlink(missing_ok=True)


def write_lines(file: BinaryIO, lines: Iterable[str], encode: Callable[[str], bytes] = _utf8) -> None:
    """Write *lines*, which bring their own line ends, some at a time."""
    lines = iter(lines)
    while chunk := "".join(islice(lines, _LINES)):
        file.write(encode(chunk))


def _refused(path: Path, error: OSError) -> JournalError:
    reason = error.strerror or str(error)
    hint = " (is it open in another program?)" if isinstance(error, PermissionError) else ""
    return JournalError(f"{path} cannot be written: {reason}{hint}; nothing is lost, `d3async results` writes it again")


def file_stamps(paths: Iterable[Path]) -> Marks:
    """What tells those of *paths* that there are from what anybody else may make of them."""
    return {path.name: mark for path in paths if (mark := _mark(path)) is not None}


def is_unchanged(path: Path, known: Marks) -> bool:
    """Whether *path* is there and has the mark that is *known* of it."""
    mark = _mark(path)
    return mark is not None and mark == known.get(path.name)


def _mark(path: Path) -> list[int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]
