"""The files `failed` and `unknown` of a run folder: written aside, never over one that the user has changed."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO

from d3async.files.aside import aside, write_lines
from d3async.files.feedback import failed_records, marked, unknown_records
from d3async.files.inputs import split
from d3async.files.workbooks import can_write_workbooks, write_sheet
from d3async.journal.read import FILE
from d3async.journal.written import note_written
from d3async.sansio.row_marks import COLUMN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from d3async.files.feedback import Records
    from d3async.files.format import Format
    from d3async.files.inputs import Inputs
    from d3async.journal.reader import Reader

_SHEET = "rows"
_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class FeedbackFile:
    """The file that was written, None where it would have no rows; *left* are those that the user has changed."""

    path: Path | None
    left: tuple[Path, ...]


def write_failed(reader: Reader, form: Format, inputs: Inputs) -> FeedbackFile:
    """Write the rows that are failed or invalid, and the failed items of partial rows."""
    return _write(reader, "failed", lambda: failed_records(reader, inputs), form, inputs)


def write_unknown(reader: Reader, form: Format, inputs: Inputs) -> FeedbackFile:
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


def _write(reader: Reader, name: str, records: Callable[[], Records], form: Format, inputs: Inputs) -> FeedbackFile:
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


def _write_rows(path: Path, records: Callable[[], Records], form: Format, inputs: Inputs) -> None:
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
    with aside(path) as file:
        write(file)
        file.flush()
        note_written(path.parent / FILE, path.name, digest_of(file))


def _write_text(file: BinaryIO, records: Records, form: Format, inputs: Inputs) -> None:
    first = next(records)
    if first[1] is not None and form.header_raw:
        form = replace(form, header_raw=f"{form.header_raw}{inputs.delimiter}{COLUMN}")
    file.write(form.start())
    lines = (marked(raw, mark, inputs) + form.line_ending for raw, mark in chain((first,), records))
    write_lines(file, lines, form.encode)


def _write_workbook(file: BinaryIO, records: Records, form: Format, inputs: Inputs) -> None:
    rows = ([*_padded(split(raw, inputs.delimiter), inputs), str(mark or "")] for raw, mark in records)
    write_sheet(file, form.sheet or _SHEET, [*inputs.header, COLUMN], rows)


def _padded(cells: list[str], inputs: Inputs) -> list[str]:
    return cells + [""] * (len(inputs.header) - len(cells))
