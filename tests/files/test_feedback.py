"""failed and unknown: the input's own bytes, only the rows and items worth it."""

from __future__ import annotations

import csv
import json
import os
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from python_calamine import CalamineWorkbook

from d3async.files.feedback_reader import same_text
from d3async.files.feedback_writer import marked_object, narrowed, unmarked_object
from d3async.files.job_file import open_table
from d3async.files.results_writer import InputRows, spans, split
from d3async.files.run_files import write_folder
from d3async.files.source import Format
from d3async.jobs.feedback_rows import Mark, read_mark
from d3async.jobs.identity import VERSION as IDENTITY
from d3async.jobs.job import Invalid
from tests.journal.factory import LINK_HEADER, TASK_HEADER, Entry, invalid, make, unsent

if TYPE_CHECKING:
    from pathlib import Path


NOT_LINKED = "The source incident is not linked to this incident."
CSV = InputRows(Format("csv", delimiter=";"), LINK_HEADER)
JSONL = InputRows(Format("jsonl"), ())


def links(folder: Path, *entries: list[Entry], **more: Any) -> Path:
    return make(folder, list(entries), header=LINK_HEADER, command="RemoveLinkedIncidents", **more)


def partial(raw: str, *items: Any) -> Entry:
    """A partial row; an item is (name, code), ok without a code."""
    return Entry(
        raw,
        "partial",
        items=tuple((name, "failed" if code else "ok", code, NOT_LINKED if code else "") for name, code in items),
    )


FILES = {
    "plain": b"incident,name,assignee,due\n1,a,b,c\n2,a,b,c\n",
    "excel": 'incident;name;assignee;due\r\n"1";"Prüfung; ""sofort""";b;c\r\n2;"zwei\r\nZeilen";b;c\r\n'.encode(
        "utf-8-sig"
    ),
    "separator line": b"sep=;\r\nincident;name;assignee;due\r\n1;=1+1;b;c\r\n",
    "utf-16": "incident\tname\tassignee\tdue\r\n1\tΨ漢字\tb\tc\r\n".encode("utf-16"),
    "cp1252": "incident|name|assignee|due\n1|M\u00fcller \u2013 \u20ac|b|c\n".encode("cp1252"),
    "mac": b"incident,name,assignee,due\r1,a,b,c\r2,a,b,c\r",
    "trailing columns": b"incident,name,assignee,due,,\n1,a,b,c,,\n",
    "ragged": b"incident,name,assignee,due\n1,a,b\n1,a,b,c,d,e\n",
    "jsonl": b'{"incident": "1",  "name": "a\\u00fc"}\n{"incident": 2, "x": [1, 2.50]}\n{broken\n',
    "jsonl with bom": '{"incident": "1", "name": "ü"}\r\n'.encode("utf-8-sig"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("outcome", ["failed", "unknown"])
def test_when_every_row_failed_the_file_comes_back_byte_by_byte(tmp_path: Path, name: str, outcome: str) -> None:
    kind = "jsonl" if name.startswith("jsonl") else "csv"
    source = tmp_path / f"jobs.{kind}"
    source.write_bytes(FILES[name])
    with open_table(source) as table:
        entries = [Entry(row.raw, outcome, line=row.line) for row in table]
        folder = make(tmp_path / "run", entries, form=table.format, header=table.header)
    written = write_folder(folder)
    path = written.failed if outcome == "failed" else written.unknown
    assert path == folder / f"{outcome}.{kind}"
    assert path.read_bytes() == FILES[name]


@pytest.mark.parametrize("name", [name for name in FILES if name != "ragged"])
def test_with_marks_the_input_s_own_bytes_come_first_in_every_row(tmp_path: Path, name: str) -> None:
    kind = "jsonl" if name.startswith("jsonl") else "csv"
    source = tmp_path / f"jobs.{kind}"
    source.write_bytes(FILES[name])
    with open_table(source) as table:
        form, entries = table.format, [Entry(row.raw, "failed", line=row.line) for row in table]
        folder = make(tmp_path / "run", entries, form=form, header=table.header, uid="u", identity=str(IDENTITY))
    path = write_folder(folder).failed
    assert path is not None
    with open_table(path) as table:
        marks = [cell_of(row) for row in table]
    assert [mark and mark.job for mark in marks] == list(range(1, len(entries) + 1))
    lines = path.read_bytes().decode(form.encoding)
    for mark in marks:
        text = f"{form.delimiter}{mark}" if kind == "csv" else f', "_row": "{mark}"'
        assert text in lines
        lines = lines.replace(text, "")
    given = FILES[name].decode(form.encoding).replace("{broken\n", "{broken}\n")
    assert lines.replace(f"{form.delimiter}_row", "") == given


def cell_of(row: Any) -> Mark | None:
    if isinstance(row, Invalid):
        return unmarked_object(row.raw)[1]
    return read_mark(dict(zip(row.keys, row.cells, strict=True))["_row"])


def test_a_row_with_too_few_or_too_many_cells_keeps_its_text_before_the_mark(tmp_path: Path) -> None:
    entries = [Entry("1,a", "failed"), Entry("2,a,b,c,d,e", "failed")]
    path = write_folder(make(tmp_path, entries, uid="u", identity=str(IDENTITY))).failed
    assert path is not None
    short, long = path.read_text().splitlines()[1:]
    assert re.fullmatch(r"1,a,,,1-\w{4}", short)
    assert re.fullmatch(r"2,a,b,c,d,e,2-\w{4}", long)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ('{"a": 1}', '{"a": 1, "_row": "7-k3f9"}'),
        ("{}", '{"_row": "7-k3f9"}'),
        ('{"a": 1 }', '{"a": 1 , "_row": "7-k3f9"}'),
        ('{"a": 1', '{"a": 1, "_row": "7-k3f9"}'),
        ('{"a": 1,', '{"a": 1, "_row": "7-k3f9"}'),
        ("words", 'words, "_row": "7-k3f9"}'),
    ],
)
def test_the_mark_of_a_json_row_is_its_last_key(raw: str, text: str) -> None:
    mark = Mark(7, "k3f9")
    assert marked_object(raw, mark) == text
    assert unmarked_object(text)[1] == mark
    assert same_text(unmarked_object(text)[0], raw, JSONL)
    assert not same_text(unmarked_object(text.replace("a", "b").replace("w", "v"))[0], raw, JSONL) or raw == "{}"


def test_rows_of_a_workbook_come_back_in_a_workbook(tmp_path: Path) -> None:
    form = Format("xlsx", "utf-8-sig", bom=True, line_ending="\r\n", sheet="Tasks", header_raw=",".join(TASK_HEADER))
    folder = make(tmp_path, [Entry('1,"a, b",=c,d', "failed")], form=form, uid="u", identity=str(IDENTITY))
    written = write_folder(folder)
    assert written.results.name == "results.csv"
    assert written.failed == folder / "failed.xlsx"
    header, row = CalamineWorkbook.from_path(written.failed).get_sheet_by_name("Tasks").to_python()
    assert header == [*TASK_HEADER, "_row"]
    assert row[:4] == ["1", "a, b", "=c", "d"]
    assert read_mark(row[4])
    first = (folder / "results.xlsx").read_bytes()
    write_folder(folder)
    assert (folder / "results.xlsx").read_bytes() == first


def test_a_file_that_was_changed_is_left_and_the_new_one_is_written_beside_it(tmp_path: Path) -> None:
    folder = make(tmp_path, [Entry("1,a,b,c", "failed"), Entry("2,a,b,c", "failed")])
    failed = write_folder(folder).failed
    assert failed == folder / "failed.csv"
    failed.write_text("mine")

    again = write_folder(folder)
    assert (again.failed, again.left) == (folder / "failed-2.csv", (failed,))
    again.failed.write_text("mine too")
    third = write_folder(folder)
    assert (third.failed, third.left) == (folder / "failed-3.csv", (failed, folder / "failed-2.csv"))
    assert failed.read_text() == "mine"

    failed.unlink()
    (folder / "failed-2.csv").unlink()
    last = write_folder(folder)
    assert (last.failed, last.left) == (folder / "failed.csv", ())
    assert [path.name for path in folder.glob("failed*")] == ["failed.csv"]


def test_a_file_that_is_only_touched_is_not_changed(tmp_path: Path) -> None:
    folder = make(tmp_path, [Entry("1,a,b,c", "failed")])
    failed = write_folder(folder).failed
    assert failed is not None
    failed.write_bytes(failed.read_bytes())
    os.utime(failed, (1, 1))
    assert write_folder(folder).left == ()


def test_rows_with_letters_that_the_input_s_encoding_does_not_have_make_the_file_utf_8(tmp_path: Path) -> None:
    form = Format("csv", "cp1252", header_raw=",".join(TASK_HEADER))
    written = write_folder(make(tmp_path, [Entry("1,\u6f22,b,c", "failed")], form=form))
    assert written.failed is not None
    assert "\u6f22" in written.failed.read_text(encoding="utf-8-sig")


def test_rows_of_other_outcomes_are_left_out(tmp_path: Path) -> None:
    entries = [
        Entry("1,ok,a,b"),
        Entry("2,failed,a,b", "failed", "http_400", "no"),
        Entry("3,unknown,a,b", "unknown"),
        invalid("4,,a,b", "invalid.name", "name is empty"),
        unsent("5,unsent,a,b"),
        Entry("6,sent,a,b", "sent"),
        Entry("7,gone,a,b", "failed", vanished=True),
    ]
    written = write_folder(make(tmp_path, entries))
    header = ",".join(TASK_HEADER)
    assert written.failed.read_text() == f"{header}\n2,failed,a,b\n4,,a,b\n"
    assert written.unknown.read_text() == f"{header}\n3,unknown,a,b\n6,sent,a,b\n"


def test_of_partial_rows_only_failed_items_come_without_those_that_are_not_linked(tmp_path: Path) -> None:
    folder = links(
        tmp_path,
        partial("S-1,A1;A2;A3", ("A1", ""), ("A2", "not_linked"), ("A3", "command_error")),
        partial("S-2,B1;B2", ("B1", ""), ("B2", "not_linked")),
        Entry("S-3,C1", "failed", "not_linked", NOT_LINKED, items=(("C1", "failed", "not_linked", NOT_LINKED),)),
        Entry("S-4,D1;D2", items=(("D1", "ok", "", ""), ("D2", "ok", "", ""))),
        Entry("S-5,E1;E2", "unknown", items=(("E1", "failed", "x", ""), ("E2", "unknown", "y", ""))),
    )
    written = write_folder(folder)
    assert written.failed.read_text() == "source,linked\nS-1,A3\nS-3,C1\n"
    assert written.unknown.read_text() == "source,linked\nS-5,E1;E2\n"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("S-1;A,B,C", "S-1;A,C"),
        ('S-1;"A;B;C"', 'S-1;"A;C"'),
        ("S-1;A B C", "S-1;A C"),
        ('S-1;"A\nB\nC"', 'S-1;"A\nC"'),
        ("S-1; A, B, C, A ", "S-1;A, C"),
        ('"S-1" ;"A;B;C";x;"say ""no"""', '"S-1" ;"A;C";x;"say ""no"""'),
        ("S-1;other", "S-1;other"),
        ("S-1", "S-1"),
    ],
)
def test_only_the_cell_that_lists_the_items_changes(raw: str, expected: Any) -> None:
    assert narrowed(raw, ["A", "B", "C"], ["A", "C"], CSV) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ('{"source": "S", "linked": ["A", "B", "C"]}', {"source": "S", "linked": ["A", "C"]}),
        ('{"linked": "A;B;C", "note": "\\u00fc"}', {"linked": "A;C", "note": "ü"}),
        ('{"linked": "other"}', {"linked": "other"}),
    ],
)
def test_in_a_json_row_the_list_stays_a_list_and_the_text_a_text(raw: str, expected: Any) -> None:
    assert json.loads(narrowed(raw, ["A", "B", "C"], ["A", "C"], JSONL)) == expected


def test_a_json_row_that_was_escaped_stays_ascii_so_that_any_encoding_can_hold_it() -> None:
    assert narrowed('{"linked": "A;B", "n": "\\u4e2d"}', ["A", "B"], ["B"], JSONL).isascii()


def test_numbers_in_a_json_list_are_found_as_the_incidents_they_are() -> None:
    assert json.loads(narrowed('{"linked": [1, 2]}', ["1", "2"], ["2"], JSONL)) == {"linked": ["2"]}


@given(st.lists(st.text(st.sampled_from('ab ";,\n'), max_size=6), min_size=1, max_size=5), st.sampled_from(";,|"))
def test_cells_as_they_are_written_make_up_the_record_again(cells: list[str], delimiter: str) -> None:
    line = csv_record(cells, delimiter)
    found = spans(line, delimiter)
    assert delimiter.join(found) == line
    assert len(found) == len(split(line, delimiter)) or not line


def csv_record(cells: list[str], delimiter: str) -> str:
    written = []
    csv.writer(type("Back", (), {"write": written.append})(), delimiter=delimiter, lineterminator="\n").writerow(cells)
    return written[0].removesuffix("\n")
