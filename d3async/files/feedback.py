"""failed and unknown: rows of the input to mend or to look at, byte by byte as they were, each with its mark.

`failed` has the rows failed and invalid as they are, and of partial rows the items that failed; those `not_linked` are
left out, as there is nothing to remove, and a partial row with no other failed items is left out with them.
`unknown` has whole rows. The mark comes last, in the column or key `_row`: see `sansio.row_marks`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import repeat
from typing import TYPE_CHECKING, Any

from d3async.files.inputs import parsed, spans, split
from d3async.files.results import compact, with_items
from d3async.sansio.row_marks import COLUMN, Mark, read_mark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from d3async.files.inputs import Inputs
    from d3async.journal.reader import Reader

_MARK_KEY = re.compile(rf'(?:,\s*)?"{COLUMN}"\s*:\s*"([^"\\]*)"')
_BETWEEN_ITEMS = re.compile(r"[;,\s]+")


_FAILED, _UNKNOWN = ("failed", "invalid", "partial"), ("unknown",)
Records = Iterator[tuple[str, Mark | None]]
"""Texts of rows without line ends, and their marks; None where the journal gives none."""


def failed_records(reader: Reader, inputs: Inputs) -> Records:
    """The rows of the file `failed`."""
    marks = _marks(reader, _FAILED)
    # not strict: the marks may be endless
    for (row, items), mark in zip(with_items(reader.rows(_FAILED), reader.items(_FAILED)), marks, strict=False):
        if row.outcome != "partial":
            yield row.raw, mark
            continue
        worth = [item.item for item in items if item.outcome == "failed" and item.code != "not_linked"]
        if worth:
            yield narrowed(row.raw, [item.item for item in items], worth, inputs), mark


def unknown_records(reader: Reader) -> Records:
    """The rows of the file `unknown`."""
    marks = _marks(reader, _UNKNOWN)
    return ((row.raw, mark) for row, mark in zip(reader.rows(_UNKNOWN), marks, strict=False))


def _marks(reader: Reader, outcomes: Sequence[str]) -> Iterator[Mark | None]:
    found = reader.marks(outcomes)
    return repeat(None) if found is None else found


def marked(raw: str, mark: Mark | None, inputs: Inputs) -> str:
    """*raw* with *mark* as its last cell, below `_row`, or as its last key."""
    if mark is None:
        return raw
    if inputs.is_json:
        return marked_object(raw, mark)
    missing = len(inputs.header) - len(spans(raw, inputs.delimiter))
    return raw + inputs.delimiter * (max(0, missing) + 1) + str(mark)


def marked_object(raw: str, mark: Mark) -> str:
    """*raw* with the key of *mark*; in a text that is no JSON it is put where it belongs once the text is mended."""
    key = f'"{COLUMN}": "{mark}"'
    bare = raw.rstrip()
    inner = bare.removesuffix("}")
    before = inner.rstrip()[-1:]
    comma = "" if before in {"", "{"} else " " if before == "," else ", "
    return f"{inner}{comma}{key}}}"


def unmarked_object(raw: str) -> tuple[str, Mark | None]:
    """The text that `marked_object` made *raw* of, and the mark; None where there is none."""
    matches = list(_MARK_KEY.finditer(raw))
    if not matches:
        return raw, None
    found = matches[-1]
    return raw[: found.start()] + raw[found.end() :], read_mark(found[1])


def narrowed(raw: str, items: Sequence[str], kept: Sequence[str], inputs: Inputs) -> str:
    """*raw* with only the items *kept* in the cell that lists its *items*; the rest of it stays byte by byte.

    The cell is found by what is in it, whatever its column is called. Without such a cell (the items came from
    `--set`) the row stays whole.
    """
    if inputs.is_json:
        return _narrowed_object(raw, items, kept)
    for place, cell in enumerate(split(raw, inputs.delimiter)):
        if _listed(cell) == list(items):
            written = spans(raw, inputs.delimiter)
            written[place] = _written(_joined(cell, kept), inputs.delimiter)
            return inputs.delimiter.join(written)
    return raw


def _narrowed_object(raw: str, items: Sequence[str], kept: Sequence[str]) -> str:
    told = parsed(raw)
    if not isinstance(told, dict):
        return raw
    for key, value in told.items():
        if _listed(value) == list(items):
            told[key] = _joined(value, kept) if isinstance(value, str) else list(kept)
            return json.dumps(told) if r"\u" in raw else compact(told)
    return raw


def _listed(value: Any) -> list[str]:
    parts = _BETWEEN_ITEMS.split(value) if isinstance(value, str) else value if isinstance(value, list) else [value]
    return list(dict.fromkeys(str(part).strip() for part in parts if str(part).strip()))


def _joined(cell: str, kept: Sequence[str]) -> str:
    between = _BETWEEN_ITEMS.search(cell.strip())
    return (between.group() if between else ";").join(kept)


def _written(cell: str, delimiter: str) -> str:
    quoted = any(letter in cell for letter in (delimiter, '"', "\r", "\n"))
    doubled = cell.replace('"', '""')
    return f'"{doubled}"' if quoted else cell
