"""Row marks such as `17-k3f9`: the number of a row in its journal, and four letters that check it.

A mark names a row in a feedback file (`failed.csv`, `unknown.csv`), wherever the row is moved. The letters are a
digest of the journal, the row and what the row said when the file was written: a mark of another run folder, or of a
row that was changed since, does not fit.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import NamedTuple

COLUMN = "_row"
"""The column or key of a feedback file that holds the mark."""
_FIRST = "bcdfghjkmnpqrstvwxyz"
_OTHERS = "0123456789" + _FIRST
# no vowels and a letter first: no spreadsheet takes a mark for a date or a number
_MARK = re.compile(rf"'?([0-9]{{1,18}})-([{_FIRST}][{_OTHERS}]{{3}})", re.ASCII)


class Mark(NamedTuple):
    """A mark as read: *job* is the row's number in the journal, *letters* check it."""

    job: int
    letters: str

    def __str__(self) -> str:
        return f"{self.job}-{self.letters}"


def row_mark(uid: str, job: int, content: bytes) -> Mark:
    """The mark of row *job* of the journal *uid*; *content* is the digest of what the row says now."""
    origin = b"\x1f".join((uid.encode(), str(job).encode(), content))
    number = int.from_bytes(blake2b(origin, digest_size=8, person=b"row mark").digest(), "big")
    number, first = divmod(number, len(_FIRST))
    letters = _FIRST[first]
    for _ in range(3):
        number, place = divmod(number, len(_OTHERS))
        letters += _OTHERS[place]
    return Mark(job, letters)


def read_mark(cell: object) -> Mark | None:
    """The mark that *cell* holds; None where it holds none. Blanks, letter case and a leading `'` do not matter."""
    found = _MARK.fullmatch(cell.strip().lower()) if isinstance(cell, str) else None
    return Mark(int(found[1]), found[2]) if found else None


def fits(mark: Mark, uid: str, content: bytes) -> bool:
    """Whether *mark* is the one that its row of the journal *uid* has with *content*."""
    return mark == row_mark(uid, mark.job, content)
