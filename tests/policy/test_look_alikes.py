"""Which new rows look like rows sent before, and what the user reads of them."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3async.d3.commands.create_task import CreateTask
from d3async.errors import SimilarPair
from d3async.jobs.identity import look_alike
from d3async.jobs.job import request_of
from d3async.policy.look_alikes import (
    ALL,
    DAY,
    Lines,
    NewRow,
    SentRow,
    described,
    lines_of,
    matched,
    mentioned,
    parse_lines,
)

HOUR = 3600
FIELDS = {
    "incident": "20220125-1", "name": "Call", "description": "Look", "assignee": "admin user",
    "due": "2027-03-24 13:28:13",
}  # fmt: skip


def new(*dues: int, similar: int = 1) -> list[NewRow]:
    return [NewRow(similar, due, at, at) for at, due in enumerate(sorted(dues))]


def sent(*dues: int, similar: int = 1) -> list[SentRow]:
    return [SentRow(similar, due, None, at) for at, due in enumerate(sorted(dues))]


@pytest.mark.parametrize(
    ("rows", "before", "pairs", "other_day"),
    [
        ([0], [0], 1, 0),
        ([59], [0], 1, 0),
        ([DAY - 1], [0], 1, 0),
        ([DAY], [0], 0, 1),
        ([-DAY], [0], 0, 1),
        ([1 - DAY], [0], 1, 0),
        ([7 * DAY], [0], 0, 1),
        ([0, 0], [0], 1, 1),
        ([0], [0, 0], 1, 0),
        ([0, 20 * HOUR], [10 * HOUR, 40 * HOUR], 2, 0),
        ([0, 7 * DAY, 14 * DAY], [7 * DAY], 1, 2),
        ([0], [], 0, 0),
        ([], [0], 0, 0),
    ],
)
def test_rows_pair_up_one_to_one_within_a_day(rows: list[int], before: list[int], pairs: int, other_day: int) -> None:
    found = list(matched(new(*rows), sent(*before)))

    assert (sum(known is not None for _, known in found), sum(known is None for _, known in found)) == (
        pairs,
        other_day,
    )


def test_rows_of_other_digests_are_strangers() -> None:
    assert list(matched(new(0, similar=2), [*sent(0, similar=1), *sent(0, similar=3)])) == []


few = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 4).map(lambda n: n * 10 * HOUR)), max_size=5)


def most_pairs(rows: list[NewRow], before: list[SentRow]) -> int:
    """By trying every order."""
    padded = [*before, *[None] * len(rows)]
    fits = [[known is not None and _near(row, known) for known in padded] for row in rows]
    return max(
        (sum(fits[at][to] for at, to in enumerate(order)) for order in permutations(range(len(padded)), len(rows))),
        default=0,
    )


def _near(row: NewRow, known: SentRow) -> bool:
    return row.similar == known.similar and abs(row.due - known.due) < DAY


@given(few.filter(lambda rows: len(rows) < 4), few.filter(lambda rows: len(rows) < 4))
def test_as_many_pairs_as_can_be_and_each_is_one(rows: list[tuple[int, int]], before: list[tuple[int, int]]) -> None:
    asked = [NewRow(similar, due, at, at) for at, (similar, due) in enumerate(sorted(rows))]
    known = [SentRow(similar, due, None, at) for at, (similar, due) in enumerate(sorted(before))]

    found = list(matched(asked, known))
    pairs = [(row, partner) for row, partner in found if partner is not None]

    assert all(_near(row, partner) for row, partner in pairs)
    assert len({row.job for row, _ in found}) == len(found)
    assert len({partner.job for _, partner in pairs}) == len(pairs)
    assert len(pairs) == most_pairs(asked, known)
    digests = {partner.similar for partner in known}
    assert {row.job for row, _ in found} == {row.job for row in asked if row.similar in digests}


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["3 5-9"], "3,5-9"),
        (["3,5-9"], "3,5-9"),
        (["5-9, 3"], "3,5-9"),
        (["5 - 9"], "5-9"),
        (["2-4,3-6,7"], "2-7"),
        (["3", "4"], "3-4"),
        (["all"], "all"),
        (["3,ALL"], "all"),
        ([], ""),
    ],
)
def test_lines_as_they_are_written(texts: list[str], told: str) -> None:
    assert str(parse_lines(texts)) == told


@pytest.mark.parametrize("text", ["", " ", ",", "x", "0", "-3", "9-5", "3-", "3-5-7", "3.5", "every"])
def test_what_names_no_line_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="3,5-9, or all"):
        parse_lines([text])


@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(0, 5)).map(lambda r: (r[0], r[0] + r[1]))), st.integers(1, 70)
)
def test_ranges_hold_the_lines_that_were_given(ranges: list[tuple[int, int]], line: int) -> None:
    lines = lines_of(ranges)

    assert (line in lines) == any(first <= line <= last for first, last in ranges)
    assert bool(lines) == bool(ranges)
    if ranges:
        assert parse_lines([str(lines)]) == lines


def test_all_holds_every_line_and_nothing_holds_none() -> None:
    assert 10**9 in ALL
    assert ALL
    assert 1 not in Lines()
    assert not Lines()


TASK = {"incident": "20220125-1", "name": "Call the user", "due": "2027-03-24 13:28:13", "assignee": "admin user"}
PAIR = SimilarPair(4, {**TASK, "due": "2027-03-24 13:28:00"}, TASK, "ok", 1_796_144_400.0)


def test_a_pair_says_what_was_sent_when_and_what_differs() -> None:
    assert described([PAIR], 1, Lines(((4, 4),))) == [
        "1 row looks like a row sent before:",
        "  line 4; the other one was sent on 2026-12-01 17:00 UTC",
        "    due  sent 2027-03-24 13:28:13  now 2027-03-24 13:28:00",
        "    the same: incident 20220125-1, name Call the user, assignee admin user",
        "The same task? Put the row back as sent (or take it out of the file).",
        "Meant as a task of its own? --allow-similar 4 (or: --allow-similar all)",
    ]


def test_the_first_three_pairs_are_shown_and_how_many_there_are() -> None:
    pairs = [SimilarPair(line, TASK, TASK, "unknown", None, folder="/there/t.d3run") for line in (2, 3, 5, 9)]

    told = described(pairs, 1200, lines_of((line, line) for line in range(2, 1202)))

    assert told[0] == "1,200 rows look like rows sent before:"
    assert told[1:3] == [
        "  line 2; the other one was sent, from /there/t.d3run (its outcome is unknown)",
        "    nothing differs",
    ]
    assert "  and 1,197 more" in told
    assert not any("line 9" in line for line in told)
    assert told[-1] == "Meant as tasks of their own? --allow-similar 2-1201 (or: --allow-similar all)"


def test_lines_too_many_to_type_are_all() -> None:
    lines = lines_of((line, line) for line in range(2, 200, 2))

    assert described([PAIR], 99, lines)[-1] == "Meant as tasks of their own? --allow-similar all"


def test_of_a_row_whose_run_folder_is_gone_the_due_date_is_known() -> None:
    gone = SimilarPair(4, TASK, None, "unknown", 1_796_144_400.0, "2027-03-24 13:28:13", "/gone/t.d3run")

    told = "\n".join(described([gone], 1, Lines(((4, 4),))))

    assert "its due date was 2027-03-24 13:28:13" in told
    assert "its run folder is not there" in told
    assert gone.differs == ()


def test_a_field_that_only_one_of_them_has_differs() -> None:
    assert SimilarPair(1, {"a": "1", "b": "2"}, {"a": "1", "c": "3"}, "ok").differs == ("b", "c")


@pytest.mark.parametrize(
    ("day", "name", "told"),
    [(0, 0, []), (2, 0, ["another day"]), (0, 3, ["another name"]), (1, 1, ["another day", "another name"])],
)
def test_what_only_resembles_is_mentioned(day: int, name: int, told: list[str]) -> None:
    assert [any(word in line for line in mentioned(day, name)) for word in told] == [True] * len(told)
    assert len(mentioned(day, name)) == len(told)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ({"incident": "0042"}, {"incident": "42"}, True),
        ({"incident": "20220125-001"}, {"incident": "20220125-1"}, True),
        ({"incident": "INC-007"}, {"incident": "inc-7"}, True),
        ({"incident": "100"}, {"incident": "1"}, False),
        ({"incident": "0"}, {"incident": "00"}, True),
        ({"incident": "20220125-10"}, {"incident": "20220125-1"}, False),
        ({"name": "Task 007"}, {"name": "Task 7"}, False),
        ({"name": "Call  the User "}, {"name": "call the user"}, True),
        ({"name": "Anh\u00f6rung"}, {"name": "Anho\u0308rung"}, True),
        ({"description": "one"}, {"description": "other"}, True),
    ],
)
def test_incident_and_name_decide_and_leading_zeros_of_incidents_do_not(
    one: dict[str, str], other: dict[str, str], alike: bool
) -> None:
    digests = {
        look_alike(CreateTask, request_of(CreateTask(**{**FIELDS, **given})).params, "SOC").similar
        for given in (one, other)
    }

    assert (len(digests) == 1) is alike
