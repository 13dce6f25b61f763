"""The files of a run folder, written again from its journal: the same journal, the same bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from d3async.files.atomic_write import atomic_write, file_stamps, is_unchanged, write_lines
from d3async.files.excel import TextWorkbook, can_write_workbooks, pairs
from d3async.files.feedback_writer import write_failed, write_unknown
from d3async.files.report_writer import report_html
from d3async.files.results_writer import (
    COLUMNS,
    ITEM_COLUMNS,
    InputRows,
    csv_lines,
    item_lines,
    json_array,
    json_lines,
    result_cells,
)
from d3async.files.source import Format
from d3async.files.summary import last_facts, summary
from d3async.journal.sqlite.reader import FILE, FolderReader

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path
    from typing import BinaryIO

    from d3async.files.atomic_write import Marks
    from d3async.journal.protocols import RunReader

FORMATS = ("csv", "jsonl", "json")
SUMMARY = "summary.json"
REPORT = "report.html"
ITEMS = "items.csv"
WORKBOOK = "results.xlsx"
_BOM = "\ufeff"
_NONE: Marks = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class WrittenFiles:
    """The files that were written; None where a file has no rows and is not there.

    *left* are feedback files that are not as they were written: the user's, which are never overwritten.
    """

    results: Path
    report: Path
    items: Path | None = None
    failed: Path | None = None
    unknown: Path | None = None
    outcomes: Mapping[str, int] = field(default_factory=dict)
    left: tuple[Path, ...] = ()


def write_folder(folder: Path, *, format: str | None = None) -> WrittenFiles:  # noqa: A002 - the option's name
    """Write results, items, failed, unknown and the report of *folder* again from its journal.

    Results are in *format* (`csv`, `jsonl` or `json`), else in the input's; results that lie there in another format
    are written again too. Raises `JournalError`; `ConservationError` before anything is overwritten.
    """
    with FolderReader(folder / FILE) as reader:
        return write_files(reader, format=format)


def write_files(reader: RunReader, *, format: str | None = None, known: Marks = _NONE) -> WrittenFiles:  # noqa: A002 - the option's name
    """What `write_folder` writes, from *reader*, into the folder it names.

    Results and items that still have the mark that is *known* of them are left as they are.
    """
    reader.check()
    folder, wanted = reader.folder, format or usual_format(reader)
    form, inputs = inputs_of(reader)
    for name in FORMATS:
        path = folder / f"results.{name}"
        if (name == wanted or path.exists()) and not is_unchanged(path, known):
            with atomic_write(path) as file:
                write_results(file, reader, name)
    failed, unknown = write_failed(reader, form, inputs), write_unknown(reader, form, inputs)
    _write_workbook(folder / WORKBOOK, reader, form, inputs, known)
    return WrittenFiles(
        results=folder / f"results.{wanted}",
        report=_write_report(folder / REPORT, reader),
        items=_write_items(folder / ITEMS, reader, form, inputs, known),
        failed=failed.path,
        unknown=unknown.path,
        outcomes=reader.counts(),
        left=failed.left + unknown.left,
    )


def marks_of(folder: Path) -> Marks:
    """The marks of the files in *folder* that have a line for each row or item."""
    return file_stamps([*(folder / f"results.{name}" for name in FORMATS), folder / ITEMS, folder / WORKBOOK])


def write_again(folder: Path, *, format: str | None = None) -> WrittenFiles:  # noqa: A002 - the option's name
    """Write everything of *folder* again: `write_folder`, and the summary with what its last run recorded."""
    written = write_folder(folder, format=format)
    with FolderReader(folder / FILE) as reader:
        runs = reader.runs()
    if runs:
        write_summary(folder, last_facts(runs))
    return written


def write_summary(folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write summary.json from the journal's counts and the run's *facts*, and hand it back.

    Raises `JournalError`; `ConservationError` before anything is overwritten.
    """
    with FolderReader(folder / FILE) as reader:
        return write_summary_of(reader, facts)


def write_summary_of(reader: RunReader, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What `write_summary` writes, from *reader*, into the folder it names."""
    reader.check()
    told = summary(reader, facts)
    with atomic_write(reader.folder / SUMMARY) as file:
        file.write(f"{json.dumps(told, indent=2, ensure_ascii=False)}\n".encode())
    return told


def write_report(folder: Path) -> Path:
    """Write report.html of *folder* again. Raises `JournalError`."""
    with FolderReader(folder / FILE) as reader:
        return write_report_of(reader)


def write_report_of(reader: RunReader) -> Path:
    """What `write_report` writes, from *reader*, into the folder it names."""
    return _write_report(reader.folder / REPORT, reader)


def write_results(
    file: BinaryIO,
    reader: RunReader,
    format: str,  # noqa: A002 - the option's name
    outcomes: Collection[str] | None = None,
    *,
    bom: bool = True,
) -> None:
    """Write results in *format* to *file*; only rows of *outcomes* if any are given.

    With *bom* CSV begins with one where the input came from a spreadsheet: Excel needs it, programs stumble over it.
    """
    form, inputs = inputs_of(reader)
    if format == "csv":
        if inputs.is_json:
            inputs = inputs.with_keys(row.raw for row in reader.rows())
        lines = csv_lines(reader.rows(outcomes), inputs)
        write_lines(file, chain((_BOM,), lines) if bom and form.from_a_spreadsheet else lines)
        return
    lines = json_lines(reader.rows(outcomes, full=True), reader.items(outcomes), inputs, reader.answer)
    write_lines(file, json_array(lines) if format == "json" else lines)


def usual_format(reader: RunReader) -> str:
    """The format results have unless another one is asked for: JSONL for JSONL, else CSV."""
    form, _ = inputs_of(reader)
    return "jsonl" if form.kind == "jsonl" else "csv"


def inputs_of(reader: RunReader) -> tuple[Format, InputRows]:
    """The form of the input and how to read its rows."""
    meta = reader.meta()
    form = Format.from_json(json.loads(meta["format"]))
    return form, InputRows(form, json.loads(meta.get("header") or "[]"))


def _write_report(path: Path, reader: RunReader) -> Path:
    with atomic_write(path) as file:
        write_lines(file, report_html(reader))
    return path


def _write_workbook(path: Path, reader: RunReader, form: Format, inputs: InputRows, known: Marks) -> None:
    """Write results of a workbook as a workbook too, where the extra `excel` is there."""
    if form.kind != "xlsx" or not can_write_workbooks() or is_unchanged(path, known):
        return
    with atomic_write(path) as file:
        book = TextWorkbook(file)
        book.add("rows", [*COLUMNS, *inputs.header], result_cells(reader.rows(), inputs), outcome="_outcome")
        items = ([str(row), str(line), *texts] for row, line, *texts in reader.items())
        book.add("items", ITEM_COLUMNS, items, outcome="_outcome")
        book.add("summary", ("name", "value"), pairs(summary(reader, last_facts(reader.runs()))))
        book.close()


def _write_items(path: Path, reader: RunReader, form: Format, inputs: InputRows, known: Marks) -> Path | None:
    if not reader.has_items:
        path.unlink(missing_ok=True)
        return None
    if is_unchanged(path, known):
        return path
    with atomic_write(path) as file:
        lines = item_lines(reader.items(), inputs)
        write_lines(file, chain((_BOM,), lines) if form.from_a_spreadsheet else lines)
    return path
