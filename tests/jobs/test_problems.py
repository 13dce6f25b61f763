"""Problems: equal ones are told as one, few words each, in bounded memory."""

from __future__ import annotations

import pytest

from d3async.jobs.job import Invalid, Problem
from d3async.jobs.problems import COLUMNS, SHOWN, Groups, records

FIRST_OR_SECOND = "day or month first?"


def groups(*problems: tuple[int, Problem]) -> Groups:
    found = Groups()
    for line, problem in problems:
        found.add(line, [problem])
    return found


@pytest.mark.parametrize(
    ("problems", "told"),
    [
        ([(801, Problem("assignee", "assignee", "", "is empty"))], ["assignee  line 801 is empty"]),
        (
            [(7, Problem("required", "required", "maybe", "is neither Yes nor No", "write Yes or No"))],
            ['required  line 7 "maybe" is neither Yes nor No; write Yes or No'],
        ),
        (
            [(9, Problem("duplicate", "", "2026-1", "the same as line 5", "--allow-duplicates if both are meant"))],
            ['row  line 9 "2026-1": the same as line 5; --allow-duplicates if both are meant'],
        ),
        (
            [(line, Problem("duplicate", "", "2026-1", f"the same as line {line - 1}", "mend")) for line in (9, 12)],
            ['row  2 rows like "2026-1" (lines 9, 12): the same as an earlier line; mend'],
        ),
        (
            [
                (line, Problem("due", "due", "24/03/2027", FIRST_OR_SECOND, "give --date-format dd/MM/yyyy"))
                for line in (12, 19, 22, 23)
            ],
            ['due  4 rows like "24/03/2027" (lines 12, 19, 22 …): day or month first? give --date-format dd/MM/yyyy'],
        ),
        (
            [(line, Problem("name", "name", "", "is empty")) for line in (4, 8)],
            ["name  2 rows (lines 4, 8): empty"],
        ),
        (
            [(4, Problem("name", "name", "a\nb" * 99, "has a line break"))],
            ['name  line 4 "a ' + "ba " * 19 + 'b…" has a line break'],
        ),
    ],
)  # fmt: skip
def test_a_group_is_one_line(problems: list[tuple[int, Problem]], told: list[str]) -> None:
    assert groups(*problems).told() == told


def test_columns_stand_below_each_other() -> None:
    found = groups((2, Problem("due", "due", "", "is empty")), (3, Problem("assignee", "assignee", "", "is empty")))

    assert found.told() == ["due       line 2 is empty", "assignee  line 3 is empty"]


def dates(*cures: str) -> list[tuple[int, Problem]]:
    return [(line, Problem("due", "due", f"v{line}", FIRST_OR_SECOND, cure)) for line, cure in enumerate(cures, 2)]


def test_dates_that_one_format_fits_are_told_as_one() -> None:
    """03/04 could be either, 24/03 could not: together they are day first."""
    both = "give --date-format dd/MM/yyyy or MM/dd/yyyy"
    day = "give --date-format dd/MM/yyyy"

    assert groups(*dates(both, day, both)).told() == [
        f'due  3 rows like "v3" (lines 2, 3, 4): day or month first? {day}'
    ]


def test_dates_that_no_one_format_fits_are_told_apart() -> None:
    day, month = "give --date-format dd/MM/yyyy", "give --date-format MM/dd/yyyy"

    assert len(groups(*dates(day, month))) == 2


def test_several_problems_of_a_kind_in_one_row_count_as_one_row() -> None:
    found = Groups()
    found.add(5, [Problem("odd", "linked", "a", "is odd"), Problem("odd", "linked", "b", "is odd")])

    assert found.told() == ['linked  line 5 "a" is odd']
    assert found.count == 2


def test_the_first_twenty_kinds_are_told_and_the_rest_counted() -> None:
    found = groups(*((line, Problem("x", f"c{line:02}", "", "is empty")) for line in range(SHOWN + 5)))

    assert len(found.told()) == SHOWN + 1
    assert found.told()[-1] == "and 5 more"
    assert not found.all_told


def test_kinds_without_end_are_counted_and_not_kept() -> None:
    found = groups(*((line, Problem("x", f"c{line}", "", "is empty")) for line in range(3000)))

    assert len(found) == 1000
    assert found.told()[-1] == "and 2,980 more"


def test_all_is_told_when_every_line_is_named() -> None:
    empty = Problem("x", "c", "", "is empty")

    assert groups((1, empty), (2, empty), (3, empty)).all_told
    assert not groups((1, empty), (2, empty), (3, empty), (4, empty)).all_told


def test_every_problem_is_a_record_of_its_own() -> None:
    entry = Invalid(3, 7, "x", (Problem("due", "Due", "v", "is wrong", "mend it"), Problem("json", "", "", "is cut")))

    assert list(records(entry)) == [
        (7, 3, "Due", "invalid.due", "v", "is wrong", "mend it"),
        (7, 3, "", "invalid.json", "", "is cut", ""),
    ]
    assert len(COLUMNS) == 7
