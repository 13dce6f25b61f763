"""Slots in hand: used in their time or not at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3async.ratelimit.store_protocol import ReservedSlots, slots_to_ask


@pytest.mark.parametrize(
    ("rate", "members", "waiting", "round_trip", "slots"),
    [
        (48, 1, 99, 0.0005, 1),
        (48, 2, 99, 0.0005, 1),
        (48, 3, 99, 0.0005, 2),
        (48, 8, 99, 0.0005, 1),
        (500, 4, 99, 0.0005, 13),
        (500, 4, 5, 0.0005, 5),
        (48, 1, 99, 0.1, 8),
        (999, 1, 1, 0.0005, 9),
        (1000, 1, 1, 0.0005, 100),
        (100_000, 1, 1, 0.0005, 10_000),
        (48, 3, 0, 0.0, 1),
    ],
)
def test_few_processes_ask_slot_by_slot_many_or_quick_ones_for_a_tenth_of_a_second(
    rate: float, members: int, waiting: int, round_trip: float, slots: int
) -> None:
    assert slots_to_ask(rate, members=members, waiting=waiting, round_trip=round_trip) == slots


def test_a_slot_is_used_from_its_time_until_it_is_too_late() -> None:
    lease = ReservedSlots()
    lease.add(10.0, every=1.0, slots=3)

    assert lease.take(9.9, 0.1) is None
    assert lease.take(10.1, 0.1) == 10.0
    assert lease.take(11.2, 0.1) is None
    assert lease.next(11.2, 0.1) == 12.0
    assert lease.take(12.0, 0.1) == 12.0
    assert lease.next(12.0, 0.1) is None


def test_a_slot_that_is_put_back_is_the_next_as_long_as_it_is_good() -> None:
    lease = ReservedSlots()
    lease.add(10.0, every=1.0, slots=2)
    due = lease.take(10.0, 0.1)
    assert due == 10.0
    lease.put_back(due)

    assert lease.next(10.05, 0.1) == 10.0
    assert lease.next(10.5, 0.1) == 11.0


def test_what_is_owed_is_left_unused() -> None:
    lease = ReservedSlots()
    lease.owe(2)
    lease.add(10.0, every=1.0, slots=4)

    assert len(lease) == 4
    assert lease.next(9.0, 0.1) == 12.0


@given(
    st.lists(st.tuples(st.floats(0, 5), st.integers(1, 5)), max_size=10),
    st.lists(st.tuples(st.floats(0, 2), st.booleans()), max_size=60),
)
def test_no_slot_is_used_early_late_or_twice(added: list[tuple[float, int]], steps: list[tuple[float, bool]]) -> None:
    lease, now, first, used = ReservedSlots(), 0.0, 0.0, []
    for gap, slots in added:
        first += gap
        lease.add(first, every=0.1, slots=slots)
        first += slots * 0.1
    for waited, freeze in steps:
        now += waited * (3 if freeze else 0.1)
        while (due := lease.take(now, 0.05)) is not None:
            assert now - 0.05 - 1e-9 <= due <= now
            used.append(due)

    assert used == sorted(set(used))
