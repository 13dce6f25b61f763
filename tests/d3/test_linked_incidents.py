"""What an answer proves about a link: a table of shapes D3 may use, most of which prove nothing."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3async.d3.linked_incidents import (
    CannotTell,
    Links,
    incidents_query,
    judge,
    linked_query,
    more_pages,
    numbers_of,
    periods,
    read_linked,
    read_page,
)

NOW = datetime.fromisoformat("2026-11-22 06:00")
A, B, C = "20210127-197", "20210127-198", "20231025-131"


def page(*rows: dict[str, Any], total: int | None = None) -> dict[str, Any]:
    output = {} if total is None else {"TotalPages": total}
    return {"error": "", "returnData": "Successful", "rawData": {"incidents": list(rows)}, "outputData": output}


@pytest.mark.parametrize(
    ("shown", "numbers"),
    [
        ([A, B], {A, B}),
        ([], set()),
        ({}, set()),
        ("", set()),
        (f"{A}, {B}", {A, B}),
        (f"{A};{B}\n{C}", {A, B, C}),
        (f"<p>{A}</p><br>{B}", {A, B}),
        (json.dumps([A, B]), {A, B}),
        (json.dumps({"incidents": [A]}), {A}),
        ([{"IR Number": A, "Title": "Phish"}, {"Incident ID": B}], {A, B}),
        ([{"IR Number": A, "Owner": {"Name": "admin user"}}], {A}),
        ({A: {"Title": "x"}, B: {"Title": "y"}}, {A, B}),
        (["TEST-INCIDENT-73", "090924-13297"], {"test-incident-73", "090924-13297"}),
    ],
    ids=lambda value: "-" if isinstance(value, set) else str(value)[:40],
)
def test_lists_objects_texts_and_json_as_text_are_read(shown: Any, numbers: set[str]) -> None:
    assert numbers_of(shown) == numbers


@pytest.mark.parametrize(
    "shown",
    [
        None, True, 3, [130, 131], "3", "3 linked incidents", f"{A}, and 2 more", f"{A}: Phishing", "None", "N/A",
        [A, None], [A, {"Title": "no number"}], {"Count": 2}, [{"incidents": [None]}], "[broken",
    ],
    ids=str,
)  # fmt: skip
def test_what_may_hide_a_number_is_not_read(shown: Any) -> None:
    assert numbers_of(shown) is None


@pytest.mark.parametrize(
    ("item", "reading", "word"),
    [
        (A, Links(frozenset({A}), direct=True), "linked"),
        (f" {A} ", Links(frozenset({A}), direct=True), "linked"),
        (A, Links(frozenset({B}), direct=True), "gone"),
        (A, Links(frozenset(), direct=True), "gone"),
        (A, Links(frozenset({B}), direct=False), "gone"),
        (A, Links(frozenset({A, B}), direct=False), "cannot_tell"),
        (A, Links(frozenset({"550e8400-e29b-41d4-a716-446655440000"}), direct=True), "cannot_tell"),
        (A, Links(frozenset({"2024-05-15"}), direct=True), "cannot_tell"),
        (A, CannotTell("no key"), "cannot_tell"),
    ],
)
def test_absence_is_proven_by_a_list_of_such_numbers_and_presence_by_a_direct_one(
    item: str, reading: Links | CannotTell, word: str
) -> None:
    assert judge(item, reading)[0] == word


def test_rows_are_found_under_other_keys_and_inside_of_text() -> None:
    answer = {"error": "", "returnData": json.dumps({"Items": [{"incidentNumber": C, "Linked Incidents": [A]}]})}

    assert read_page(answer, {C}).readings == {C: Links(frozenset({A}), direct=True)}


def test_an_incident_that_is_not_shown_has_no_reading() -> None:
    assert read_page(page({"IR Number": A, "Linked Incidents": []}), {B}).readings == {}


def test_an_incident_shown_without_its_links_proves_nothing() -> None:
    assert isinstance(read_page(page({"IR Number": A}), {A}).readings[A], CannotTell)


@pytest.mark.parametrize("blank", ["", "  ", None])
def test_a_blank_means_none_only_where_another_incident_shows_links(blank: str | None) -> None:
    alone = read_page(page({"IR Number": A, "Linked Incidents": blank}), {A})
    beside = read_page(page({"IR Number": A, "Linked Incidents": blank}, {"IR Number": B, "Linked Incidents": C}), {A})

    assert isinstance(alone.readings[A], CannotTell)
    assert beside.readings[A] == Links(frozenset(), direct=True)


def test_of_two_rows_about_one_incident_either_may_show_a_link() -> None:
    found = read_page(page({"IR Number": A, "Linked Incidents": [B]}, {"IR Number": A, "Linked Incidents": [C]}), {A})

    assert found.readings[A] == Links(frozenset({B, C}), direct=True)


def test_linked_incidents_listed_as_objects_are_not_taken_for_rows() -> None:
    row = {"IR Number": A, "Linked Incidents": [{"IR Number": B}]}

    assert read_page(page(row, {"IR Number": B, "Linked Incidents": [C]}), {A, B}).readings == {
        A: Links(frozenset({B}), direct=True),
        B: Links(frozenset({C}), direct=True),
    }


def test_an_error_proves_nothing_about_anybody() -> None:
    answer = {"error": "No permission.", "rawData": {"incidents": [{"IR Number": A, "Linked Incidents": []}]}}

    assert read_page(answer, {A}).readings == {A: CannotTell("D3 says: No permission.")}


@pytest.mark.parametrize(
    ("rows", "total", "index", "missing", "more"),
    [
        (100, 3, 0, {A}, True),
        (100, 3, 2, {A}, False),
        (100, 3, 0, set(), False),
        (0, 3, 0, {A}, False),
        (1000, None, 0, {A}, True),
        (100, None, 0, {A}, False),
        (1000, 9999, 19, {A}, False),
    ],
)
def test_pages_are_asked_for_while_they_may_show_what_is_missing(
    rows: int, total: int | None, index: int, missing: set[str], more: bool
) -> None:
    shown = [{"IR Number": f"20200101-{n}", "Linked Incidents": []} for n in range(rows)]

    assert more_pages(read_page(page(*shown, total=total), {A}), index, missing) is more


def test_dates_in_the_numbers_narrow_the_period_which_is_widened_after_that() -> None:
    narrow, wide = periods(["20210127-197", "20231025-130"], now=NOW)

    assert (str(narrow.start), str(narrow.end)) == ("2021-01-24 00:00:00", "2023-10-28 00:00:00")
    assert (str(wide.start), str(wide.end)) == ("2000-01-01 00:00:00", "2026-11-25 06:00:00")


@pytest.mark.parametrize("number", ["090924-13297", "TEST-INCIDENT-73", "20219999-1", "19000101-1", "20210127"])
def test_one_number_without_a_day_widens_the_period_of_all(number: str) -> None:
    assert len(periods([number, A], now=NOW)) == 1


def test_the_query_asks_for_just_these_incidents() -> None:
    asked = incidents_query([A, B], periods([A], now=NOW)[0], 2)

    assert asked == {
        "Filter": [
            [{"field": "IR Number", "operator": "=", "value": A}],
            [{"field": "IR Number", "operator": "=", "value": B}],
        ],
        "Static Fields": ["IR Number", "Linked Incidents"],
        "Start Time": "2021-01-24 00:00:00",
        "End Time": "2021-01-30 00:00:00",
        "Output Format": 2,
        "Page Index": 2,
        "Page Size": 1000,
    }
    assert linked_query(A) == {"Incident Number": A}


@pytest.mark.parametrize(
    ("returned", "reading"),
    [
        ({"Status": "Successful", "Data": [C, A]}, Links(frozenset({C, A}), direct=False)),
        (json.dumps({"Status": "Successful", "Data": [C]}), Links(frozenset({C}), direct=False)),
        ({"Status": "Successful", "Data": [A]}, None),
        ({"Status": "Successful", "Data": []}, None),
        ({"Status": "Successful"}, None),
        ("Successful", None),
    ],
)
def test_the_recursive_list_counts_only_with_the_source_in_it(returned: Any, reading: Links | None) -> None:
    found = read_linked({"error": "", "returnData": returned}, C)

    assert found == reading if reading else isinstance(found, CannotTell)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from([A, B, f"{A}, {B}"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["IR Number", "Linked Incidents", "x"]), inner),
    max_leaves=20,
)


@given(anything)
def test_no_json_breaks_the_readers(answer: Any) -> None:
    for reading in (read_linked(answer, A), *read_page(answer, {A, B}).readings.values()):
        assert isinstance(reading, Links | CannotTell)
