"""GetIncidents: fields, filter, time range and pages."""

from __future__ import annotations

from typing import Any

import pytest

from d3async.sandbox.commands import Look, perform, read_ask
from d3async.sandbox.state import World

LINKS = [("20260102-1", "20260103-1"), ("20260102-1", "20260104-1")]
ALL = ["20260102-1", "20260103-1", "20260104-1"]


def ask(**params: Any) -> dict[str, Any]:
    wide = {"Start Time": "2020-01-01 00:00:00", "End Time": "2030-01-01 00:00:00"}
    spelt = {name.replace("_", " "): value for name, value in params.items()}
    body = {"Username": "Admin", "Site": "S", "CommandParams": wide | {"Static Fields": ["IR Number"]} | spelt}
    return perform(World(LINKS), read_ask(1, "GetIncidents", body), Look()).body


def numbers(answer: Any) -> list[str]:
    return [row["IR Number"] for row in answer["rawData"]["incidents"]]


def on(operator: str, value: str, field: str = "IR Number") -> dict[str, str]:
    return {"field": field, "operator": operator, "value": value}


def test_rows_hold_the_fields_asked_for() -> None:
    answer = ask(Static_Fields=["IR Number", "Linked Incidents", "Conclusion"], Filter=[[on("=", "20260102-1")]])

    assert answer["rawData"]["incidents"] == [
        {"IR Number": "20260102-1", "Linked Incidents": ["20260103-1", "20260104-1"], "Conclusion": ""}
    ]


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        ([], ALL),
        ([[on("=", "20260103-1")], [on("=", "20260104-1")]], ALL[1:]),
        ([[on("LIKE", "202601%"), on("!=", "20260103-1")]], [ALL[0], ALL[2]]),
        ([[on("LIKE", "%4-1")]], [ALL[2]]),
        ([[on("=", "20251231-77")]], ["20251231-77"]),
        ([[on("=", "MISSING-1")]], []),
        ([[on("=", "20260103-1"), on("=", "20260104-1")]], []),
    ],
)
def test_the_filter_is_and_inside_or_between(conditions: list[Any], found: Any) -> None:
    assert numbers(ask(Filter=conditions)) == found


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        ("2026-01-03 00:00:00", "2026-01-03 23:59:59", [ALL[1]]),
        ("2026-01-02 12:00:00", "2026-01-03 11:59:59", [ALL[0]]),
        ("2027-01-01 00:00:00", "2028-01-01 00:00:00", []),
    ],
)
def test_the_time_range_is_about_the_date_in_the_number(start: str, end: str, found: Any) -> None:
    assert numbers(ask(Start_Time=start, End_Time=end)) == found


@pytest.mark.parametrize(
    ("page", "found", "pages"),
    [
        ({"Page Size": 2}, ALL[:2], 2),
        ({"Page Size": 2, "Page Index": 1}, ALL[2:], 2),
        ({"Page Size": 2, "Page Index": 9}, [], 2),
        ({"PageSize": "1", "PageIndex": "1"}, [ALL[1]], 3),
        ({"Page Size": 5000}, ALL, 1),
    ],
)
def test_pages_are_counted_from_zero(page: dict[str, Any], found: Any, pages: int) -> None:
    answer = ask(**page)

    assert (numbers(answer), answer["outputData"]) == (found, {"TotalPages": pages})


def test_without_a_page_size_everything_comes_and_no_page_count() -> None:
    answer = ask(Page_Size=0)

    assert (numbers(answer), answer["outputData"]) == (ALL, {})


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"Filter": [[on(">", "1")]]}, "The sandbox filters on IR Number with =, !=, LIKE only."),
        ({"Filter": [[on("=", "1", field="Title")]]}, "The sandbox filters on IR Number with =, !=, LIKE only."),
        ({"Filter": "IR Number = 1"}, "Filter must be an array of arrays of conditions."),
        ({"Static Fields": "IR Number"}, "Static Fields must be an array of field names."),
        ({"Start Time": "2026-01-01"}, "Start Time and End Time must be in the format yyyy-MM-dd HH:mm:ss."),
        ({"Page Size": "many"}, "Page Size must be a whole number."),
    ],
)
def test_what_is_not_understood_is_a_200_that_failed(params: dict[str, Any], text: str) -> None:
    assert ask(**params) == {"error": text, "returnData": "Failed", "rawData": ""}
