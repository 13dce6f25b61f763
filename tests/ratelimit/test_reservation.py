"""Slots of a shared limit, by hand and by chance."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3async.ratelimit.store_protocol import Bucket, SlotRequest, closed, reserve


@pytest.mark.parametrize(
    ("bucket", "now", "wish", "first", "free"),
    [
        (Bucket(0, 0), 100, SlotRequest(1, 0.02), 100, 100.02),
        (Bucket(100.5, 100), 100.1, SlotRequest(1, 0.02), 100.5, 100.52),
        (Bucket(100.5, 100), 100.1, SlotRequest(5, 0.02), 100.5, 100.6),
        (Bucket(99.995, 99.9), 100, SlotRequest(1, 0.02, late=0.01), 99.995, 100.015),
        (Bucket(90, 90), 100, SlotRequest(1, 0.02, late=0.01), 99.99, 100.01),
        (Bucket(100, 100, gate=103), 100, SlotRequest(1, 0.02), 103, 103.02),
        (Bucket(100, 100, gate=99), 100, SlotRequest(1, 0.02), 100, 100.02),
        (Bucket(100.2, 100.1), 100, SlotRequest(1, 0.02), 100.2, 100.22),
        (Bucket(5000, 4999), 100, SlotRequest(1, 0.02), 101, 101.02),
        (Bucket(5000, 4999, gate=5002), 100, SlotRequest(1, 0.02), 103, 103.02),
    ],
    ids=[
        "nobody was here", "after those who were", "several", "just missed", "long missed", "gate", "old gate",
        "clock a little behind", "clock set back", "clock set back, gate",
    ],
)  # fmt: skip
def test_the_next_slot_is_after_all_others_after_the_gate_and_never_before_now(
    bucket: Bucket, now: float, wish: SlotRequest, first: float, free: float
) -> None:
    after, slot, granted = reserve(bucket, now, wish)

    assert granted
    assert slot == pytest.approx(first)
    assert after.free == pytest.approx(free)


def test_a_slot_that_comes_too_late_for_the_asker_is_left_to_others() -> None:
    bucket = Bucket(101, 100)

    assert reserve(bucket, 100, SlotRequest(1, 1.0, within=0.05)) == (bucket, 101, False)


@pytest.mark.parametrize(("pause", "gate"), [(0.0, 101.0), (0.5, 101.0), (3.0, 103.0)])
def test_of_two_pauses_the_longer_holds(pause: float, gate: float) -> None:
    assert closed(Bucket(100, 100, gate=101), 100, pause).gate == gate


STEPS = st.tuples(
    st.floats(0, 2), st.sampled_from([0, 0, 0, -0.1, -0.3, -5000, 5000]), st.integers(1, 4), st.floats(0, 0.01)
)


@given(st.lists(STEPS, min_size=1, max_size=60))
def test_whatever_the_clock_does_nobody_waits_longer_than_for_those_before_and_a_window(
    steps: list[tuple[float, float, int, float]],
) -> None:
    bucket, clock, ahead = Bucket(0, 0), 0.0, 0.0
    for waited, step, slots, late in steps:
        clock += waited + step
        bucket, first, _ = reserve(bucket, clock, SlotRequest(slots, 0.02, late))
        ahead += slots * 0.02
        assert clock - late <= first <= clock + ahead + 1.0 + 0.25


@given(st.lists(st.tuples(st.floats(0, 0.5), st.integers(1, 4), st.floats(0, 0.01)), min_size=1, max_size=200))
def test_slots_lie_a_pace_apart_whoever_asks_and_when(asked: list[tuple[float, int, float]]) -> None:
    bucket, now, last = Bucket(0, 0), 0.0, -math.inf
    for waited, slots, late in asked:
        now += waited
        bucket, first, _ = reserve(bucket, now, SlotRequest(slots, 0.02, late))
        assert first >= last + 0.02 - 1e-9
        last = first + (slots - 1) * 0.02
