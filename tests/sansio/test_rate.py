"""What the rate controller makes of answers: numbers worked by hand, time as an argument."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3async.sansio.rate import RateController, Recent, burst, paced


@pytest.mark.parametrize(("limit", "rate"), [(50, 48.5294), (1, 0.970588), (0.5, 0.485294), (5000, 4852.94)])
def test_the_pace_is_three_percent_below_the_limit(limit: float, rate: float) -> None:
    assert paced(limit) == pytest.approx(rate, rel=1e-5)


@pytest.mark.parametrize(("jitter", "rate"), [(0.0, 49.5), (0.03, 48.058), (0.1, 45.0)])
def test_more_jitter_means_more_margin(jitter: float, rate: float) -> None:
    assert paced(50, jitter) == pytest.approx(rate, abs=1e-3)


@given(st.floats(0.1, 1e5), st.floats(0, 0.1))
def test_pace_and_burst_together_never_exceed_the_limit_in_a_window_stretched_by_the_jitter(
    limit: float, jitter: float
) -> None:
    rate = paced(limit, jitter)

    assert rate * (1 + jitter) + burst(rate) <= limit + 1


def test_a_known_limit_starts_at_its_pace_and_an_unknown_one_low() -> None:
    assert RateController(50).rate == pytest.approx(48.53, abs=0.01)
    assert RateController(None).rate < 10


def test_the_last_second_is_counted_in_tenths() -> None:
    recent = Recent()
    for at in (0.05, 0.95, 1.0, 1.5):
        recent.add(at)

    assert recent.count(1.55) == 3
    assert recent.count(2.45) == 1
    assert recent.count(9.0) == 0


def test_a_refusal_closes_the_gate_for_everyone_and_slows_down() -> None:
    mind = RateController(50)
    before = mind.rate

    mind.throttled(1.0, 1.1, None, 0.5)

    assert mind.holds(1.1) > 0
    assert mind.rate < before


def test_refusals_of_requests_sent_before_an_event_are_that_event() -> None:
    """Sixteen requests in flight see one full bucket: one cut, not sixteen."""
    mind = RateController(50)
    mind.throttled(1.0, 1.2, None, 0.5)
    rate = mind.rate

    for sent_at in (1.05, 1.1, 1.2):
        mind.throttled(sent_at, 1.3, None, 0.5)

    assert mind.rate == rate


@pytest.mark.parametrize("first", [True, False])
def test_no_request_leaves_before_a_stated_wait_ends(first: bool) -> None:
    """Also when the longer wait is stated by a later answer of the same event."""
    mind = RateController(50)
    mind.throttled(1.0, 1.2, 3.0 if first else 1.0, 0.0)
    mind.throttled(1.1, 1.2, 1.0 if first else 3.0, 0.0)

    assert mind.holds(1.2) >= 3.0
    assert mind.holds(4.19) > 0


def test_the_rate_comes_back_to_the_ceiling_and_stays_there() -> None:
    mind = RateController(50)
    mind.throttled(1.0, 1.1, None, 0.5)

    for tick in range(600):
        at = 2.0 + tick / 40
        mind.accepted(at, at + 0.1)

    assert mind.rate == mind.top


def test_after_a_block_one_request_tries_while_the_others_wait() -> None:
    mind = RateController(50)
    now = _block(mind, until=5.0)
    now += mind.holds(now)
    mind.granted(now)

    assert mind.holds(now + 0.1) > 1

    mind.accepted(now, now + 0.2)
    assert mind.holds(now + 0.2) == 0


def test_a_probe_that_is_given_up_lets_the_next_one_try() -> None:
    mind = RateController(50)
    now = _block(mind, until=5.0)
    now += mind.holds(now)
    mind.granted(now)
    mind.silent(now)

    assert mind.holds(now) == 0


def test_the_fate_of_another_request_does_not_end_the_probe() -> None:
    mind = RateController(50)
    now = _block(mind, until=5.0)
    now += mind.holds(now)
    mind.granted(now)
    mind.silent(0.5)

    assert mind.holds(now + 0.1) > 1


def test_blocked_for_counts_from_the_first_refusal_until_anything_else_comes() -> None:
    mind = RateController(50)
    assert mind.blocked_for(7.0) == 0.0

    mind.throttled(1.0, 1.1, None, 0.5)
    mind.throttled(2.0, 2.1, None, 0.5)
    assert mind.blocked_for(4.1) == pytest.approx(3.0)

    mind.accepted(4.0, 4.2)
    assert mind.blocked_for(5.0) == 0.0


def test_a_wider_jitter_margin_lowers_a_known_ceiling_at_once() -> None:
    mind = RateController(50)
    mind.allow(0.03)

    assert mind.rate == pytest.approx(48.058, abs=1e-3)


def test_an_unknown_limit_is_found_by_one_step_an_answer() -> None:
    mind = RateController(None)
    start = mind.rate
    for tick in range(10):
        mind.accepted(tick / 10, tick / 10 + 0.1)

    assert mind.rate >= start + 10
    assert mind.learnt is None

    mind.throttled(1.2, 1.3, None, 0.5)
    assert mind.learnt is not None
    assert mind.rate < start + 10


@given(
    st.lists(st.tuples(st.sampled_from("aatsg"), st.floats(0, 0.5), st.floats(0, 3)), max_size=200), st.floats(0, 0.99)
)
def test_whatever_happens_the_rate_stays_positive_and_below_the_ceiling_and_the_gate_finite(
    story: list[tuple[str, float, float]], jitter: float
) -> None:
    mind = RateController(50)
    now = 0.0
    for event, step, age in story:
        now += step
        match event:
            case "a":
                mind.accepted(now - age, now)
            case "t":
                mind.throttled(now - age, now, age if age > 1 else None, jitter)
            case "s":
                mind.silent(now - age)
            case _:
                mind.granted(now)

        assert 0 < mind.rate <= mind.top
        assert 0 <= mind.holds(now) < 20
        assert math.isfinite(mind.blocked_for(now))


def _block(mind: RateController, *, until: float) -> float:
    now = 0.0
    while now < until:
        mind.granted(now)
        mind.throttled(now, now + 0.1, None, 0.5)
        now += 0.1 + mind.holds(now + 0.1)
    return now
