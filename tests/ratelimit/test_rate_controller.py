"""What the rate controller makes of answers: numbers worked by hand, time as an argument."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3async.ratelimit.rate_controller import (
    LatenessAllowance,
    RateController,
    RateRecovery,
    RecentEvents,
    burst,
    paced,
)


@pytest.mark.parametrize(("limit", "rate"), [(50, 48.5294), (1, 0.970588), (0.5, 0.485294), (5000, 4852.94)])
def test_the_pace_is_three_percent_below_the_limit(limit: float, rate: float) -> None:
    assert paced(limit) == pytest.approx(rate, rel=1e-5)


@pytest.mark.parametrize(("jitter", "rate"), [(0.0, 49.5), (0.03, 48.058), (0.1, 45.0)])
def test_more_jitter_means_more_margin(jitter: float, rate: float) -> None:
    assert paced(50, jitter) == pytest.approx(rate, abs=1e-3)


@given(st.floats(0.1, 1e5), st.floats(0, 0.1), st.floats(0, 0.05))
def test_pace_and_burst_together_never_exceed_the_limit_in_a_window_stretched_by_the_jitter(
    limit: float, jitter: float, lateness: float
) -> None:
    rate = paced(limit, jitter, lateness)

    assert rate * (1 + jitter) + burst(rate, lateness) <= (limit + 1) * (1 + 1e-12)


def test_a_pacer_that_is_often_late_is_let_off_what_it_misses_and_the_limit_still_holds() -> None:
    """One beat in five is 28 ms late: 30 ms are allowed, 1.43 requests may be caught up, the pace is 50·0.97/1.02."""
    lateness = LatenessAllowance()
    for beat in range(500):
        lateness.note(0.0005 if beat % 5 else 0.028)
    mind = RateController(50)
    mind.allow(lateness=lateness.allowance)

    assert lateness.allowance == pytest.approx(0.03)
    assert mind.rate == pytest.approx(47.549, abs=0.001)


def test_a_rare_late_beat_changes_nothing_and_no_lateness_is_trusted_beyond_a_twentieth_of_a_second() -> None:
    lateness = LatenessAllowance()
    for beat in range(1000):
        lateness.note(0.0005 if beat % 50 else 0.1)
    assert lateness.allowance == 0.01

    for _ in range(1000):
        lateness.note(0.2)
    assert lateness.allowance == pytest.approx(0.05)


def test_a_known_limit_starts_at_its_pace_and_an_unknown_one_low() -> None:
    assert RateController(50).rate == pytest.approx(48.53, abs=0.01)
    assert RateController(None).rate == 10


def test_the_last_second_is_counted_in_tenths() -> None:
    recent = RecentEvents()
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


def test_a_stated_wait_of_nothing_is_no_permission_to_ask_without_end() -> None:
    mind = RateController(50)
    now = 0.0
    for _ in range(100):
        mind.granted(now)
        mind.throttled(now, now + 0.1, 0.0, 0.5)
        now += 0.1 + mind.holds(now + 0.1)

    assert now > 200


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

    mind.silent(3.0)
    assert mind.blocked_for(4.1) == pytest.approx(3.0)

    mind.accepted(4.0, 4.2)
    assert mind.blocked_for(5.0) == 0.0

    mind.throttled(6.0, 6.1, None, 0.5)
    mind.failed(6.0)
    assert mind.blocked_for(7.0) == 0.0


def test_a_wider_jitter_margin_lowers_a_known_ceiling_at_once() -> None:
    mind = RateController(50)
    mind.allow(jitter=0.03)

    assert mind.rate == pytest.approx(48.058, abs=1e-3)


def test_an_unknown_limit_is_found_a_step_with_each_good_answer() -> None:
    mind = RateController(None)
    for tick in range(50):
        mind.accepted(tick / 10, tick / 10 + 0.1)
    assert mind.rate == pytest.approx(10 + 50 * 0.6)
    assert mind.learnt is None

    mind.throttled(5.2, 5.3, None, 0.5)
    assert mind.learnt == pytest.approx(20)
    assert mind.rate == pytest.approx(19)


def test_a_cut_goes_a_little_below_what_was_accepted() -> None:
    """30 answers in the last second at a pace of 48.5: the first cut trusts 90 % of the pace, the second the count."""
    mind = RateController(50)
    for tick in range(30):
        mind.accepted(tick / 30, 1.05 + tick / 32)
    mind.throttled(1.0, 2.0, None, 0.5)
    assert mind.rate == pytest.approx(0.95 * 0.9 * 48.53, abs=0.01)

    mind.throttled(2.05, 2.06, None, 0.5)
    assert mind.rate == pytest.approx(0.95 * 30, abs=2.0)


def test_a_refusal_that_stays_alone_is_forgiven_and_widens_the_margin() -> None:
    mind = RateController(50)
    mind.throttled(10.0, 10.1, None, 0.5)
    slow = mind.rate
    for tick in range(24):
        assert mind.rate < mind.top
        mind.accepted(10.2 + tick / 50, 10.3 + tick / 50)

    assert slow < mind.rate == mind.top
    assert mind.top == pytest.approx(50 * 0.99 / 1.024, abs=0.001)


def test_the_wider_margin_is_taken_back_by_some_minutes_of_good_answers() -> None:
    mind = RateController(50)
    mind.throttled(10.0, 10.1, None, 0.5)
    for tick in range(3100):
        mind.accepted(10.2 + tick / 50, 10.3 + tick / 50)

    assert mind.rate == pytest.approx(paced(50))


def test_two_refusals_in_a_row_are_no_accident() -> None:
    mind = RateController(50)
    mind.throttled(10.0, 10.1, None, 0.5)
    mind.accepted(10.2, 10.3)
    mind.throttled(10.3, 10.4, None, 0.5)
    for tick in range(30):
        mind.accepted(10.5 + tick / 50, 10.5 + tick / 50)

    assert mind.rate < mind.top


@pytest.mark.parametrize(("after", "rate"), [(0.0, 23.75), (1.637, 25.0), (7.237, 75.0)])
def test_the_way_back_is_flat_at_the_plateau_and_steep_beyond(after: float, rate: float) -> None:
    """cbrt(1.25/50) = 0.2924 of 5.6 seconds to the plateau, then the whole scale of 50 in another 5.6."""
    assert RateRecovery(25.0, 23.75, 100.0, 50.0).rate(100.0 + after) == pytest.approx(rate, abs=0.02)


def test_a_block_of_a_whole_day_does_not_overflow_the_pause() -> None:
    mind = RateController(50)
    now = 0.0
    for _ in range(30_000):
        mind.throttled(now, now, None, 0.5)
        now += mind.holds(now) or 0.1

    assert mind.holds(now) <= 3.0


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
