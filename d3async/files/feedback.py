"""failed and unknown: rows of the input to mend or to look at, byte by byte as they were, ready to run.

`failed` has the rows failed and invalid as they are, and of partial rows the items that failed; those `not_linked` are
left out, as there is nothing to remove, and a partial row with no other failed items is left out with them.
`unknown` has whole rows.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from d3async.files.inputs import parsed, spans, split
from d3async.files.results import compact, with_items

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from d3async.files.inputs import Inputs
    from d3async.journal.reader import Reader

_BETWEEN_ITEMS = re.compile(r"[;,\s]+")


def failed_records(reader: Reader, inputs: Inputs) -> Iterator[str]:
    """Texts of the rows of the file `failed`, without line ends."""
    outcomes = ("failed", "invalid", "partial")
    for row, items in with_items(reader.rows(outcomes), reader.items(outcomes)):
        if row.outcome != "partial":
            yield row.raw
            continue
        worth = [item.item for item in items if item.outcome == "failed" and item.code != "not_linked"]
        if worth:
            yield narrowed(row.raw, [item.item for item in items], worth, inputs)


def unknown_records(reader: Reader) -> Iterator[str]:
    """Texts of the rows of the file `unknown`, without line ends."""
    return (row.raw for row in reader.rows(("unknown",)))


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
