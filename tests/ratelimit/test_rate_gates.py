"""Outage gate, in-flight cap and jitter margin: the controller's smaller companions."""

import pytest

from d3async.ratelimit.rate_controller import InFlightCap, JitterMargin, Outage


def test_the_outage_gate_doubles_from_half_a_second_to_eight() -> None:
    outage = Outage()
    waits = []
    now = 0.0
    for _ in range(7):
        outage.unreachable(now, now, 1.0)
        waits.append(outage.holds(now))
        now += waits[-1]
        outage.granted(now)

    assert waits == pytest.approx([0.5, 1, 2, 4, 8, 8, 8])
    assert outage.events == 7


@pytest.mark.parametrize(("jitter", "wait"), [(0.0, 0.25), (0.5, 0.375)])
def test_jitter_shortens_the_wait_by_at_most_half(jitter: float, wait: float) -> None:
    outage = Outage()
    outage.unreachable(0.0, 0.0, jitter)

    assert outage.holds(0.0) == wait


def test_failures_of_requests_granted_before_the_event_are_that_event() -> None:
    outage = Outage()
    outage.unreachable(1.0, 1.5, 1.0)
    outage.unreachable(1.2, 1.6, 1.0)
    outage.unreachable(1.5, 1.7, 1.0)

    assert outage.events == 1
    assert outage.holds(1.7) == pytest.approx(0.3)


def test_during_an_outage_one_request_tries_and_its_failure_is_the_next_event() -> None:
    outage = Outage()
    outage.unreachable(0.0, 0.0, 1.0)
    outage.granted(0.5)
    assert outage.holds(0.6) > 1

    outage.unreachable(0.5, 0.7, 1.0)
    assert outage.events == 2
    assert outage.holds(0.7) == pytest.approx(1.0)


def test_a_probe_that_is_given_up_lets_the_next_one_try() -> None:
    outage = Outage()
    outage.unreachable(0.0, 0.0, 1.0)
    outage.granted(0.5)
    outage.unused(0.5)

    assert outage.holds(0.6) == 0


def test_any_answer_ends_the_outage() -> None:
    outage = Outage()
    outage.unreachable(0.0, 0.0, 1.0)
    outage.reached()

    assert (outage.events, outage.holds(0.0)) == (0, 0.0)


def test_a_time_out_ends_it_only_for_a_request_that_left_after_it_began() -> None:
    """A request that was in flight when the line went dead times out later: that proves nothing."""
    outage = Outage()
    outage.unreachable(5.0, 5.1, 1.0)
    outage.timed_out(4.0)
    assert outage.events == 1

    outage.timed_out(5.6)
    assert outage.events == 0


def test_the_cap_halves_once_for_an_event_and_never_goes_below_one() -> None:
    cap = InFlightCap(32)
    cap.strained(1.0, 2.0)
    cap.strained(1.5, 2.1)
    assert cap.cap == 16

    for at in range(3, 12):
        cap.strained(float(at), at + 0.5)
    assert cap.cap == 1


def test_the_cap_grows_by_one_for_each_cap_ful_of_good_answers() -> None:
    cap = InFlightCap(32)
    cap.strained(1.0, 2.0)
    for _ in range(17):
        cap.accepted(3.0)
    assert cap.cap == 17

    for _ in range(2000):
        cap.accepted(3.0)
    assert cap.cap == 32


def test_good_answers_from_before_the_strain_do_not_raise_the_cap() -> None:
    cap = InFlightCap(8)
    cap.strained(1.0, 2.0)
    for _ in range(100):
        cap.accepted(1.5)

    assert cap.cap == 4


def test_a_steady_delay_is_no_jitter_and_a_late_one_is_told() -> None:
    margin = JitterMargin()

    assert not any(margin.late(0.2) for _ in range(100))
    assert margin.margin == pytest.approx(0.02)
    assert margin.late(0.3)


@pytest.mark.parametrize(
    ("first", "told"),
    [
        ([0.031], 1),
        ([0.004], 1),
        ([0.003], 0),
        ([0.001, 0.020], 0),
        ([0.1] * 10, 10),
        ([0.031, 0.015, 0.1], 2),
    ],
)
def test_the_first_requests_turn_out_to_be_late_when_one_is_quick(first: list[float], told: int) -> None:
    """They made their connections; 31 ms late and then 1 ms, a 51st request would come within the first second.

    Of the very first one 2 ms are borne, not 20: others may be late in its second too.
    """
    margin = JitterMargin()

    assert sum(map(margin.late, [*first, 0.001, 0.001])) == told


def test_a_spread_widens_the_margin_up_to_a_tenth_of_a_second() -> None:
    margin = JitterMargin()
    for tick in range(200):
        margin.late(0.001 * (tick % 50))
    assert margin.margin == pytest.approx(0.047)

    for tick in range(400):
        margin.late(0.01 * (tick % 50))
    assert margin.margin == pytest.approx(0.1)
