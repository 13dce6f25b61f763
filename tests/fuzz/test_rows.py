"""Whatever a job file holds: each row is a job or says what is wrong, or the file is refused by name; all is stored."""

import csv
import io
import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from d3async.d3.commands import Reading, all_commands
from d3async.errors import JobFileError
from d3async.files.job_file import open_table
from d3async.jobs.dates import Zones, due_reader
from d3async.jobs.job import Invalid, Job
from d3async.jobs.row_to_job import RowOptions, RowReader
from d3async.journal.sqlite.run_folder import in_memory

NAMES = st.sampled_from(
    [
        "incident",
        "Incident Number",
        "name",
        "Task Name",
        "type",
        "description",
        "assignee",
        "Asignee",
        "due",
        "Due Date",
        "required",
        "source",
        "linked",
        "Linked Incident Numbers to be Removed",
        "Username",
        "Site",
        "command",
        "note",
        "id",
        "",
        " due ",
        "_row",
    ]
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
CELLS = st.one_of(
    st.sampled_from(
        [
            "20220125-1",
            "2027-01-01 10:00:00",
            "03/04/2026",
            "1/2/3",
            "9999-12-31",
            "0000-00-00",
            "Yes",
            "maybe",
            "a;b,c d",
            "CreateTask",
            "removelinkedincidents",
            "",
            " ",
            "admin user",
            "=1+1",
            "1e999",
            "9" * 20,
            "\ufeff",
        ]
    ),
    TEXT,
)
VALUES = st.recursive(
    st.one_of(CELLS, st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)


@st.composite
def csv_files(draw: st.DrawFn) -> bytes:
    header = draw(st.lists(NAMES, min_size=1, max_size=8))
    rows = draw(st.lists(st.lists(CELLS, max_size=9), max_size=5))
    text = io.StringIO(newline="")
    writer = csv.writer(
        text, delimiter=draw(st.sampled_from(",;\t|")), lineterminator=draw(st.sampled_from(["\n", "\r\n", "\r"]))
    )
    writer.writerows([header, *rows])
    return text.getvalue().encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])))


@st.composite
def jsonl_files(draw: st.DrawFn) -> bytes:
    rows = draw(st.lists(st.one_of(st.dictionaries(NAMES, VALUES, max_size=8), VALUES), min_size=1, max_size=5))
    return "".join(json.dumps(row, ensure_ascii=draw(st.booleans())) + "\n" for row in rows).encode("utf-8", "replace")


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    content = bytearray(draw(st.one_of(csv_files(), jsonl_files())))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        content[at : at + draw(st.integers(0, 6))] = draw(st.binary(max_size=4))
    return bytes(content)


FILES = st.one_of(csv_files(), jsonl_files(), spoilt())
KINDS = st.sampled_from(["csv", "jsonl"])
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "command": st.sampled_from([None, *all_commands().values()]),
        "defaults": st.dictionaries(NAMES, CELLS, max_size=2),
        "renames": st.dictionaries(NAMES, NAMES, max_size=2),
        "key_column": st.one_of(st.none(), NAMES),
        "site": st.sampled_from(["", "SOC"]),
        "need_site": st.booleans(),
        "where": st.dictionaries(NAMES, CELLS, max_size=1),
        "limit": st.integers(1, 3),
        "now": st.just("2026-12-01 00:00:00"),
    },
)  # fmt: skip
FORMATS = st.sampled_from([None, "dd/MM/yyyy", "yyyy-MM-dd HH:mm"])


def check(content: bytes, kind: str, options: dict[str, object], date_format: str | None) -> None:
    """Read, store and stage *content* as `run` does."""
    reading = Reading(due_reader(date_format, Zones(None, None)))
    try:
        row_options = RowOptions(reading, **options)  # type: ignore[arg-type]
        with open_table(None, stream=io.BytesIO(content), kind=kind) as table:
            reader = RowReader(row_options, table.header)
            found = list(reader.read_all(table))
            assert found == [reader.read(row) for row in table] or row_options.limit is not None
    except JobFileError as error:
        refusal = error.message.encode()
        assert refusal
        return
    assert [entry.row for entry in found] == list(range(1, len(found) + 1))
    for entry in found:
        assert isinstance(entry, Job) or entry.problems
        if isinstance(entry, Job):
            json.dumps(entry.asked.command.params(), ensure_ascii=False).encode()
    stored(found)


def stored(found: list[Job | Invalid]) -> None:
    folder = in_memory()
    try:
        stage = folder.stage()
        stage.add(found)
        repeated = sum(1 for _ in stage.duplicates(allow=False))
        assert folder.adopt({"rows": str(len(found))}).new == stage.rows == len(found) >= repeated
    finally:
        folder.close()


@settings(deadline=None, max_examples=250)
@given(content=FILES, kind=KINDS, options=OPTIONS, date_format=FORMATS)
def test_a_row_is_a_job_or_says_what_is_wrong(
    content: bytes, kind: str, options: dict[str, object], date_format: str | None
) -> None:
    check(content, kind, options, date_format)


@pytest.mark.slow
def test_ten_minutes_of_rows(fuzz_seconds: float) -> None:
    end = time.monotonic() + fuzz_seconds

    @settings(
        deadline=None, max_examples=3_000, database=None, derandomize=False, suppress_health_check=list(HealthCheck)
    )
    @given(content=FILES, kind=KINDS, options=OPTIONS, date_format=FORMATS)
    def some(content: bytes, kind: str, options: dict[str, object], date_format: str | None) -> None:
        check(content, kind, options, date_format)

    while time.monotonic() < end:
        some()
