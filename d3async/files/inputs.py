"""A row's own text, back into what it says: its cells, or its object."""

from __future__ import annotations

import csv
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from d3async.files.format import Format


class Inputs:
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

    def with_keys(self, raws: Iterable[str]) -> Inputs:
        """The same for JSON objects, with a column for every key that any of *raws* has, in the order they are met."""
        keys = dict.fromkeys(self.header)
        for raw in raws:
            found = parsed(raw)
            keys.update(dict.fromkeys(found) if isinstance(found, dict) else {})
        return Inputs(self.form, tuple(keys))

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
