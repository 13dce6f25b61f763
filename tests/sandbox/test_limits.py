"""Each kind of limit lets in what its server would, by tables worked by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3async.sandbox.limits_and_faults import (
    LIMIT_KINDS,
    FixedWindow,
    NginxMeter,
    SlidingLog,
    TokenBucket,
    make_limit,
    retry_after,
)

if TYPE_CHECKING:
    from d3async.sandbox.limits_and_faults import Limit, LimitKind, RetryAfter


TABLES = [
    pytest.param(
        FixedWindow(2),
        [(10.9, 0), (10.95, 0), (10.99, 0.01), (11.0, 0), (11.0, 0), (11.25, 0.75), (13.0, 0)],
        id="fixed: two in each whole second, also two right after the edge",
    ),
    pytest.param(
        SlidingLog(2),
        [(10.0, 0), (10.5, 0), (10.9, 0.1), (10.95, 0.05), (11.0, 0), (11.25, 0.25), (11.5, 0)],
        id="sliding: the third waits for the first to be a second old, refusals cost nothing",
    ),
    pytest.param(
        SlidingLog(2, counts_refused=True),
        [(10.0, 0), (10.5, 0), (10.75, 0.75), (11.25, 0.5), (11.5, 0.75), (12.25, 0)],
        id="counting: asking again too early keeps the door shut",
    ),
    pytest.param(
        TokenBucket(rate=4, capacity=2),
        [
            (10.0, 0),
            (10.0, 0),
            (10.0, 0.25),
            (10.125, 0.125),
            (10.25, 0),
            (10.25, 0.25),
            (20.0, 0),
            (20.0, 0),
            (20.0, 0.25),
        ],
        id="bucket: two at once, then one every quarter, never more than two saved",
    ),
    pytest.param(
        NginxMeter(50),
        [(10.0, 0), (10.0, 0.02), (10.019, 0.001), (10.02, 0), (10.03, 0.01), (10.04, 0)],
        id="nginx without burst: every gap below 20 ms is refused, refusals cost nothing",
    ),
    pytest.param(
        NginxMeter(50, burst=2),
        [(10.0, 0), (10.0, 0), (10.0, 0), (10.0, 0.02), (10.02, 0), (10.02, 0.02)],
        id="nginx burst=2: one and two more at once",
    ),
]


@pytest.mark.parametrize(("limit", "arrivals"), TABLES)
def test_waits_are_those_worked_by_hand(limit: Limit, arrivals: list[tuple[float, float]]) -> None:
    assert [limit.ask(now) for now, _ in arrivals] == pytest.approx([wait for _, wait in arrivals], abs=1e-6)


GAPS = st.lists(st.sampled_from([0.0, 0.001, 0.01, 0.02, 0.1, 0.5, 1.0]), min_size=1, max_size=80)


@given(kind=st.sampled_from(LIMIT_KINDS), gaps=GAPS)
def test_whoever_waits_as_told_and_a_millisecond_is_let_in(kind: LimitKind, gaps: list[float]) -> None:
    limit, now = make_limit(kind, 5), 100.0
    for gap in gaps:
        now += gap
        wait = limit.ask(now)
    if wait:
        assert limit.ask(now + wait + 0.001) == 0


@given(kind=st.sampled_from(["sliding", "counting"]), gaps=GAPS)
def test_no_second_ever_holds_more_than_the_limit(kind: LimitKind, gaps: list[float]) -> None:
    limit, now = make_limit(kind, 5), 100.0
    let_in: list[float] = []
    for gap in gaps:
        now += gap
        if not limit.ask(now):
            let_in.append(now)

    assert all(sum(start <= at < start + 1 - 1e-9 for at in let_in) <= 5 for start in let_in)


@given(gaps=GAPS)
def test_a_bucket_gives_no_more_than_its_capacity_and_the_refill(gaps: list[float]) -> None:
    limit, now, let_in = make_limit("bucket", 5, 3), 100.0, 0
    for gap in gaps:
        now += gap
        let_in += not limit.ask(now)

    assert let_in <= 3 + 5 * (now - 100.0) + 1e-6


def test_a_bucket_holds_a_seconds_worth_unless_told_otherwise() -> None:
    assert make_limit("bucket", 50) == TokenBucket(50, 50)
    assert make_limit("bucket", 50, 10) == TokenBucket(50, 10)
    assert make_limit("nginx", 50, 5) == NginxMeter(50, 5)


@pytest.mark.parametrize(
    ("form", "wait", "header"),
    [
        ("none", 3.2, None),
        ("seconds", 3.2, "4"),
        ("seconds", 0.02, "1"),
        ("decimal", 0.02, "0.020"),
        ("date", 3.2, "Thu, 01 Jan 1970 00:00:14 GMT"),
        (120.0, 0.02, "120"),
        (-5, 0.02, "-5"),
    ],
)
def test_retry_after_is_written_in_the_form_asked_for(form: RetryAfter, wait: float, header: str | None) -> None:
    assert retry_after(form, wait, 10.0) == header
