"""What is shown of a run that goes to one D3, and of one that goes to several."""

from __future__ import annotations

from typing import Any

import pytest

from d3async.cli.progress import ProgressCounts, why_not_faster
from d3async.engine.observers import ServerProgress, together
from d3async.policy.halt_and_exit_codes import Stop, worst
from d3async.ratelimit.limiter import Limiter, LimiterNumbers


def numbers(**changed: Any) -> LimiterNumbers:
    told = Limiter(rate=50).numbers
    return LimiterNumbers(**{name: getattr(told, name) for name in told.__slots__} | {"rate": 40.0} | changed)


def sight(name: str = "", rows: int = 100, done: int = 0, **changed: Any) -> ServerProgress:
    return ServerProgress(name, rows, done, numbers(**changed))


def test_several_limiters_add_up_and_their_longest_pause_counts() -> None:
    both = together([numbers(throttled=2, paused_s=3.0, in_flight=4), numbers(throttled=5, paused_s=1.0, in_flight=6)])
    assert both is not None
    assert (both.rate, both.ceiling, both.throttled, both.paused_s, both.in_flight) == (80.0, 100.0, 7, 3.0, 10)
    assert together([]) is None
    one = numbers()
    assert together([one]) is one


def test_one_of_several_that_finds_its_rate_by_itself_leaves_them_without_a_ceiling() -> None:
    both = together([numbers(), numbers(ceiling=None)])
    assert both is not None
    assert both.ceiling is None


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ([sight()], ""),
        ([sight(outages=1, opens_in=3.2)], "D3 does not answer, trying again in 3 s"),
        ([sight("a"), sight("b", outages=1, opens_in=3.2)], "b: D3 does not answer, trying again in 3 s"),
        ([sight("a", throttled=7), sight("b", opens_in=9.0)], "a: 429s 7; b: D3 says wait: 9 s"),
        ([sight(name, throttled=1) for name in "abcd"], "a: 429s 1; b: 429s 1; and 2 more"),
        ([], ""),
    ],
)
def test_what_holds_a_run_up_is_told_with_the_name_of_the_server(at: list[ServerProgress], said: str) -> None:
    assert why_not_faster(at) == said


@pytest.mark.parametrize(
    ("at", "waiting", "left"),
    [
        ([sight()], 0, 2.5),
        ([sight(done=60)], 0, 1.0),
        ([sight(opens_in=2.0)], 0, 4.5),
        ([sight("a", rows=400), sight("b", rows=40)], 0, 10.0),
        ([sight("a", rows=40), sight("b", rows=40)], 720, 10.0),
        ([sight("a", rows=40, opens_in=30.0), sight("b", rows=400)], 0, 31.0),
        ([], 0, 0.0),
        ([sight(done=100)], 0, 0.0),
        ([sight(rate=0.0)], 0, None),
    ],
)
def test_the_time_left_is_that_of_the_slowest_server_and_of_all_rows_together(
    at: list[ServerProgress], waiting: int, left: float | None
) -> None:
    """Just begun: nobody knows the pace yet, the limits of 40 a second decide."""
    assert ProgressCounts(1000, clock=lambda: 0.0).left(at, waiting) == left


def stop(code: str) -> Stop:
    return Stop(code, code)


@pytest.mark.parametrize(
    ("stops", "code"),
    [
        ([None, None], None),
        ([None, stop("unauthorized")], "unauthorized"),
        ([stop("halt"), stop("throttled"), None], "throttled"),
        ([stop("throttled"), stop("interrupted"), stop("unreachable")], "interrupted"),
        ([stop("interrupted"), stop("terminated")], "terminated"),
        ([stop("fenced"), stop("unreachable")], "unreachable"),
    ],
)
def test_why_several_ended_early_is_what_gives_the_highest_exit_code(
    stops: list[Stop | None], code: str | None
) -> None:
    found = worst(stops)
    assert (found.code if found else None) == code
