"""Rows of a CSV file, each with its own text and the physical line it starts on."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from d3async.files.source import LINE_LIMIT, Format, find_delimiter, given_delimiter, text_of
from d3async.jobs.job import Invalid, Problem, Row

if TYPE_CHECKING:
    import _csv
    from collections.abc import Callable, Iterator

    from d3async.errors import JobFileError
    from d3async.files.source import InputFile, Scan

_SEPARATOR_LINE = re.compile(r"\ufeff?sep=(.)", re.IGNORECASE)
_LONE_CR = re.compile(r"\r(?!\r*\n|$)")
_SEPARATOR = "put quotes around a cell that contains the separator"
_QUOTE = "a cell with quotes in it needs them doubled, and quotes around it"
_STRAY_QUOTE = Problem("quotes", "", "", "has a quote where none can be", _QUOTE)
_LONE_RETURN = Problem("quotes", "", "", "has a line break outside quotes", "put quotes around its cell")
_BLANK_BEFORE_QUOTE = Problem("quotes", "", "", "has a blank before a quote", "remove the blank")


class CsvRows:
    """A CSV file whose header has been read. Iterating starts at the first row, as often as wanted."""

    def __init__(self, source: InputFile, scan: Scan, delimiter: str | None = None) -> None:
        self._source = source
        self._scan = scan
        self._newline = _newline(source, scan)
        self._skip, separator = self._before_header()
        chosen = given_delimiter(source, delimiter) if delimiter is not None else separator
        self._delimiter, doubts = (chosen, ()) if chosen else find_delimiter(self._first_line())
        self.header, header_raw, ending, self._header_end = self._read_header()
        self._named = max((at for at, name in enumerate(self.header, 1) if name.strip()), default=0)
        if not self._named:
            raise source.error("has no header: its first line must name the columns")
        self.format = Format(
            kind="csv",
            encoding="utf-8-sig" if scan.bom and scan.encoding == "utf-8" else scan.encoding,
            bom=scan.bom,
            delimiter=self._delimiter,
            line_ending=ending,
            header_raw=header_raw,
            separator_line=separator is not None,
            doubts=scan.doubts + doubts,
        )

    def _before_header(self) -> tuple[int, str | None]:
        """How many lines stand before the header (blank ones, `sep=;`), and what `sep=` says."""
        separator = None
        with text_of(self._source, self._scan, self._newline) as text:
            for skip, line in enumerate(_lines(text.readline, self._source)):
                if skip == 0 and (found := _SEPARATOR_LINE.fullmatch(line.rstrip("\r\n"))):
                    separator = found[1]
                elif line.strip():
                    return skip, separator
        raise self._source.error("has no header: its first line must name the columns")

    def _first_line(self) -> str:
        with text_of(self._source, self._scan, self._newline) as text:
            *_, line = (text.readline(LINE_LIMIT) for _ in range(self._skip + 1))
        return line

    def _read_header(self) -> tuple[tuple[str, ...], str, str, int]:
        with text_of(self._source, self._scan, self._newline) as text:
            taken: list[str] = []
            reader = self._reader(text.readline, taken, self._skip)
            try:
                cells = next(reader)
            except csv.Error as error:
                raise self._unreadable(error, taken, self._skip + 1) from None
        raw = "".join(taken)
        bare = raw.rstrip("\r\n")
        ending = raw[len(bare) :] or "\n"
        first = cells[0].lstrip("\ufeff")
        return (first, *cells[1:]), bare, ending if ending in {"\r\n", "\r"} else "\n", self._skip + reader.line_num

    def _reader(self, readline: Callable[[int], str], taken: list[str], skip: int) -> _csv.Reader:
        for _ in range(skip):
            readline(LINE_LIMIT)
        return csv.reader(_feed(readline, taken, self._source, skip), delimiter=self._delimiter, strict=True)

    def __iter__(self) -> Iterator[Row | Invalid]:
        """Rows in order. Raises `JobFileError` where it is not clear any more where a row ends."""
        with text_of(self._source, self._scan, self._newline) as text:
            yield from self._rows(text.readline)

    def _rows(self, readline: Callable[[int], str]) -> Iterator[Row | Invalid]:
        taken: list[str] = []
        reader = self._reader(readline, taken, self._header_end)
        number, line, keys, width = 0, self._header_end + 1, self.header, len(self.header)
        odd_quote, plain, nul = f'{self._delimiter} "', self._named == width, self._scan.nul
        while True:
            try:
                for cells in reader:
                    raw = taken[0] if len(taken) == 1 else "".join(taken)
                    at, line = line, line + len(taken)
                    taken.clear()
                    if not cells or (not cells[0] and not any(cells)):
                        continue
                    number += 1
                    raw = raw.rstrip("\r\n")
                    if len(cells) == width and plain and odd_quote not in raw and not nul:
                        yield Row(number, at, keys, cells, raw)
                    elif raw.strip():
                        yield self._careful(number, at, cells, raw)
                    else:
                        number -= 1
            except csv.Error as error:
                number, at, line = number + 1, line, line + len(taken)
                yield self._broken(error, number, at, taken)
                taken.clear()
            else:
                return

    def _careful(self, number: int, line: int, cells: list[str], raw: str) -> Row | Invalid:
        """A row that is not plainly as wide as the header, or looks odd."""
        width = len(self.header)
        if len(cells) > width and not any(cells[width:]):
            cells = cells[:width]
        elif self._named <= len(cells) < width:
            cells += [""] * (width - len(cells))
        if len(cells) != width or any(cells[self._named :]):
            wrong = f"has {len(cells)} cell{'' if len(cells) == 1 else 's'}, the header has {self._named}"
            return _invalid(number, line, raw, Problem("cells", "", "", wrong, _SEPARATOR))
        if "\0" in raw:
            return _invalid(number, line, raw, Problem("nul", "", "", "has a zero byte", "remove it"))
        if self._odd_quotes(cells, raw):
            return _invalid(number, line, raw, _BLANK_BEFORE_QUOTE)
        return Row(number, line, self.header, cells, raw)

    def _odd_quotes(self, cells: list[str], raw: str) -> bool:
        """Whether leaving out blanks after separators would change more than those blanks."""
        if f'{self._delimiter} "' not in raw:
            return False
        lines = io.StringIO(raw, newline="")
        other = next(csv.reader(lines, delimiter=self._delimiter, skipinitialspace=True), [])
        return [cell.strip() for cell in other[: len(cells)]] != [cell.strip() for cell in cells]

    def _broken(self, error: csv.Error, number: int, line: int, taken: list[str]) -> Invalid:
        raw = "".join(taken)
        if raw.count('"') % 2 or len(raw) > csv.field_size_limit():
            raise self._unreadable(error, taken, line)
        return _invalid(number, line, raw.rstrip("\r\n"), _LONE_RETURN if "new-line" in str(error) else _STRAY_QUOTE)

    def _unreadable(self, error: csv.Error, taken: list[str], line: int) -> JobFileError:
        if "field limit" in str(error):
            limit = f"{csv.field_size_limit():,}"
            return self._source.error(
                f"line {line} has a cell of more than {limit} characters, or a quote never closes"
            )
        if len(taken) > 1 or "unexpected end" in str(error):
            return self._source.error(f"line {line} opens a quote that never closes")
        return self._source.error(f"line {line} has a quote where none can be: {_QUOTE}")


def _newline(source: InputFile, scan: Scan) -> str:
    """Where lines end: at CR in a file without LF, at either where the first line has stray CRs, else at LF."""
    if scan.cr_only:
        return "\r"
    with text_of(source, scan, "\n") as text:
        return "" if _LONE_CR.search(text.readline(LINE_LIMIT)) else "\n"


def _lines(readline: Callable[[int], str], source: InputFile) -> Iterator[str]:
    taken: list[str] = []
    for line in _feed(readline, taken, source, 0):
        taken.clear()
        yield line


def _feed(readline: Callable[[int], str], taken: list[str], source: InputFile, done: int) -> Iterator[str]:
    """Lines for the csv reader, kept in *taken* until the row they belong to is complete."""
    size = 0
    while line := readline(LINE_LIMIT):
        size = size + len(line) if taken else len(line)
        if size >= LINE_LIMIT:
            raise source.error(f"line {done + 1} is longer than {LINE_LIMIT:,} characters")
        taken.append(line)
        done += 1
        yield line


def _invalid(number: int, line: int, raw: str, problem: Problem) -> Invalid:
    return Invalid(number, line, raw, (replace(problem, value=raw[:80]),))
