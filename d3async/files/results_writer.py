"""Results: one line for each row of the input, one for each item, in the input's order.

CSV is written to open in Excel and LibreOffice with the columns right: UTF-8 with BOM, the input's separator, CRLF
between records (RFC 4180), and no cell a spreadsheet would run. Rows shorter or longer than the header are made to fit
it; feedback files hold them as they are.
"""

from __future__ import annotations

import csv
import json
import re
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from d3async.files.number_format import instants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from d3async.files.source import Format
    from d3async.journal.model import ItemRecord, RowRecord


class InputRows:
    """Reads the text of rows of one file. Text no reader can make sense of is its row's first cell."""

    def __init__(self, form: Format, header: Sequence[str]) -> None:
        self.form = form
        self.header = tuple(header)
        self.is_json = form.kind == "jsonl"
        self.delimiter = "," if self.is_json else form.delimiter

    def cells(self, raw: str) -> list[str]:
        """The cells below the header: a short row is filled up, what goes beyond the header is left out."""
        if self.is_json:
            found = self.told(raw)
            return [as_cell(found.get(name)) for name in self.header] if isinstance(found, dict) else self._fit([raw])
        return self._fit(split(raw, self.delimiter))

    def told(self, raw: str) -> dict[str, Any] | str:
        """The row as an object, cells by their header; a JSON line that is no object as its text."""
        if not self.is_json:
            cells = zip(self.header, self._fit(split(raw, self.delimiter)), strict=True)
            return {name: cell for name, cell in cells if name or cell}
        found = parsed(raw)
        return found if isinstance(found, dict) else raw

    def with_keys(self, raws: Iterable[str]) -> InputRows:
        """The same for JSON objects, with a column for every key that any of *raws* has, in the order they are met."""
        keys = dict.fromkeys(self.header)
        for raw in raws:
            found = parsed(raw)
            keys.update(dict.fromkeys(found) if isinstance(found, dict) else {})
        return InputRows(self.form, tuple(keys))

    def _fit(self, cells: list[str]) -> list[str]:
        missing = len(self.header) - len(cells)
        return cells + [""] * missing if missing >= 0 else cells[:missing]


def split(raw: str, delimiter: str) -> list[str]:
    """The cells of one CSV record."""
    try:
        return next(csv.reader([raw], delimiter=delimiter), [])
    except csv.Error:
        return [raw]


def spans(raw: str, delimiter: str) -> list[str]:
    """The cells of one CSV record as they are written, quotes and all: joined by *delimiter* they are *raw* again."""
    mark = re.escape(delimiter)
    cell = re.compile(rf'(?:"(?:[^"]|"")*+"?)?[^{mark}]*+')
    found, at = [], 0
    while True:
        match = cell.match(raw, at)
        end = match.end() if match else at
        found.append(raw[at:end])
        if end >= len(raw):
            return found
        at = end + len(delimiter)


def parsed(text: str) -> Any:
    """What a JSON text says; the text itself where it is no JSON (`NaN` is none)."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return text


def as_cell(value: object) -> str:
    """A JSON value as the text of a cell."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _no_number(name: str) -> Any:
    raise ValueError(name)


COLUMNS = (
    "_row", "_line", "_outcome", "_code", "_message", "_http", "_attempts", "_sent_at", "_done_at",
    "_items_ok", "_items_failed", "_items_unknown",
)  # fmt: skip
ITEM_COLUMNS = ("_row", "_line", "_source", "_item", "_outcome", "_code", "_message")

_RUN_BY_SPREADSHEETS = ("=", "+", "-", "@", "\t", "\r")
_CONTROLS = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029]+")


def guarded(cell: str) -> str:
    """*cell* as text that no spreadsheet runs as a formula."""
    return f"'{cell}" if cell.startswith(_RUN_BY_SPREADSHEETS) else cell


def one_line(text: str) -> str:
    """*text* without line ends and control characters."""
    return text if text.isprintable() else _CONTROLS.sub(" ", text).strip()


def csv_lines(rows: Iterable[RowRecord], inputs: InputRows) -> Iterator[str]:
    """Lines of results.csv, the header first."""
    written = _csv_writer(inputs.delimiter)
    yield written([*COLUMNS, *map(guarded, inputs.header)])
    d, instant, text, input_cells = inputs.delimiter, instants(), _texts(written), _input_cells(inputs, written)
    # one expression a row: a million rows are to cost little more than csv.writer takes for them
    for row, line, outcome, code, message, http, attempts, sent_at, done_at, raw, good, bad, unknown, _, _ in rows:
        counts = f"{d}{d}" if good is None else f"{good}{d}{bad}{d}{unknown}"
        yield (
            f"{row}{d}{line}{d}{outcome}{d}{text(code)}{d}{text(message)}{d}{'' if http is None else http}{d}{attempts}"
            f"{d}{instant(sent_at)}{d}{instant(done_at)}{d}{counts}{d}{input_cells(raw)}"
        )


def result_cells(rows: Iterable[RowRecord], inputs: InputRows) -> Iterator[list[str]]:
    """The cells of results.csv, unguarded: for a workbook, whose texts never run."""
    instant = instants()
    for row in rows:
        counts = (row.items_ok, row.items_failed, row.items_unknown)
        own = (row.row, row.line, row.outcome, row.code, row.message, row.http, row.attempts)
        times = (instant(row.sent_at), instant(row.done_at))
        told = ["" if value is None else str(value) for value in (*own, *times, *counts)]
        yield [*told, *inputs.cells(row.raw)]


def item_lines(items: Iterable[ItemRecord], inputs: InputRows) -> Iterator[str]:
    """Lines of items.csv, the header first."""
    written = _csv_writer(inputs.delimiter)
    yield written(ITEM_COLUMNS)
    for row, line, *texts in items:
        yield written([row, line, *(guarded(one_line(text)) for text in texts)])


def json_lines(
    rows: Iterable[RowRecord], items: Iterable[ItemRecord], inputs: InputRows, answer: Callable[[int], str | None]
) -> Iterator[str]:
    """Lines of results.jsonl. *answer* finds D3's answer; rows of one call share theirs."""
    instant = instants()
    response = lru_cache(maxsize=16)(lambda number: _response(answer(number)))
    for row, its_items in with_items(rows, items):
        told = {
            "row": row.row,
            "line": row.line,
            "outcome": row.outcome,
            "code": row.code,
            "message": one_line(row.message),
            "http": row.http,
            "attempts": row.attempts,
            "sent_at": instant(row.sent_at) or None,
            "done_at": instant(row.done_at) or None,
            "items": [
                {"item": item.item, "outcome": item.outcome, "code": item.code, "message": one_line(item.message)}
                for item in its_items
            ],
            "response": None if row.answer is None else response(row.answer),
            "input": inputs.told(row.raw),
        }
        yield f"{compact(told)}\n"


def json_array(lines: Iterable[str]) -> Iterator[str]:
    """The same lines as one JSON array."""
    before = "[\n"
    for line in lines:
        yield before + line.removesuffix("\n")
        before = ",\n"
    yield "\n]\n" if before == ",\n" else "[]\n"


def with_items(
    rows: Iterable[RowRecord], items: Iterable[ItemRecord]
) -> Iterator[tuple[RowRecord, Sequence[ItemRecord]]]:
    """Each row with its items; both come in the input's order, and no row's items without the row."""
    groups = groupby(items, attrgetter("row"))
    ahead = next(groups, None)
    for row in rows:
        if ahead is not None and ahead[0] == row.row:
            yield row, list(ahead[1])
            ahead = next(groups, None)
        else:
            yield row, ()


def compact(told: Any) -> str:
    """*told* as JSON in one line, readable; half of a surrogate pair, which UTF-8 has no bytes for, stays escaped."""
    text = json.dumps(told, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(told)
    return text


def _texts(written: Callable[[Iterable[object]], str]) -> Callable[[str], str]:
    """From a text of ours or D3's to its cell; the same few come again and again."""

    @lru_cache(maxsize=1024)
    def text(value: str) -> str:
        return written([guarded(one_line(value)), ""])[:-3]

    return text


def _input_cells(inputs: InputRows, written: Callable[[Iterable[object]], str]) -> Callable[[str], str]:
    """From a row's own text to its cells in results.csv; text that is right as it is is not taken apart."""
    if inputs.is_json:
        return lambda raw: written([guarded(cell) for cell in inputs.cells(raw)])
    mark = re.escape(inputs.delimiter)
    bare = rf'(?:[^=+\-@\t\r\n"{mark}][^\r\n"{mark}]*+)?+'
    # only what csv would quote as well
    quoted = rf'"(?![=+\-@\t])(?=[^"]*(?:{mark}|""))[^"\r\n]*+(?:""[^"\r\n]*+)*+"'
    cell = rf"(?:{quoted}|{bare})"
    right = re.compile(rf"{cell}(?:{mark}{cell}){{{len(inputs.header) - 1}}}+").fullmatch

    def cells(raw: str) -> str:
        return f"{raw}\r\n" if right(raw) else written([guarded(cell) for cell in inputs.cells(raw)])

    return cells


def _csv_writer(delimiter: str) -> Callable[[Iterable[object]], str]:
    return csv.writer(_Back(), delimiter=delimiter).writerow


class _Back:
    """Hands back what a csv.writer wrote: its `writerow` returns what `write` returns."""

    def write(self, text: str) -> str:
        return text


def _response(body: str | None) -> Any:
    return None if body is None else parsed(body)
