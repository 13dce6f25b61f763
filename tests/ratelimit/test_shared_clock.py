"""The store's clock, told by one's own."""

from hypothesis import given
from hypothesis import strategies as st

from d3async.ratelimit.store_protocol import SharedClock


def test_the_offset_lies_in_the_middle_of_what_is_possible_and_each_answer_narrows_that() -> None:
    clock = SharedClock()
    assert clock.offset == 0.0
    clock.sample(10.0, 1000.0, 10.1)
    assert abs(clock.offset - -989.95) < 1e-9
    clock.sample(11.0, 1001.06, 11.08)

    assert abs(clock.offset - -989.99) < 0.001


def test_a_clock_that_is_set_forward_is_told_and_one_that_is_set_back_is_followed() -> None:
    clock = SharedClock()
    assert not clock.sample(10.0, 1000.0, 10.001)
    assert not clock.sample(11.0, 1001.0, 11.001)
    assert clock.sample(12.0, 1007.0, 12.001)
    assert not clock.sample(13.0, 1008.0, 13.001)
    assert not clock.sample(14.0, 500.0, 14.001)
    assert abs(clock.offset - -486.0) < 0.01


@given(st.lists(st.tuples(st.floats(0, 0.2), st.floats(0, 0.2), st.floats(0, 30)), min_size=1, max_size=50))
def test_it_is_never_further_off_than_the_quickest_answer_took(ways: list[tuple[float, float, float]]) -> None:
    clock, now, trips = SharedClock(), 0.0, []
    for there, back, waited in ways:
        assert not clock.sample(now, now + there + 5000, now + there + back)
        trips.append(there + back + 2e-4 * sum(wait + one + other for one, other, wait in ways))
        now += there + back + waited
        assert abs(clock.offset + 5000) <= min(trips) + 1e-6
