"""A submission holds as a whole or not at all; who may submit what, and how it is cut into chunks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3async.d3.response import Reply
from d3async.errors import FolderHeldError, JournalError
from d3async.journal.model import Selection
from d3async.journal.postgres.connections import escape, unescape
from d3async.journal.postgres.submission import submission
from tests.journal.ground import NOW, broken, changed, links, numbered, task

if TYPE_CHECKING:
    from tests.journal.postgres.ground import Fleet, FleetPlace

OK = Reply("ok")


def cut(place: FleetPlace) -> list[tuple[int, int, int]]:
    """(first lane, last lane, rows) of each chunk."""
    return place.fleet.query(
        "select c.lo, c.hi, c.rows from d3async_chunk c join d3async_run r on r.id = c.run where r.name = %s"
        " order by c.chunk",
        place.name,
    )


def test_a_submission_that_is_abandoned_leaves_nothing(fleet: Fleet, place: FleetPlace) -> None:
    going = submission(fleet.db, place.name, "soc", now=NOW)
    going.add(numbered([task("a"), broken(), links("a-1")]))
    assert (going.new, going.rows, going.jobs, going.invalid) == (True, 3, 2, 1)
    going.abandon()

    assert fleet.query("select count(*) from d3async_run where name = %s", place.name) == [0]
    for table in ("row", "job", "item"):
        assert fleet.query(f"select count(*) from d3async_{table} where run = %s", going.id) == [0]


def test_a_submission_again_that_is_abandoned_leaves_the_run_as_it_was(place: FleetPlace) -> None:
    world = place.start([task("a")])
    going = submission(place.fleet.db, place.name, "soc", now=NOW, take_over=True)
    going.add(numbered([task("b"), task("c")]))
    going.adopt({"rows": "2"})
    going.begin(Selection(), now=NOW, facts={})
    going.abandon()

    (call,) = world.calls()
    assert world.answer(call, OK)[0].outcome == "ok"
    world.end()


def test_a_run_belongs_to_one_tenant(place: FleetPlace) -> None:
    place.start([task("a")]).end()
    with pytest.raises(JournalError) as caught:
        submission(place.fleet.db, place.name, "other", now=NOW)
    assert caught.value.code == "other_tenant"


def test_a_row_for_another_tenant_is_refused(place: FleetPlace) -> None:
    for profile in (None, "soc"):
        place.start([changed(task("a"), profile=profile)]).end()
    with pytest.raises(JournalError) as caught:
        place.start([changed(task("a"), profile="other")])
    assert caught.value.code == "other_tenant"


def test_a_run_that_a_worker_is_at_is_not_submitted_unless_it_is_taken_over(place: FleetPlace) -> None:
    world = place.start([task("a")])
    with pytest.raises(FolderHeldError, match="me has chunk 0"):
        submission(place.fleet.db, place.name, "soc", now=NOW)
    world.end()
    submission(place.fleet.db, place.name, "soc", now=NOW).abandon()


def test_a_run_is_submitted_by_one_at_a_time(place: FleetPlace) -> None:
    going = submission(place.fleet.db, place.name, "soc", now=NOW)
    with psycopg.connect(place.fleet.url) as other, pytest.raises(FolderHeldError):
        submission(other, place.name, "soc", now=NOW)
    going.abandon()


def test_meta_of_an_earlier_submission_is_told_and_kept(place: FleetPlace) -> None:
    place.start([task("a")]).end()
    going = submission(place.fleet.db, place.name, "soc", now=NOW)
    assert (going.new, going.meta()["rows"]) == (False, "1")
    going.abandon()


@pytest.mark.parametrize(
    ("entries", "size", "chunks"),
    [
        ([task(f"{n}") for n in range(10)], 4, [(1, 4, 4), (5, 8, 4), (9, 10, 2)]),
        ([task(f"{n}") for n in range(4)], 4, [(1, 4, 4)]),
        ([task(f"{n}", selected=n != 1) for n in range(5)], 2, [(1, 3, 2), (4, 5, 2)]),
        # a lane is never cut in two
        ([links(f"{n}") for n in range(5)] + [task("x")], 2, [(1, 1, 5), (6, 6, 1)]),
        # rows of one source stand in one chunk wherever they stand in the file
        ([links("1"), task("x"), task("y"), links("2")], 2, [(1, 1, 2), (2, 3, 2)]),
        ([broken(), broken("2")], 2, []),
    ],
)
def test_lanes_are_cut_into_chunks_of_about_as_many_rows(
    place: FleetPlace, entries: list[Any], size: int, chunks: list[tuple[int, int, int]]
) -> None:
    world = place.start(entries, chunk_rows=size)

    assert cut(place) == chunks
    assert world.begun.chunks == range(len(chunks))
    assert world.to_send == sum(rows for *_, rows in chunks)
    assert [lane for lane, _ in world.lanes()] == sorted({lane for lane in world.rows("lane") if lane})
    world.end()


def test_what_is_left_is_cut_anew_when_submitted_again(place: FleetPlace) -> None:
    entries = [task(f"{n}") for n in range(6)]
    world = place.start(entries, chunk_rows=2)
    for call in world.calls()[1:5]:
        world.answer(call, OK)
    world.end()
    again = place.start(entries, chunk_rows=2)

    assert (cut(place), again.to_send) == ([(1, 6, 2)], 2)
    assert [call.row for call in again.calls()] == [1, 6]
    again.end()


def test_the_plan_counts_incidents_people_and_links(fleet: Fleet, place: FleetPlace) -> None:
    going = submission(fleet.db, place.name, "soc", now=NOW)
    going.add(numbered([task("a"), task("b", assignee="x"), links("1;2"), broken()]))
    assert going.facets() == {"subjects": 2, "people": 2, "items": 2}
    going.abandon()


def test_marks_are_put_on_tasks_and_taken_off_again(place: FleetPlace) -> None:
    world = place.start([task("a"), links("1")])
    world.end()
    told_of = []
    for on in (True, True, False):
        going = submission(place.fleet.db, place.name, "soc", now=NOW)
        going.add(numbered([task("a"), links("1")]))
        found = going.adopt({"rows": "2"})
        going.begin(Selection(), now=NOW, facts={})
        going.mark_tasks(on=on)
        going.commit()
        assert found.same == 2
        told_of.append(json.loads(world.rows("params")[0])["Task Description"])
    assert told_of[0] == told_of[1]
    assert told_of[0].startswith("x [d3async ")
    assert told_of[2] == "x"


@given(st.text(st.characters(codec=None)) | st.text("\x00\x1a\ud800ab0041"))
def test_any_text_comes_back_as_it_was(text: str) -> None:
    stored = escape(text)
    assert unescape(stored) == text
    assert "\x00" not in stored
    stored.encode()
