"""Rows read by the column are what they are one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import Field, field_validator, model_validator

from d3async.d3.commands import Reading, Text
from d3async.d3.commands.create_task import CreateTask
from d3async.errors import JobFileError
from d3async.jobs.dates import Zones, due_reader
from d3async.jobs.job import Invalid, Job, Problem, Row
from d3async.jobs.row_to_job import RowOptions, RowReader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HEADER = ("incident", "name", "type", "description", "assignee", "due", "required", "id")
PLAIN = ("2026-1", "Call", "Default", "Ask.", "ann", "2027-01-02 03:04:05", "Yes", "A1")
NOW = "2026-06-15 12:00:00"
CELLS = {
    "incident": ["2026-1", " 2026-1\t", "x", "", "\uff12\uff10", "2026-01-01", "2026\u200b-1", "\x1c7"],
    "name": ["Call", " Call ", "", " ", "n" * 100, "n" * 101, '"\\/\x7f\x00', "%s %(x)d {0}", "ä\u2028"],
    "type": ["Default", "", "  ", "Ünlich"],
    "description": ["Ask.", " as given ", "", "\n", "a\nb", "\x00\x1f\t"],
    "assignee": ["ann", "", " bob "],
    "due": ["2027-01-02 03:04:05", "2027-01-02", "2020-01-01 10:00:00", "2027-01-02 00:00:00", "", "soon", "3/4/2027"],
    "required": ["Yes", "y", " TRUE ", "0", "", "perhaps"],
    "id": ["A1", "", " A1 ", "b"],
}


def reader(header: tuple[str, ...] = HEADER, **changed: Any) -> RowReader:
    return RowReader(RowOptions(**{"reading": Reading(due_reader()), "now": NOW, "site": "SOC", **changed}), header)


def table(header: tuple[str, ...], rows: Sequence[Sequence[Any]]) -> list[Row | Invalid]:
    return [Row(at, at + 1, header, tuple(cells), "raw") for at, cells in enumerate(rows, 1)]


def row(header: tuple[str, ...] = HEADER) -> st.SearchStrategy[tuple[str, ...]]:
    plain = dict(zip(HEADER, PLAIN, strict=True))
    cells = [st.one_of(st.just(plain[name]), st.sampled_from(CELLS[name]), st.text(max_size=3)) for name in header]
    return st.one_of(st.just(tuple(plain[name] for name in header)), st.tuples(*cells))


HEADERS = st.sampled_from([HEADER, HEADER[::-1], ("incident", "name", "description", "assignee", "due")])
FILES = HEADERS.flatmap(lambda header: st.tuples(st.just(header), st.lists(row(header), max_size=8)))


@given(
    file=FILES,
    defaults=st.sampled_from([{}, {"type": " Call "}, {"required": "maybe"}, {"site": "X"}, {"Username": "bob"}]),
    own=st.sampled_from([None, "id"]),
    more=st.sampled_from(
        [{}, {"site": "", "need_site": True}, {"site": ""}, {"limit": 2}, {"where": {"name": "Call"}}]
    ),
    written=st.sampled_from([None, "dd/MM/yyyy"]),
)
@example((HEADER, [PLAIN]), {}, None, {}, None)
def test_a_file_is_read_by_the_column_as_it_is_row_by_row(
    file: tuple[tuple[str, ...], list[tuple[str, ...]]],
    defaults: dict[str, str],
    own: str | None,
    more: dict[str, Any],
    written: str | None,
) -> None:
    header, cells = file
    named = own if own in header else None
    options = {**more, "defaults": defaults, "key_column": named, "reading": Reading(due_reader(written, Zones()))}
    rows = table(header, cells)

    one = reader(header, **options)
    assert list(reader(header, **options).read_all(rows)) == [one.read(row) for row in rows]


def test_every_letter_is_sent_as_it_is_from_a_row_by_itself() -> None:
    """What pydantic makes of a text, and what is made of it here, is the same JSON: rows keep their identity."""
    letters = [chr(number) for number in (*range(0xD800), *range(0xE000, 0x10000), 0x1F600)]
    texts = ["x" + "".join(letters[at : at + 90]) for at in range(0, len(letters), 90)]
    rows = table(HEADER, [(*PLAIN[:3], text, *PLAIN[4:]) for text in texts])

    assert list(reader().read_all(rows)) == [reader().read(row) for row in rows]


def test_a_plain_file_is_not_read_row_by_row() -> None:
    """Else this would all be for nothing: a cell that a hundred rows have is read once."""
    asked: list[object] = []

    def due(cell: object) -> str:
        asked.append(cell)
        return str(cell)

    found = list(reader(reading=Reading(due)).read_all(table(HEADER, [PLAIN] * 100)))

    assert [type(entry) for entry in found] == [Job] * 100
    assert asked == [PLAIN[5]]


@pytest.mark.parametrize("odd", [("2026-1", 7, *PLAIN[2:]), ("2026-1", None, *PLAIN[2:])])
def test_a_cell_of_a_workbook_that_is_no_text_is_read_as_it_is_by_itself(odd: tuple[Any, ...]) -> None:
    rows = table(HEADER, [PLAIN, odd, PLAIN])

    assert list(reader().read_all(rows)) == [reader().read(row) for row in rows]


def test_a_row_that_could_not_be_read_stays_where_it_is() -> None:
    broken = Invalid(2, 3, "a;b", (Problem("cells", "", "", "has 2 cells"),))
    first, last = table(HEADER, [PLAIN, PLAIN])

    assert [type(entry) for entry in reader().read_all([first, broken, last])] == [Job, Invalid, Job]


def test_what_was_read_before_the_file_broke_off_is_told() -> None:
    def rows() -> Iterator[Row | Invalid]:
        yield from table(HEADER, [PLAIN] * 300)
        raise JobFileError("breaks off", code="job_file")

    found: list[Job | Invalid] = []
    with pytest.raises(JobFileError, match="breaks off"):
        found.extend(reader().read_all(rows()))

    assert len(found) == 300


class Short(CreateTask):
    """The field says more than its type."""

    name: Text = Field(alias="Task Name", max_length=4)


class Choosy(CreateTask):
    """The class says more than its fields."""

    @field_validator("name")
    @classmethod
    def _no_test(cls, name: str) -> str:
        if name == "Calls":
            raise ValueError("is no task")
        return name


class Consistent(CreateTask):
    """So does this one."""

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.name == "Calls":
            raise ValueError("is no task")
        return self


class Listed(CreateTask):
    """The type of a field is none that is known here."""

    name: Literal["Call"] = Field(alias="Task Name")


@pytest.mark.parametrize("command", [Short, Choosy, Consistent, Listed])
def test_a_command_that_asks_for_more_than_its_types_is_read_row_by_row(command: type[CreateTask]) -> None:
    """Whoever adds a rule to a command need not know of this room."""
    rows = table(HEADER, [PLAIN, ("2026-1", "Calls", *PLAIN[2:])])

    found = list(reader(command=command).read_all(rows))

    assert [type(entry) for entry in found] == [Job, Invalid]
    assert found == [reader(command=command).read(row) for row in rows]
