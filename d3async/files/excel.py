"""Excel workbooks (extra `excel`): rows read from them, and texts written into them, never a formula."""

from __future__ import annotations

import csv
import importlib.util
import io
import re
import zipfile
import zlib
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, BinaryIO

from d3async.files.source import Format
from d3async.jobs.job import Invalid, Problem, Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from python_calamine import CalamineSheet

    from d3async.files.source import InputFile

SIZE_LIMIT = 512 << 20
"""Bytes a workbook may have when unpacked."""
AREA_LIMIT = 12_000_000
"""Cells between the first and the last filled one of a sheet: calamine keeps room for each."""
_CHUNK = 1 << 20
_OVERLAP = 64
_END = "\r\n"
_CELL = re.compile(rb"""r=["']([A-Za-z]{1,3})(\d{1,7})["']""")
_ERROR = b't="e"'
_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED


class ExcelRows:
    """One sheet of a workbook whose header has been read. Its rows are rendered to CSV as their raw text."""

    def __init__(self, source: InputFile, sheet: str | None = None) -> None:
        self._source = source
        errors = _look_inside(source)
        self._sheet, doubts = _sheet(source, sheet)
        if errors:
            doubts += ("a cell holds an Excel error (#N/A, #REF! …): such cells are read as empty",)
        header, self._skip = self._header()
        self._width = max((at for at, name in enumerate(header, 1) if name.strip()), default=0)
        if not self._width:
            raise source.error(f'sheet "{self._sheet.name}" is empty')
        self.header = header[: self._width]
        self.format = Format(
            kind="xlsx",
            encoding="utf-8-sig",
            bom=True,
            line_ending=_END,
            sheet=self._sheet.name,
            header_raw=_rendered(self.header),
            doubts=doubts,
        )

    def _header(self) -> tuple[tuple[str, ...], int]:
        for at, cells in enumerate(self._sheet.iter_rows()):
            if any(cell != "" for cell in cells):
                return tuple(str(_cell(cell)) for cell in cells), at + 1
        return (), 0

    def __iter__(self) -> Iterator[Row | Invalid]:
        """Rows in order; *line* is the number Excel shows beside the row."""
        number = 0
        for line, found in enumerate(self._sheet.iter_rows(), 1):
            if line <= self._skip or all(cell == "" for cell in found):
                continue
            number += 1
            cells = [_cell(cell) for cell in found]
            raw = _rendered(cells[: self._width])
            if any(cell != "" for cell in cells[self._width :]):
                wrong = Problem("cells", "", raw[:80], "has a value in a column without a name", "name the column")
                yield Invalid(number, line, raw, (wrong,))
            else:
                yield Row(number, line, self.header, cells[: self._width], raw)


def _sheet(source: InputFile, name: str | None) -> tuple[CalamineSheet, tuple[str, ...]]:
    try:
        import python_calamine as calamine  # noqa: PLC0415 - an extra, imported by those who read workbooks
    except ImportError:
        raise source.error("is an Excel workbook: pip install 'd3async[excel]' to read it") from None
    try:
        source.file.seek(0)
        workbook = calamine.CalamineWorkbook.from_filelike(source.file)
        visible = [
            sheet.name
            for sheet in workbook.sheets_metadata
            if sheet.typ == calamine.SheetTypeEnum.WorkSheet and sheet.visible == calamine.SheetVisibleEnum.Visible
        ]
        if name is not None and name not in workbook.sheet_names:
            raise source.error(f'has no sheet "{name}"; it has {_listed(workbook.sheet_names)}')
        if not visible and name is None:
            raise source.error("has no sheet that can be seen: give --sheet")
        chosen = name if name is not None else visible[0]
        return workbook.get_sheet_by_name(chosen), _other_sheets(visible, chosen if name is None else None)
    except calamine.PasswordError:
        raise source.error("is protected by a password: save it without one") from None
    except calamine.CalamineError as error:
        raise source.error(f"is no workbook that can be read: {error}") from None


def _other_sheets(visible: list[str], chosen: str | None) -> tuple[str, ...]:
    others = [sheet for sheet in visible if sheet != chosen]
    if chosen is None or not others:
        return ()
    return (f'only sheet "{chosen}" is read, not {_listed(others)}: --sheet chooses another',)


def _listed(names: list[str]) -> str:
    shown = ", ".join(f'"{name}"' for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")  # noqa: PLR2004 - five fit a line


def _cell(value: object) -> object:
    """A cell as its text, but dates, which stay dates."""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, datetime):
        return (value + timedelta(milliseconds=500)).replace(microsecond=0)
    return value if isinstance(value, str | date) else str(value)


def _rendered(cells: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator=_END).writerow(map(_shown, cells))
    return text.getvalue().removesuffix(_END)


def _shown(cell: object) -> str:
    if isinstance(cell, datetime):
        return f"{cell:%Y-%m-%d %H:%M:%S}"
    return str(cell)


def _look_inside(source: InputFile) -> bool:
    """Refuse what would fill the memory; say whether cells hold Excel errors. Raises `JobFileError`."""
    source.file.seek(0)
    try:
        with zipfile.ZipFile(source.file) as archive:
            return _look_at_parts(source, archive)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, OSError) as error:
        raise source.error("is no Excel workbook (.xlsx)") from error


def _look_at_parts(source: InputFile, archive: zipfile.ZipFile) -> bool:
    size, errors = 0, False
    for part in archive.infolist():
        area, tail = _Area(), b""
        for chunk in _unpacked(source.file, part):
            size += len(chunk)
            if size > SIZE_LIMIT:
                raise source.error(f"is larger than {SIZE_LIMIT >> 20} MB when unpacked: save the sheet as CSV")
            errors = errors or (_ERROR in chunk and part.filename.startswith("xl/worksheets/"))
            area.add(tail + chunk)
            tail = chunk[-_OVERLAP:]
        if area.cells() > AREA_LIMIT:
            raise source.error(f"has a sheet that spans {area.cells():,} cells: save the sheet as CSV")
    return errors


class _Area:
    """The rectangle between the first and the last cell seen."""

    def __init__(self) -> None:
        self._rows: list[int] = []
        self._columns: set[bytes] = set()

    def add(self, xml: bytes) -> None:
        found = _CELL.findall(xml)
        if found:
            columns, rows = zip(*found, strict=True)
            self._columns.update(columns)
            numbers = [*self._rows, *map(int, set(rows))]
            self._rows = [min(numbers), max(numbers)]

    def cells(self) -> int:
        if not self._rows:
            return 0
        columns = [_column(letters.upper()) for letters in self._columns]
        return (self._rows[-1] - self._rows[0] + 1) * (max(columns) - min(columns) + 1)


def _column(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number


def _unpacked(file: BinaryIO, part: zipfile.ZipInfo) -> Iterator[bytes]:
    """What *part* really holds, whatever size it claims to have."""
    file.seek(part.header_offset)
    local = file.read(30)
    file.seek(part.header_offset + 30 + int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little"))
    left, inflate = part.compress_size, zlib.decompressobj(-zlib.MAX_WBITS)
    if part.compress_type not in {_STORED, _DEFLATED}:
        raise NotImplementedError
    while left > 0 and (packed := file.read(min(_CHUNK, left))):
        left -= len(packed)
        if part.compress_type == _STORED:
            yield packed
            continue
        while packed:
            yield inflate.decompress(packed, _CHUNK)
            packed = inflate.unconsumed_tail


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
