"""results and items: every row once, in order, and nothing a spreadsheet would run."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d3async.files.number_format import instants
from d3async.files.results_writer import COLUMNS, InputRows, csv_lines, guarded, json_array, json_lines, one_line
from d3async.files.source import Format
from d3async.journal.model import ItemRecord, RowRecord

if TYPE_CHECKING:
    from collections.abc import Iterable


def row(raw: str = "a", number: int = 1, **more: Any) -> RowRecord:
    known = {"line": number + 1, "outcome": "ok", "code": "", "message": "", "http": 200, "attempts": 1,
             "sent_at": 0.0, "done_at": 0.25, "items_ok": None, "items_failed": None, "items_unknown": None,
             "label": None, "answer": None}  # fmt: skip
    return RowRecord(row=number, raw=raw, **known | more)


def inputs(*header: str, delimiter: str = ",", kind: str = "csv") -> InputRows:
    return InputRows(Format(kind, delimiter=delimiter), header)


def read(lines: Iterable[str], delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO("".join(lines), newline=""), delimiter=delimiter, strict=True))


def input_cells(raw: str, source: InputRows) -> list[str]:
    return read(csv_lines([row(raw)], source), source.delimiter)[1][len(COLUMNS) :]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("=1+1", "'=1+1"),
        ("+49 30 1", "'+49 30 1"),
        ("-5", "'-5"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("1=1", "1=1"),
        (" =1", " =1"),
        ("'=1", "'=1"),
        ("a-b", "a-b"),
        ("", ""),
        ("20260125-77", "20260125-77"),
    ],
)
def test_only_what_a_spreadsheet_would_run_is_guarded(cell: str, expected: Any) -> None:
    assert guarded(cell) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one line", "one line"),
        ("two\r\nlines", "two lines"),
        ("tab\tand\x00nul", "tab and nul"),
        ("\x1b[31mred", "[31mred"),
        ("line\u2028end\u2029s", "line end s"),
        ("  kept  apart ", "  kept  apart "),
        ("Größe 漢字", "Größe 漢字"),
    ],
)
def test_a_message_is_one_line_without_control_characters(text: str, expected: Any) -> None:
    assert one_line(text) == expected


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (None, ""),
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_796_144_400.123, "2026-12-01T17:00:00.123Z"),
        (1_796_144_400.9996, "2026-12-01T17:00:01.000Z"),
        (1_796_144_400.2494, "2026-12-01T17:00:00.249Z"),
    ],
)
def test_times_are_utc_with_milliseconds(at: float, expected: Any) -> None:
    assert instants()(at) == expected


def test_a_row_has_the_columns_of_the_contract_and_then_its_own() -> None:
    lines = csv_lines(
        [row("x,y", 3, outcome="failed", code="http_500", message="=HYPER;\nno", http=None, attempts=2)],
        inputs("task, no", "=b"),
    )
    header, cells = read(lines)
    assert header == [*COLUMNS, "task, no", "'=b"]
    assert cells == [
        "3", "4", "failed", "http_500", "'=HYPER; no", "", "2", "1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00.250Z",
        "", "", "", "x", "y",
    ]  # fmt: skip


def test_item_counts_stand_in_their_columns() -> None:
    (cells,) = read(csv_lines([row(items_ok=2, items_failed=0, items_unknown=1)], inputs("a")))[1:]
    assert cells[9:12] == ["2", "0", "1"]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("a,b", ["a", "b"]),
        ("a,=b", ["a", "'=b"]),
        ("-a,b", ["'-a", "b"]),
        ('"=a",b', ["'=a", "b"]),
        ('"a,1","b\nc"', ["a,1", "b\nc"]),
        ('"say ""hi""",b', ['say "hi"', "b"]),
        ("a", ["a", ""]),
        ("a,b,c,", ["a", "b"]),
        (",", ["", ""]),
        ('"never closed,b', ["never closed,b", ""]),
        ("lone\rcr,b", ["lone\rcr,b", ""]),
    ],
)
def test_input_columns_come_back_untouched_but_guarded_and_fit_the_header(raw: str, expected: Any) -> None:
    assert input_cells(raw, inputs("one", "two")) == expected


@given(
    st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=8), min_size=2, max_size=5),
    st.sampled_from(",;\t|"),
    st.sampled_from((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)),
)
def test_whatever_is_in_the_cells_comes_back(cells: list[str], delimiter: str, quoting: int) -> None:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator="\r\n").writerow(cells)
    source = inputs(*(f"c{at}" for at in range(len(cells))), delimiter=delimiter)
    assert input_cells(out.getvalue().removesuffix("\r\n"), source) == [guarded(cell) for cell in cells]


def lines_of(rows: Iterable[RowRecord], source: InputRows, items: Any = (), answer: Any = None) -> list[Any]:
    return [json.loads(line) for line in json_lines(rows, items, source, answer or (lambda _: None))]


def test_a_jsonl_line_has_exactly_the_keys_of_the_contract_in_order() -> None:
    item = ItemRecord(1, 2, "S-1", "L-1", "failed", "not_linked", "no\nlink")
    (told,) = lines_of([row("a,b", answer=5)], inputs("x", "y"), [item], {5: '{"error": ""}'}.get)
    assert list(told) == [
        "row", "line", "outcome", "code", "message", "http", "attempts", "sent_at", "done_at", "items", "response",
        "input",
    ]  # fmt: skip
    assert told["items"] == [{"item": "L-1", "outcome": "failed", "code": "not_linked", "message": "no link"}]
    assert told["response"] == {"error": ""}
    assert told["input"] == {"x": "a", "y": "b"}


def test_a_row_that_was_not_sent_has_no_times_and_no_response() -> None:
    (told,) = lines_of([row(sent_at=None, done_at=None, http=None, attempts=0, outcome="unsent")], inputs("a"))
    assert (told["sent_at"], told["done_at"], told["http"], told["response"]) == (None, None, None, None)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ('{"b": 1, "a": [1.50, null]}', {"b": 1, "a": [1.5, None]}),
        ('{"cut": ', '{"cut": '),
        ("[1]", "[1]"),
        ('{"n": NaN}', '{"n": NaN}'),
    ],
)
def test_a_json_row_comes_back_as_its_object_and_what_is_none_as_its_text(raw: str, expected: Any) -> None:
    (told,) = lines_of([row(raw)], inputs(kind="jsonl"))
    assert told["input"] == expected


@pytest.mark.parametrize("body", ['{"error": "cut off he', "<html>", '{"a": "\\ud83d"}'])
def test_an_answer_that_is_no_json_or_no_text_stays_readable(body: str) -> None:
    lines = list(json_lines([row(answer=1)], [], inputs("a"), {1: body}.get))
    assert len(lines) == 1
    assert "".join(lines).encode()
    assert json.loads(lines[0])["response"] in (body, {"a": "\ud83d"})


def test_rows_of_one_call_ask_for_their_answer_once() -> None:
    asked = []
    lines_of([row(number=at, answer=7) for at in range(1, 4)], inputs("a"), answer=lambda at: asked.append(at) or "{}")
    assert asked == [7]


def test_items_go_to_their_rows_and_rows_without_items_have_none() -> None:
    items = [ItemRecord(2, 3, "S", name, "ok", "", "") for name in ("L-1", "L-2")]
    told = lines_of([row(number=at) for at in (1, 2, 3)], inputs("a"), items)
    assert [[item["item"] for item in line["items"]] for line in told] == [[], ["L-1", "L-2"], []]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_array_is_the_same_lines_as_one_json_text(count: int) -> None:
    lines = [f'{{"row": {at}}}\n' for at in range(count)]
    assert json.loads("".join(json_array(lines))) == [{"row": at} for at in range(count)]


@settings(max_examples=30)
@given(
    st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.text(max_size=5), max_size=4)
)
def test_json_rows_have_a_column_for_every_key_that_occurs(told: dict[str, Any]) -> None:
    raw = json.dumps(told)
    source = inputs(kind="jsonl").with_keys([raw, '{"last": 1}', "broken"])
    assert set(source.header) == set(told) | {"last"}
    assert len(source.cells(raw)) == len(source.header)
    assert source.cells("broken")[0] == "broken"
