"""A call that D3 refuses as a whole is split to find the bad item, and a list that was too long is learnt."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3async.d3.call import Call, normalize_number
from d3async.d3.response import AmbiguousAnswer, Refused, Reply, Throttled
from d3async.policy.batching import ListLimit, SentPart, worth_splitting


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
        (("a-1", "b-2"), AmbiguousAnswer("http_500", "", 500), False),
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
    ("refused", "parts", "most"),
    [
        (50, [(25, True), (25, True)], 37),
        (50, [(25, True), (13, True), (12, True)], 37),
        (50, [(25, True), (25, False)], 50),
        (2, [(1, True), (1, True)], 1),
        (50, [], 50),
        (80, [(40, True), (40, True)], 50),
    ],
)
def test_if_every_part_went_through_it_was_the_length(refused: int, parts: list[tuple[int, bool]], most: int) -> None:
    """The next call closes in on the limit: halfway between what was taken and what was refused."""
    limit = ListLimit(50)
    answered(limit, refused, parts)

    assert limit.size() == most


def test_one_call_at_a_time_closes_in_and_the_others_keep_to_what_was_taken() -> None:
    limit = ListLimit(50)
    answered(limit, 50, [(25, True), (25, True)])

    assert [limit.size() for _ in range(4)] == [37, 25, 25, 25]
    limit.taken(37)
    limit.done(37)
    assert [limit.size() for _ in range(3)] == [43, 37, 37]


def test_a_refusal_of_a_list_no_longer_than_one_that_was_taken_is_not_for_its_length() -> None:
    limit = ListLimit(50)
    limit.taken(40)
    answered(limit, 2, [(1, True), (1, True)])
    assert limit.size() == 50

    other = ListLimit(50)
    answered(other, 2, [(1, True), (1, True)])
    other.taken(40)
    assert other.size() == 50


@given(st.integers(1, 300), st.integers(1, 300))
def test_a_limit_is_found_to_the_item_in_few_calls(limit: int, asked: int) -> None:
    """Alone on the wire: after 2 log2 n calls the next ones carry as many as the server takes, and none is refused."""
    found = ListLimit(asked)
    for _ in range(10):
        size = found.size()
        carry(found, size, limit)
        found.done(size)

    assert found.size() == min(limit, asked)


def answered(limit: ListLimit, refused: int, parts: list[tuple[int, bool]]) -> None:
    """What the engine tells of a list that was refused and went on in *parts*."""
    for size, taken in parts:
        if taken:
            limit.taken(size)
    if parts:
        limit.split(refused, tuple(SentPart(size, taken=taken) for size, taken in parts))


def carry(found: ListLimit, size: int, limit: int) -> tuple[SentPart, ...]:
    """A server that takes lists up to *limit*."""
    if size <= limit:
        found.taken(size)
        return (SentPart(size, taken=True),)
    parts = (*carry(found, (size + 1) // 2, limit), *carry(found, size // 2, limit))
    found.split(size, parts)
    return parts


@pytest.mark.parametrize(("one", "other"), [("A-1", "a-1"), (" a-1", "a-1 "), ("STRASSE-1", "straße-1")])
def test_numbers_are_compared_without_regard_to_case_and_outer_blanks(one: str, other: str) -> None:
    assert normalize_number(one) == normalize_number(other)
