"""Workbooks that are written (extra `excel`): every cell is text, none is a formula, a number or a link."""

from __future__ import annotations

import importlib.util
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_AS_TEXT = {
    "constant_memory": True,
    "strings_to_formulas": False,
    "strings_to_urls": False,
    "strings_to_numbers": False,
}
_BEGUN = datetime(2000, 1, 1, tzinfo=UTC).replace(tzinfo=None)
"""When a workbook says that it was made: the same rows make the same file."""
_CELL_LIMIT = 32767
_ROW_LIMIT = 1_048_576
_NAME_LIMIT = 31
_NOT_IN_NAMES = re.compile(r"[\[\]:*?/\\]")
_NOT_IN_XML = re.compile("[\ud800-\udfff\ufffe\uffff]")
_WIDTHS = 14
_COLOURS = {
    "ok": "#C6EFCE", "partial": "#FFEB9C", "failed": "#FFC7CE", "unknown": "#E4C6F5", "invalid": "#F8CBAD",
    "unsent": "#E7E6E6",
}  # fmt: skip


def can_write_workbooks() -> bool:
    """Whether the extra `excel` is there."""
    return importlib.util.find_spec("xlsxwriter") is not None


class TextWorkbook:
    """A workbook that is written into *file*, sheet by sheet; `close` finishes it."""

    def __init__(self, file: BinaryIO) -> None:
        import xlsxwriter  # noqa: PLC0415 - an extra, imported by those who write workbooks

        self._book: Any = xlsxwriter.Workbook(file, _AS_TEXT)
        self._book.set_properties({"created": _BEGUN})
        self._bold = self._book.add_format({"bold": True})
        # cells of the format "text" stay text when they are edited
        self._text = self._book.add_format({"num_format": "@"})
        self._fills = {name: self._book.add_format({"bg_color": colour}) for name, colour in _COLOURS.items()}

    def add(self, name: str, header: Sequence[str], rows: Iterable[Sequence[str]], *, outcome: str = "") -> int:
        """Add the sheet *name*; the number of *rows* that it has room for. Cells below *outcome* are coloured."""
        sheet = self._book.add_worksheet(_NOT_IN_NAMES.sub("_", name)[:_NAME_LIMIT].strip("'") or "rows")
        coloured = header.index(outcome) if outcome in header else -1
        sheet.freeze_panes(1, 0)
        sheet.set_column(0, max(0, len(header) - 1), _WIDTHS, self._text)
        for at, cell in enumerate(header):
            sheet.write_string(0, at, _storable(cell), self._bold)
        number = 0
        for number, cells in enumerate(rows, 1):
            if number >= _ROW_LIMIT:
                return number - 1
            for at, cell in enumerate(cells):
                fill = self._fills.get(cell, self._text) if at == coloured else self._text
                if cell:
                    sheet.write_string(number, at, _storable(cell), fill)
        return number

    def close(self) -> None:
        """Write it."""
        self._book.close()


def write_sheet(file: BinaryIO, name: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a workbook with one sheet *name* into *file*."""
    book = TextWorkbook(file)
    book.add(name, header, rows)
    book.close()


def pairs(told: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """The values of *told* with their keys, those of objects inside after a dot."""
    for key, value in told.items():
        if isinstance(value, dict):
            yield from pairs(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", "" if value is None else str(value)


def _storable(cell: str) -> str:
    return _NOT_IN_XML.sub("\ufffd", cell)[:_CELL_LIMIT]
