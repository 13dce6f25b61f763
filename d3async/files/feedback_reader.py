"""Feedback files as they come back: rows without `_row`, in the form of the run's own file, and their marks."""

from __future__ import annotations

import csv
import io
import zipfile
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from d3async.errors import JobFileError
from d3async.files.feedback_writer import marked_object, unmarked_object
from d3async.files.job_file import Table, open_table
from d3async.files.results_writer import compact, parsed, spans, split
from d3async.jobs.columns import RESULTS_COLUMNS
from d3async.jobs.feedback_rows import COLUMN, Mark, read_mark
from d3async.jobs.job import Invalid, Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from d3async.files.results_writer import InputRows

T = TypeVar("T")
_HEAD = 1 << 16
_PARTS = 1 << 20
_ROWS = 1000
_NAMES = (b"_row", b"_\0r\0o\0w", b"_\0\0\0r")
_ANY = Mark(0, "xxxx")


class MarkedRow(NamedTuple):
    """A row without its mark, and the mark; None where it has none."""

    row: Row | Invalid
    mark: Mark | None


class MarkedTable:
    """The rows of *table*, a feedback file of a run whose own file is like *inputs*.

    The text of each row is what it would be in that file, whatever was made of the feedback file since.
    """

    def __init__(self, table: Table, inputs: InputRows) -> None:
        self._table = table
        self._inputs = inputs
        self._place = _place(table.header)
        self.header = _without(table.header, self._place)
        own = table.format
        self._delimiter = "," if own.kind == "jsonl" else own.delimiter
        self._as_is = (
            not inputs.is_json and (self.header, self._delimiter) == (inputs.header, inputs.delimiter)
            if own.kind != "jsonl"
            else inputs.is_json
        )

    def __iter__(self) -> Iterator[MarkedRow]:
        read = self._object if self._table.format.kind == "jsonl" else self._record
        return map(read, self._table)

    def _object(self, row: Row | Invalid) -> MarkedRow:
        raw, mark = unmarked_object(row.raw)
        if isinstance(row, Invalid):
            return MarkedRow(row._replace(raw=raw), mark)
        place = _place(row.keys)
        mark = None if place is None else read_mark(row.cells[place])
        keys, cells = _without(row.keys, place), _without(tuple(row.cells), place)
        told = dict(zip(keys, cells, strict=True))
        if not self._as_is:
            raw = self._rendered({key: _cell(cell) for key, cell in told.items()})
        elif parsed(raw) != told:
            raw = compact(told)
        return MarkedRow(row._replace(keys=keys, cells=cells, raw=raw), mark)

    def _record(self, row: Row | Invalid) -> MarkedRow:
        texts = spans(row.raw, self._delimiter)
        if isinstance(row, Invalid):
            mark, at = _last_mark(texts)
            return MarkedRow(row._replace(raw=self._delimiter.join(texts[:at])), mark)
        place = self._place if self._place is not None else len(row.cells)
        mark = read_mark(row.cells[place])
        cells = _without(tuple(row.cells), place)
        if self._as_is:
            raw = self._delimiter.join(_without(tuple(texts), place))
        else:
            values = split(row.raw, self._delimiter)
            raw = self._rendered(dict(zip(self.header, _without(tuple(values), place), strict=False)))
        return MarkedRow(row._replace(keys=self.header, cells=cells, raw=raw), mark)

    def _rendered(self, cells: dict[str, str]) -> str:
        if self._inputs.is_json:
            return compact(cells)
        text = io.StringIO()
        row = [cells.get(name, "") for name in self._inputs.header]
        csv.writer(text, delimiter=self._inputs.delimiter, lineterminator="").writerow(row)
        return text.getvalue()


def same_text(mended: str, known: str, inputs: InputRows) -> bool:
    """Whether the text of a row of a feedback file, its mark taken out, says what *known* says."""
    if inputs.is_json:
        return mended in {known, unmarked_object(marked_object(known, _ANY))[0]}
    one, other = (split(text, inputs.delimiter) for text in (mended, known))
    return _trimmed(one) == _trimmed(other)


def has_marks(
    path: Path, *, kind: str | None = None, encoding: str | None = None, delimiter: str | None = None
) -> bool:
    """Whether *path* is a feedback file: it has the column or key `_row`, with a mark in it, and is no results file.

    What cannot be read is none.
    """
    try:
        if not path.is_file() or not _may_have_marks(path):
            return False
        with open_table(path, kind=kind, encoding=encoding, delimiter=delimiter) as table:
            if table.header and not _is_feedback(table.header):
                return False
            for row in islice(table, _ROWS):
                if isinstance(row, Invalid):
                    found = unmarked_object(row.raw)[1] if table.format.kind == "jsonl" else None
                elif _is_feedback(row.keys):
                    place = _place(row.keys)
                    found = None if place is None else read_mark(row.cells[place])
                else:
                    found = None
                if found is not None:
                    return True
    except (JobFileError, OSError):
        return False
    return False


def _may_have_marks(path: Path) -> bool:
    """A look at a few bytes: files are large, and nearly all of them are none."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head.startswith(b"PK"):
        return any(name in head for name in _NAMES)
    try:
        with zipfile.ZipFile(path) as archive:
            parts = [part for part in archive.namelist() if part.startswith(("xl/sharedStrings", "xl/worksheets/"))]
            return any(_holds_name(archive, part) for part in parts)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return False


def _holds_name(archive: zipfile.ZipFile, part: str) -> bool:
    with archive.open(part) as file:
        return b"_row" in file.read(_PARTS)


def _is_feedback(header: Sequence[str]) -> bool:
    ours = {name.strip().casefold() for name in header} & RESULTS_COLUMNS
    return ours == {COLUMN}


def _place(header: Sequence[str]) -> int | None:
    return next((at for at, name in enumerate(header) if name.strip().casefold() == COLUMN), None)


def _without(cells: tuple[T, ...], place: int | None) -> tuple[T, ...]:
    return cells if place is None else cells[:place] + cells[place + 1 :]


def _last_mark(texts: Sequence[str]) -> tuple[Mark | None, int]:
    """The mark in the last cell that is not empty, and where it is; of a row with more or fewer cells than columns."""
    at = next((at for at in range(len(texts) - 1, -1, -1) if texts[at].strip('" ')), None)
    mark = None if at is None else read_mark(texts[at].strip().strip('"'))
    return (mark, len(texts)) if at is None or mark is None else (mark, at)


def _trimmed(cells: list[str]) -> list[str]:
    while cells and not cells[-1].strip():
        cells = cells[:-1]
    return cells


def _cell(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)
