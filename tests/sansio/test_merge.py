"""A call that D3 refuses as a whole is split to find the bad item, and a list that was too long is learnt."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3async.sansio.call import Call, fold
from d3async.sansio.merge import ListLimit, Part, worth_splitting
from d3async.sansio.protocol import Doubtful, Refused, Reply, Throttled


def links(*items: str) -> Call:
    return Call("RemoveLinkedIncidents", {}, None, "SOC", 1, "20231025-130", items=items)


def refused(message: str) -> Refused:
    return Refused("http_400", message, 400)


@pytest.mark.parametrize(
    ("items", "answer", "split"),
    [
        (("a-1", "b-2"), refused("At most 1 incident number can be given."), True),
        (("a-1", "b-2"), refused("Incident b-2 does not exist."), True),
        (("a-1", "b-2"), refused("Incident 20231025-130 does not exist."), False),
        (("a-1", "b-2"), refused("B-2 is not linked to 20231025-130"), True),
        (("a-1",), refused("Incident a-1 does not exist."), False),
        ((), refused("The body of the request must be a valid JSON object"), False),
        (("a-1", "b-2"), Reply("failed"), False),
        (("a-1", "b-2"), Doubtful("http_500", "", 500), False),
        (("a-1", "b-2"), Throttled("", None), False),
        (("a-1", "b-2"), None, False),
    ],
)
def test_halves_are_tried_only_where_they_may_fare_better(items: tuple[str, ...], answer: Any, split: bool) -> None:
    assert worth_splitting(links(*items), answer) is split


@pytest.mark.parametrize(
    ("items", "halves"),
    [("ab", ("a", "b")), ("abc", ("ab", "c")), ("abcde", ("abc", "de"))],
)
def test_halves_carry_what_the_whole_carried_in_its_order(items: str, halves: tuple[str, str]) -> None:
    one, two = links(*items).halves()

    assert ("".join(one.items), "".join(two.items)) == halves


@given(st.lists(st.text(), min_size=2))
def test_no_item_is_lost_or_doubled_by_halving(items: list[str]) -> None:
    one, two = links(*items).halves()

    assert [*one.items, *two.items] == items
    assert one.items
    assert two.items


def test_after_doubt_every_item_of_the_call_counts_as_tried() -> None:
    call = links("A-1", " b-2").after_doubt()

    assert call.tried == {"a-1", "b-2"}
    assert call.maybe
    assert all(half.tried == call.tried for half in call.halves())


@pytest.mark.parametrize(
    ("refused_size", "parts", "most"),
    [
        (50, [(25, True), (25, True)], 25),
        (50, [(25, True), (13, True), (12, True)], 25),
        (50, [(25, True), (25, False)], 50),
        (2, [(1, True), (1, True)], 1),
        (50, [], 50),
        (80, [(40, True), (40, True)], 40),
    ],
)
def test_if_every_part_went_through_it_was_the_length(
    refused_size: int, parts: list[tuple[int, bool]], most: int
) -> None:
    limit = ListLimit(50)
    limit.learn(refused_size, tuple(Part(size, taken=taken) for size, taken in parts))

    assert limit.most == most


def test_a_list_once_learnt_to_be_too_long_does_not_grow_again() -> None:
    limit = ListLimit(50)
    limit.learn(20, (Part(10, taken=True), Part(10, taken=True)))
    limit.learn(50, (Part(25, taken=True), Part(25, taken=True)))

    assert limit.most == 10


@pytest.mark.parametrize(("one", "other"), [("A-1", "a-1"), (" a-1", "a-1 "), ("STRASSE-1", "straße-1")])
def test_numbers_are_compared_without_regard_to_case_and_outer_blanks(one: str, other: str) -> None:
    assert fold(one) == fold(other)
