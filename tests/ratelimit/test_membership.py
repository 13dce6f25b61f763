"""Who shares a limit, and what is left to each."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3async.ratelimit.store_protocol import Member, Members, left_over, own_turn
from d3async.ratelimit.store_protocol import members as store_protocol_members


@pytest.mark.parametrize(
    ("other", "members", "silent", "unsure"),
    [
        (Member("a", due=100.5), 2, 0, False),
        (Member("a", due=99.0), 2, 1, True),
        (Member("a", due=95.1), 2, 1, True),
        (Member("a", due=94.9), 1, 0, False),
        (Member("a", due=94.9, connected=True), 2, 1, True),
        (Member("a", due=40.1, connected=True), 2, 1, True),
        (Member("a", due=39.9, connected=True), 1, 0, True),
        (Member("a", due=9000.0), 1, 0, False),
        (Member("a", due=9000.0, connected=True), 2, 1, True),
    ],
    ids=[
        "alive", "silent", "silent for nearly five seconds", "dead", "cut off or frozen", "for nearly a minute",
        "for longer", "dead before the clock was set back", "promised before the clock was set back",
    ],
)  # fmt: skip
def test_a_silent_process_counts_until_it_is_surely_dead(
    other: Member, members: int, silent: int, unsure: bool
) -> None:
    found = store_protocol_members([other], "m", 100.0)

    assert (found.members, found.silent, found.unsure) == (members, silent, unsure)


def test_after_the_store_was_away_everybody_has_five_seconds_to_come_back() -> None:
    assert store_protocol_members([Member("a", due=50.0)], "m", 100.0, since=96.0).silent == 1
    assert store_protocol_members([Member("a", due=50.0)], "m", 100.0, since=94.0).members == 1


def test_each_has_a_place_of_its_own_and_counts_the_others_answers() -> None:
    names = "abcd"
    others = {name: Member(name, due=101.0, accepted=ord(name) - 96) for name in names}
    found = [store_protocol_members((others[other] for other in names if other != name), name, 100.0) for name in names]

    assert [one.index for one in found] == [0, 1, 2, 3]
    assert [one.elsewhere for one in found] == [9, 8, 7, 6]


@pytest.mark.parametrize(
    ("members", "silent", "left"),
    [(1, 0, 48.0), (8, 0, 48.0), (8, 1, 41.0), (8, 7, 3.0), (2, 1, 23.0), (100, 99, 0.24)],
)
def test_what_silent_ones_may_send_is_left_to_them(members: int, silent: int, left: float) -> None:
    assert left_over(48.0, Members(members, silent)) == pytest.approx(left)


@given(st.integers(1, 40), st.floats(0, 2e9), st.floats(0.001, 3))
def test_without_a_store_the_turns_of_all_together_are_the_pace_of_one(members: int, now: float, every: float) -> None:
    turns = sorted(own_turn(now, every=every, standing=Members(members, 0, index)) for index in range(members))

    assert turns[0] >= now - every / 100
    gaps = [after - before for before, after in itertools.pairwise(turns)]
    assert gaps == pytest.approx([every] * (members - 1), abs=1e-3 * every + 1e-6)
    assert turns[-1] - now <= members * every * 1.01
