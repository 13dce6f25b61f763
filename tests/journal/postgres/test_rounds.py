"""What is asked for at once is done in as few rounds as keep the order of what concerns the same rows."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from d3async.d3.call import Call
from d3async.journal.model import Event
from d3async.journal.postgres.chunk_owners import (
    ChunkOwner,
    ChunkRequest,
    Claim,
    NoteEvent,
    Release,
    RequestBody,
    Take,
    write_rounds,
)

OWNERS = [ChunkOwner(1, chunk, 1, 1, 0, 9, serial=False) for chunk in range(2)]


def row(job: int) -> Call:
    return Call("CreateTask", {}, None, "SOC", 0, "1-1", job=job)


def source(number: int, *items: str) -> Call:
    return Call("RemoveLinkedIncidents", {}, None, "SOC", number, "1-1", items=items)


def wish(work: RequestBody, owner: int = 0) -> ChunkRequest:
    loop = asyncio.new_event_loop()
    try:
        return ChunkRequest(OWNERS[owner], work, loop.create_future())
    finally:
        loop.close()


def placed(*works: RequestBody) -> list[int]:
    """The round of each."""
    wishes = [wish(work) for work in works]
    found = write_rounds(wishes)
    return [next(at for at, one in enumerate(found) if each in [*one.writes, *one.reads]) for each in wishes]


def test_claims_of_different_rows_are_one_round() -> None:
    assert placed(*(Claim(row(job), 0.0) for job in range(5)), Claim(source(1, "a"), 0.0)) == [0] * 6


def test_what_concerns_one_row_keeps_its_order() -> None:
    assert placed(Release(row(1), sent=True), Claim(row(2), 0.0), Claim(row(1), 1.0)) == [0, 0, 1]


def test_calls_of_one_source_keep_their_order_whatever_they_carry() -> None:
    assert placed(Release(source(1, "a", "b"), sent=True), Claim(source(1, "a"), 0.0), Claim(source(2, "a"), 0.0)) == [
        0,
        1,
        0,
    ]


def test_a_search_sees_what_was_asked_for_before_it_and_notes_wait_for_nothing() -> None:
    works = (Release(row(1), sent=True), Claim(row(1), 0.0), Take(1, 50), NoteEvent(Event(0.0, "pause")))
    assert placed(*works) == [0, 1, 1, 0]


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 1))))
def test_no_round_writes_a_row_twice_and_no_order_is_turned(asked: list[tuple[int, bool, int]]) -> None:
    wishes = [
        wish(Claim(row(job), 0.0) if claim else Take(job, 1), owner if not claim else 0) for job, claim, owner in asked
    ]
    found = write_rounds(wishes)
    assert sorted(map(id, (each for one in found for each in (*one.writes, *one.reads)))) == sorted(map(id, wishes))
    for one in found:
        jobs = [each.work.call.job for each in one.writes if isinstance(each.work, Claim)]
        assert len(jobs) == len(set(jobs))
    order = {id(each): at for at, one in enumerate(found) for each in (*one.writes, *one.reads)}
    for at, later in enumerate(wishes):
        for earlier in wishes[:at]:
            if isinstance(earlier.work, Claim) and isinstance(later.work, Take) and later.owner == earlier.owner:
                assert order[id(earlier)] <= order[id(later)]
