"""Positions on the page, against numbers worked by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3async.files.report_writer import LATENCIES, column_seconds, latencies, pace, shares, within


def test_a_bar_is_cut_by_share() -> None:
    assert [(part.name, part.x, part.width) for part in shares({"ok": 75, "failed": 25, "unsent": 0})] == [
        ("ok", 0, 75),
        ("failed", 75, 25),
    ]


def test_no_rows_are_no_bar() -> None:
    assert shares({"ok": 0}) == []


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 10**6), max_size=6))
def test_every_part_can_be_seen_and_they_fill_the_bar(counts: dict[str, int]) -> None:
    parts = shares(counts)
    assert all(part.width > 0.5 for part in parts)
    assert sum(part.width for part in parts) == pytest.approx(100 if any(counts.values()) else 0, abs=0.1)


@pytest.mark.parametrize(
    ("span", "seconds"),
    [(0, 1), (80, 1), (81, 2), (3600, 60), (90_000, 1800), (80 * 86400, 86400), (81 * 86400, 172800)],
)
def test_a_column_is_a_round_stretch_of_time_and_there_are_80_at_most(span: float, seconds: float) -> None:
    assert column_seconds(span) == seconds


def test_columns_stand_where_their_time_is_and_are_as_high_as_their_rate() -> None:
    chart = pace(1000.0, 1003.0, [(0, 30, 10), (3, 20, 0)], {1: 7}, [(1001.0, 1.0)])
    assert (chart.seconds, chart.top, chart.end) == (1, 40, 1004.0)
    assert [(column.x, column.good, column.bad, column.throttled) for column in chart.columns] == [
        (0, 75, 25, 0), (25, 0, 0, 7), (50, 0, 0, 0), (75, 50, 0, 0),
    ]  # fmt: skip
    assert [(part.x, part.width) for part in chart.pauses] == [(25, 25)]


def test_a_pause_that_began_before_or_ends_after_is_cut_at_the_edge() -> None:
    chart = pace(0.0, 9.0, [(0, 1, 0)], {}, [(-5.0, 6.0), (9.0, 100.0), (-9.0, 1.0)])
    assert [(part.x, part.width) for part in chart.pauses] == [(0, 10), (90, 10), (0, 0.3)]


def test_a_run_of_one_answer_has_one_column() -> None:
    assert [column.good for column in pace(5.0, 5.0, [(0, 1, 0)], {}, []).columns] == [100]


def test_a_clock_that_was_put_back_leaves_a_chart() -> None:
    assert [column.good for column in pace(5.0, 1.0, [(0, 1, 0)], {}, []).columns] == [100]


@pytest.mark.parametrize(("rate", "top"), [(48.2, 50), (50, 50), (51, 60), (1, 1), (0.3, 0.3), (0, 1), (1200, 1500)])
def test_the_upper_edge_is_a_round_number(rate: float, top: float) -> None:
    assert pace(0.0, 9.9, [(0, int(rate * 10), 0)], {}, []).top == pytest.approx(1 if rate == 0 else top * 10)


def counts(**by_bound: int) -> list[int]:
    return [by_bound.get(f"b{at}", 0) for at in range(len(LATENCIES) + 1)]


def test_the_histogram_begins_and_ends_where_there_are_answers() -> None:
    bars = latencies(counts(b1=5, b3=10))
    assert [(bar.bound, bar.count, bar.width) for bar in bars] == [(0.1, 5, 50), (0.15, 0, 0), (0.2, 10, 100)]


def test_answers_beyond_all_bounds_have_a_bar_without_one() -> None:
    assert [(bar.bound, bar.count) for bar in latencies(counts(b13=2))] == [(None, 2)]


@pytest.mark.parametrize(("share", "bound"), [(0.5, 0.05), (0.9, 0.1), (0.95, None), (1, None)])
def test_a_share_of_the_answers_came_within_a_bound(share: float, bound: float) -> None:
    assert within(counts(b0=50, b1=40, b13=10), share) == bound
