"""Whatever is written as a job file is read as it was written."""

from __future__ import annotations

import csv
import io
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from d3async.errors import JobFileError
from d3async.files.job_file import open_table
from d3async.jobs.job import Row

NAMES = ("incident", "name", "note")
CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\r\t"), max_size=12)
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])
KEYS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=5)
VALUE = st.one_of(CELL, st.integers(-(10**30), 10**30), st.booleans(), st.none(), st.lists(CELL, max_size=3))


def rows_of(content: bytes, kind: str) -> list[Row]:
    with open_table(None, stream=io.BytesIO(content), kind=kind) as table:
        found = list(table)
    assert all(isinstance(row, Row) for row in found)
    return found  # type: ignore[return-value] # just checked


@settings(deadline=None, max_examples=150)
@given(
    cells=st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=6),
    delimiter=st.sampled_from(",;\t|"),
    ending=st.sampled_from(["\n", "\r\n"]),
    encoding=ENCODINGS,
)
def test_a_csv_is_read_as_it_was_written(
    cells: list[tuple[str, str, str]], delimiter: str, ending: str, encoding: str
) -> None:
    """Any cells, separators, line ends and encodings; a row of nothing but blanks is none."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=ending, quoting=csv.QUOTE_ALL)
    writer.writerow(NAMES)
    writer.writerows(cells)

    found = rows_of(text.getvalue().encode(encoding), "csv")

    assert [tuple(row.cells) for row in found] == [row for row in cells if any(row)]
    for row in found:
        assert [row.cells] == list(csv.reader(io.StringIO(row.raw, newline=""), delimiter=delimiter))


@settings(deadline=None, max_examples=150)
@given(lines=st.lists(st.dictionaries(KEYS, VALUE, max_size=4), min_size=1, max_size=5), ascii_only=st.booleans())
def test_jsonl_is_read_as_it_was_written(lines: list[dict[str, object]], ascii_only: bool) -> None:
    written = "".join(json.dumps(line, ensure_ascii=ascii_only) + "\n" for line in lines)

    found = rows_of(written.encode(), "jsonl")

    assert [dict(zip(row.keys, row.cells, strict=True)) for row in found] == lines
    assert [json.loads(row.raw) for row in found] == lines


@settings(deadline=None, max_examples=200)
@given(content=st.binary(max_size=200), kind=st.sampled_from(["csv", "jsonl", "xlsx"]))
def test_any_bytes_give_rows_or_a_named_error(content: bytes, kind: str) -> None:
    """Nothing but `JobFileError` comes out, whatever goes in."""
    message = "stdin: "
    try:
        with open_table(None, stream=io.BytesIO(content), kind=kind) as table:
            list(table)
    except JobFileError as error:
        message = error.message
    assert message.startswith("stdin: ")
