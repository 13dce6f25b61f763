"""Job files, whatever they are written in, as rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Self

from d3async.errors import JobFileError
from d3async.files.csv_reader import CsvRows
from d3async.files.excel import ExcelRows
from d3async.files.jsonl_reader import JsonlRows
from d3async.files.source import Format, InputFile, open_source, scan, sha256

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from d3async.jobs.job import Invalid, Row

__all__ = ["KINDS", "Format", "Table", "open_table"]

KINDS = ("csv", "jsonl", "xlsx")
_ENDINGS = {
    ".csv": "csv", ".tsv": "csv", ".tab": "csv", ".txt": "csv",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
    ".xlsx": "xlsx", ".xlsm": "xlsx",
}  # fmt: skip
_WORKBOOK = b"PK\x03\x04"


class Table:
    """An open job file: `header` (empty for JSONL), `format`, and its rows, as often as they are wanted.

    Iterating yields a `Row`, or an `Invalid` for a row that cannot be read; it raises `JobFileError` where it can't
    be known any more what a row is. A context manager: leaving it closes the file.
    """

    def __init__(self, source: InputFile, rows: CsvRows | JsonlRows | ExcelRows) -> None:
        self._source = source
        self._rows = rows
        self.name = source.name
        self.header = rows.header
        self.format = rows.format

    @property
    def file(self) -> BinaryIO:
        """The open file itself."""
        return self._source.file

    def __iter__(self) -> Iterator[Row | Invalid]:
        return iter(self._rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def sha256(self) -> str:
        """The file's SHA-256 in hexadecimal; reads it once more."""
        return sha256(self._source)

    def close(self) -> None:
        """Close the file."""
        self._source.close()


def open_table(
    path: Path | None,
    *,
    stream: BinaryIO | None = None,
    kind: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    sheet: str | None = None,
    usual_sheet: str | None = None,
) -> Table:
    """Open *path*, or *stream* where it is None (copied to a temporary file first), and read its header.

    *kind* is one of `KINDS`; without it the ending decides, and the content where the ending says nothing.
    *usual_sheet* is the sheet of a workbook where no *sheet* is given; other files may have none.
    Raises `JobFileError` for what cannot be a job file.
    """
    source = open_source(path, stream)
    try:
        kind = kind or _kind(source)
        usual = usual_sheet if kind == "xlsx" else None
        return Table(source, _rows(source, kind, encoding, delimiter, usual if sheet is None else sheet))
    except BaseException:
        source.close()
        raise


def _rows(
    source: InputFile, kind: str, encoding: str | None, delimiter: str | None, sheet: str | None
) -> CsvRows | JsonlRows | ExcelRows:
    if sheet is not None and kind != "xlsx":
        raise source.error("has no sheets: --sheet is for Excel workbooks")
    if kind == "xlsx":
        return ExcelRows(source, sheet)
    if kind not in KINDS:
        raise JobFileError(f'no format is called "{kind}": there are {", ".join(KINDS)}', code="job_file")
    found = scan(source, encoding)
    return JsonlRows(source, found) if kind == "jsonl" else CsvRows(source, found, delimiter)


def _kind(source: InputFile) -> str:
    ending = source.name[source.name.rfind(".") :].casefold() if "." in source.name else ""
    if ending in _ENDINGS:
        return _ENDINGS[ending]
    head = source.head(1 << 12)
    if head.startswith(_WORKBOOK):
        return "xlsx"
    return "jsonl" if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in {b"{", b"["} else "csv"
