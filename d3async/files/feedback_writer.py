"""`failed` and `unknown` of a run folder: rows of the input to mend or to look at, byte by byte, each with its mark.

They are written aside, never over a file that the user has changed.

`failed` has the rows failed and invalid as they are, and of partial rows the items that failed; those `not_linked` are
left out, as there is nothing to remove, and a partial row with no other failed items is left out with them.
`unknown` has whole rows.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, BinaryIO

from d3async.files.atomic_write import atomic_write, write_lines
from d3async.files.excel import can_write_workbooks, write_sheet
from d3async.files.results_writer import compact, parsed, spans, split, with_items
from d3async.jobs.feedback_rows import COLUMN, Mark, read_mark
from d3async.journal.sqlite.reader import FILE
from d3async.journal.sqlite.session import note_written

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from d3async.files.results_writer import InputRows
    from d3async.files.source import Format
    from d3async.journal.protocols import RunReader

_MARK_KEY = re.compile(rf'(?:,\s*)?"{COLUMN}"\s*:\s*"([^"\\]*)"')
_BETWEEN_ITEMS = re.compile(r"[;,\s]+")


_FAILED, _UNKNOWN = ("failed", "invalid", "partial"), ("unknown",)
Records = Iterator[tuple[str, Mark | None]]
"""Texts of rows without line ends, and their marks; None where the journal gives none."""


def failed_records(reader: RunReader, inputs: InputRows) -> Records:
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


def unknown_records(reader: RunReader) -> Records:
    """The rows of the file `unknown`."""
    marks = _marks(reader, _UNKNOWN)
    return ((row.raw, mark) for row, mark in zip(reader.rows(_UNKNOWN), marks, strict=False))


def _marks(reader: RunReader, outcomes: Sequence[str]) -> Iterator[Mark | None]:
    found = reader.marks(outcomes)
    return repeat(None) if found is None else found


def marked(raw: str, mark: Mark | None, inputs: InputRows) -> str:
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


def narrowed(raw: str, items: Sequence[str], kept: Sequence[str], inputs: InputRows) -> str:
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


_SHEET = "rows"
_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class FeedbackFile:
    """The file that was written, None where it would have no rows; *left* are those that the user has changed."""

    path: Path | None
    left: tuple[Path, ...]


def write_failed(reader: RunReader, form: Format, inputs: InputRows) -> FeedbackFile:
    """Write the rows that are failed or invalid, and the failed items of partial rows."""
    return _write(reader, "failed", lambda: failed_records(reader, inputs), form, inputs)


def write_unknown(reader: RunReader, form: Format, inputs: InputRows) -> FeedbackFile:
    """Write the rows that are unknown."""
    return _write(reader, "unknown", lambda: unknown_records(reader), form, inputs)


def feedback_paths(folder: Path, name: str) -> list[Path]:
    """The files *name*, *name*-2 … there are in *folder*, the newest last."""
    pattern = re.compile(rf"{name}(?:-([2-9]|[1-9][0-9]+))?\.(?:csv|jsonl|xlsx)")
    found = [(match, path) for path in folder.glob(f"{name}*") if (match := pattern.fullmatch(path.name))]
    return [path for match, path in sorted(found, key=lambda pair: (int(pair[0][1] or 1), pair[1].name))]


def ending_of_kind(kind: str | None) -> str:
    """The ending of feedback files for an input of *kind*: a workbook gets CSV where the extra `excel` is missing."""
    return kind if kind == "jsonl" or (kind == "xlsx" and can_write_workbooks()) else "csv"


def digest_of(file: BinaryIO) -> str:
    """The SHA-256 of *file* in hexadecimal, from its start."""
    digest = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _write(
    reader: RunReader, name: str, records: Callable[[], Records], form: Format, inputs: InputRows
) -> FeedbackFile:
    folder, ending, known = reader.folder, ending_of_kind(form.kind), reader.written()
    there = feedback_paths(folder, name)
    left = tuple(path for path in there if not _is_as_written(path, known))
    number = 1 + max((_number(path) for path in left), default=0)
    path = folder / f"{name}{'' if number == 1 else f'-{number}'}.{ending}"
    has_rows = next(records(), None) is not None
    for old in there:
        if old not in left and not (has_rows and old == path):
            old.unlink(missing_ok=True)
    if has_rows:
        _write_rows(path, records, form, inputs)
    return FeedbackFile(path if has_rows else None, left)


def _number(path: Path) -> int:
    return int(path.stem.partition("-")[2] or 1)


def _is_as_written(path: Path, known: Mapping[str, Sequence[str]]) -> bool:
    try:
        with path.open("rb") as file:
            return digest_of(file) in known.get(path.name, ())
    except OSError:
        return False


def _write_rows(path: Path, records: Callable[[], Records], form: Format, inputs: InputRows) -> None:
    if path.suffix == ".xlsx":
        _keep(path, lambda file: _write_workbook(file, records(), form, inputs))
        return
    try:
        _keep(path, lambda file: _write_text(file, records(), form, inputs))
    except UnicodeEncodeError:
        # a row was mended with letters that the input's encoding does not have
        wider = replace(form, encoding="utf-8-sig", bom=True)
        _keep(path, lambda file: _write_text(file, records(), wider, inputs))


def _keep(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Have *path* written aside, and noted before it takes its place."""
    with atomic_write(path) as file:
        write(file)
        file.flush()
        note_written(path.parent / FILE, path.name, digest_of(file))


def _write_text(file: BinaryIO, records: Records, form: Format, inputs: InputRows) -> None:
    first = next(records)
    if first[1] is not None and form.header_raw:
        form = replace(form, header_raw=f"{form.header_raw}{inputs.delimiter}{COLUMN}")
    file.write(form.start())
    lines = (marked(raw, mark, inputs) + form.line_ending for raw, mark in chain((first,), records))
    write_lines(file, lines, form.encode)


def _write_workbook(file: BinaryIO, records: Records, form: Format, inputs: InputRows) -> None:
    rows = ([*_padded(split(raw, inputs.delimiter), inputs), str(mark or "")] for raw, mark in records)
    write_sheet(file, form.sheet or _SHEET, [*inputs.header, COLUMN], rows)


def _padded(cells: list[str], inputs: InputRows) -> list[str]:
    return cells + [""] * (len(inputs.header) - len(cells))
