"""Times in the forms D3's pages show, and when one is surely before another."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3async.d3.log_entries import told_time

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "written", "hours"),
    [
        ("2022-03-24 13:28:13 China Standard Time", "2022-03-24 13:28:13", None),
        ("01/27/2021 06:08 AM PST", "2021-01-27 06:08:00", None),
        ("May 26, 2020 17:07 China Standard Time", "2020-05-26 17:07:00", None),
        ("5/29/2020 3:49:39 PM", "2020-05-29 15:49:39", None),
        ("5/29/2020 12:00:00 AM", "2020-05-29 00:00:00", None),
        ("5/29/2020 12:30 pm", "2020-05-29 12:30:00", None),
        ("2022-12-03T02:20:05Z", "2022-12-03 02:20:05", 0),
        ("2020-05-27 20:16:01 UTC", "2020-05-27 20:16:01", 0),
        ("2023-04-05T20:42:51.483", "2023-04-05 20:42:51", None),
        ("2023-04-05T20:42:51+08:00", "2023-04-05 20:42:51", 8),
        ("2023-04-05 20:42:51 (GMT-08:00) Pacific Standard Time", "2023-04-05 20:42:51", -8),
        (" 2023-04-05 20:42 ", "2023-04-05 20:42:00", None),
    ],
)
def test_a_time_is_read_with_its_zone_if_it_tells_one(text: str, written: str, hours: int | None) -> None:
    told = told_time(text)

    assert told is not None
    assert str(told.written) == written
    assert (None if told.offset is None else told.offset.total_seconds() / 3600) == hours


@pytest.mark.parametrize(
    "text", ["", "soon", "2023-04-05", "at 2023-04-05 20:42:51", "2023-13-05 20:42:51", "27/01/2021 06:08", "12:00"]
)
def test_anything_else_is_no_time(text: str) -> None:
    assert told_time(text) is None


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("2026-11-22 11:58:59 UTC", True),
        ("2026-11-22 11:59:01 UTC", False),
        ("2026-11-22 19:58:00+08:00", True),
        ("2026-11-22 04:00:00-08:00", False),
        ("2026-11-22 00:00:00", False),
        ("2026-11-21 23:58:59", True),
        ("2026-11-22 00:00:00 China Standard Time", False),
    ],
)
def test_without_a_zone_only_what_is_past_everywhere_is_before(text: str, *, before: bool) -> None:
    told = told_time(text)

    assert told is not None
    assert told.before(NOON) is before


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    assert told_time(text) is None or text
