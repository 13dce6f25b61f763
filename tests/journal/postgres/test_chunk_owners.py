"""Rows of a new run stand in no `d3async_job` until their chunk is opened: none is lost by it, and none doubled."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from d3async.d3.response import Reply
from d3async.errors import ConservationError, FencedError
from d3async.files.run_files import write_results
from d3async.journal.model import Selection
from d3async.journal.postgres import chunk_owners, runs
from d3async.journal.postgres.chunk_owners import create_job_rows_of_run
from d3async.journal.postgres.group_commit import Writer, open_chunk
from d3async.journal.postgres.submission import submission
from tests.journal.ground import NOW, broken, changed, links, numbered, task
from tests.journal.postgres.ground import FleetPlace
from tests.journal.postgres.test_runs import asked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.journal.ground import Entry
    from tests.journal.postgres.ground import Fleet, FleetWorld

OK = Reply("ok")
FIVE = [task(f"{n}") for n in range(5)]


def untouched(world: FleetWorld) -> list[int]:
    """Chunks nobody has opened."""
    return world.fleet.query("select chunk from d3async_chunk where run = %s and untouched order by chunk", world.id)


def overview(world: FleetWorld) -> runs.Overview:
    found: list[runs.Overview] = asked(world.fleet, lambda db: runs.overview(db, [world.place.name]))
    return found[0]


def conserved(world: FleetWorld) -> None:
    """Every row has one place and one outcome, whoever counts."""
    (doubled,) = world.fleet.query(
        "select count(*) from d3async_job j join d3async_chunk c on c.run = j.run and j.id between c.lo and c.hi"
        " where j.run = %s and c.untouched",
        world.id,
    )
    (waiting,) = world.fleet.query(
        "select coalesce(sum(rows), 0) from d3async_chunk where run = %s and untouched", world.id
    )
    assert doubled == 0
    assert world.count("job") + waiting == world.count("row")
    with world.place.reader() as reader:
        reader.check()
        told = [row.outcome for row in reader.rows()]
        counts, to_send = reader.counts(), reader.to_send()
    at = overview(world)
    assert counts == at.outcomes == {outcome: told.count(outcome) for outcome in counts}
    assert to_send == at.to_send


@pytest.mark.parametrize(
    ("entries", "options", "plain"),
    [
        (FIVE, {}, True),
        ([*FIVE, broken()], {}, False),
        ([*FIVE, links("1")], {}, False),
        ([*FIVE, task("x", selected=False)], {}, False),
        (FIVE, {"serial": True}, False),
        ([], {}, False),
    ],
    ids=["plain", "an invalid row", "items", "a row left out", "serial", "no rows"],
)
def test_only_chunks_of_a_new_run_all_of_whose_rows_are_sent_in_lanes_of_their_own_are_untouched(
    place: FleetPlace, entries: Sequence[Entry], options: dict[str, bool], *, plain: bool
) -> None:
    world = place.submit(entries, chunk_rows=2, **options)
    assert untouched(world) == (list(world.begun.chunks) if plain else [])
    assert world.count("job") == (0 if plain else len(entries))
    conserved(world)


def test_rows_of_an_untouched_run_are_unsent_and_to_be_sent_wherever_they_are_told(place: FleetPlace) -> None:
    world = place.submit(FIVE, chunk_rows=2)
    with place.reader() as reader:
        rows = list(reader.rows(full=True))
        assert [(row.row, row.outcome, row.code, row.message, row.attempts) for row in rows] == [
            (row, "unsent", "", "", 0) for row in range(1, 6)
        ]
        assert [row.row for row in reader.rows(["unsent", "ok"])] == [1, 2, 3, 4, 5]
        assert list(reader.rows(["ok", "unknown"])) == []
        assert reader.counts()["unsent"] == 5
        assert (reader.to_send(), reader.in_flight(), reader.vanished(), reader.done_since(0)) == (5, 0, 0, 0)
    at = overview(world)
    assert (at.outcomes["unsent"], at.to_send, at.in_flight, at.open_chunks) == (5, 5, 0, 0)
    assert [(at.chunk, at.left) for at in asked(place.fleet, lambda db: runs.chunks_left(db, world.id))] == [
        (0, 2),
        (1, 2),
        (2, 1),
    ]
    conserved(world)


def test_results_do_not_tell_whether_a_chunk_was_opened(place: FleetPlace) -> None:
    world = place.submit(FIVE, chunk_rows=2)
    found = []
    for _ in range(2):
        with place.reader() as reader:
            file = io.BytesIO()
            write_results(file, reader, "jsonl")
        found.append(file.getvalue())
        create_job_rows_of_run(place.fleet.db, world.id)
    assert found[0] == found[1]
    assert found[0].count(b"\n") == 5


def test_a_run_that_was_stopped_says_of_untouched_rows_too_why_they_were_not_sent(place: FleetPlace) -> None:
    world = place.submit(FIVE, chunk_rows=3)
    stop = {"stop": {"code": "halt", "message": "enough"}}
    place.fleet.db.execute("update d3async_round set facts = %s where run = %s", (json.dumps(stop), world.id))
    world.open(0)
    with place.reader() as reader:
        assert {(row.outcome, row.code, row.message) for row in reader.rows()} == {
            ("unsent", "halt", "The run stopped before it: enough")
        }


def test_who_opens_a_chunk_lays_its_rows_alone_and_once(place: FleetPlace) -> None:
    world = place.submit(FIVE, chunk_rows=2)
    for _ in range(2):
        journal = world.open(1)
        assert journal.rows == 2
        assert untouched(world) == [0, 2]
        assert world.rows("row", "lane", "todo", "state") == [(3, 3, True, "pending"), (4, 4, True, "pending")]
        conserved(world)
    world.journals = [journal]
    assert [call.row for call in world.calls()] == [3, 4]
    world.answer(world.calls()[0], OK)
    conserved(world)
    world.end()
    assert world.open(1).rows == 1
    assert overview(world).outcomes == {"ok": 1, "partial": 0, "failed": 0, "unknown": 0, "invalid": 0, "unsent": 4}


def test_of_many_that_open_a_chunk_at_once_one_lays_it(place: FleetPlace) -> None:
    world = place.submit(FIVE)

    async def opened() -> list[Any]:
        async with Writer(place.fleet.url) as one, Writer(place.fleet.url) as two:
            ways = [
                open_chunk(writer, world.id, 0, round=1, who="me", now=NOW) for writer in (one, two) for _ in range(3)
            ]
            return await asyncio.gather(*ways)

    found = place.fleet.run(opened())
    assert [journal.rows for journal in found] == [5] * 6
    assert world.count("job") == 5
    conserved(world)


def test_a_worker_that_is_killed_while_it_opens_a_chunk_leaves_it_untouched(place: FleetPlace) -> None:
    world = place.submit(FIVE, chunk_rows=3)

    async def killed() -> None:
        async with await psycopg.AsyncConnection.connect(place.fleet.url) as db:
            await chunk_owners.open_as(db, world.id, 0, 1, who="lost", now=NOW)
            place.fleet.query("select pg_terminate_backend(%s)", db.info.backend_pid)
            with suppress(psycopg.Error):
                await db.commit()

    place.fleet.run(killed())
    assert untouched(world) == [0, 1]
    conserved(world)
    assert world.open(0).rows == 3
    conserved(world)


def test_a_run_that_is_cancelled_before_anybody_opened_it_tells_how_many_stay_unsent(place: FleetPlace) -> None:
    world = place.submit(FIVE, chunk_rows=2)
    world.open(0)
    assert asked(place.fleet, lambda db: runs.cancel(db, world.id, now=NOW)) == 5
    for chunk in (0, 1):
        with pytest.raises(FencedError) as caught:
            world.open(chunk)
        assert caught.value.code == "cancelled"
    assert untouched(world) == [1, 2]
    assert asked(place.fleet, lambda db: runs.chunks_left(db, world.id)) == []
    conserved(world)

    again = place.start(FIVE, chunk_rows=2)
    assert (again.changes.same, again.to_send, untouched(again)) == (5, 5, [])
    assert [call.row for call in again.calls()] == [1, 2, 3, 4, 5]
    conserved(again)


def test_a_run_is_not_finished_while_rows_are_untouched_unless_it_was_cancelled(place: FleetPlace) -> None:
    world = place.submit(FIVE, chunk_rows=2)

    def finish() -> bool:
        found: bool = asked(place.fleet, lambda db: runs.finish(db, world.id, 1, now=NOW, exit_code=5, facts={}))
        return found

    assert not finish()
    asked(place.fleet, lambda db: runs.cancel(db, world.id, now=NOW))
    assert finish()


def test_untouched_rows_that_are_gone_are_missed(place: FleetPlace) -> None:
    world = place.submit(FIVE, chunk_rows=2)
    place.fleet.db.execute("delete from d3async_chunk where run = %s and chunk = 1", (world.id,))
    with place.reader() as reader, pytest.raises(ConservationError):
        reader.check()
    asked(place.fleet, lambda db: runs.cancel(db, world.id, now=NOW))
    with pytest.raises(ConservationError):
        asked(place.fleet, lambda db: runs.finish(db, world.id, 1, now=NOW, exit_code=5, facts={}))


@pytest.mark.parametrize("opened", [[], [1], [0, 1, 2]], ids=["nobody", "a worker at one chunk", "workers at all"])
def test_an_untouched_run_is_submitted_again_as_any_other(place: FleetPlace, opened: list[int]) -> None:
    world = place.submit([task("a"), task("b"), task("c"), task("d"), changed(task("e"), key="5")], chunk_rows=2)
    for chunk in opened:
        world.open(chunk)
    # a is gone, new one comes, d stands elsewhere, e is another one by now
    again = place.submit([task("d"), task("b"), task("c"), changed(task("f"), key="5"), task("new")])

    assert (again.changes.same, again.changes.new, again.changes.changed, again.changes.vanished) == (3, 1, 1, 1)
    assert (again.to_send, untouched(again)) == (5, [])
    with place.reader() as reader:
        assert [row.raw for row in reader.rows()] == ["d", "b", "c", "f", "new"]
        assert reader.vanished() == 1
    conserved(again)
    again.journals = [again.open(0)]
    assert [call.params["Task Name"] for call in again.calls()] == ["d", "b", "c", "f", "new"]


def test_a_submission_again_that_is_abandoned_leaves_chunks_untouched(place: FleetPlace) -> None:
    world = place.submit(FIVE, chunk_rows=2)
    going = submission(place.fleet.db, place.name, "soc", now=NOW)
    going.add(numbered(FIVE[1:]))
    going.adopt({"rows": "4"})
    going.begin(Selection(), now=NOW, facts={})
    going.abandon()
    assert untouched(world) == [0, 1, 2]
    conserved(world)


def test_tasks_of_an_untouched_run_are_marked_before_anybody_sends_them(place: FleetPlace) -> None:
    going = submission(place.fleet.db, place.name, "soc", now=NOW)
    going.add(numbered(FIVE))
    going.adopt({"rows": "5"})
    going.begin(Selection(), now=NOW, facts={}, chunk_rows=2)
    texts = []
    for on in (True, False):
        going.mark_tasks(on=on)
        found = place.fleet.query("select params from d3async_row where run = %s order by id", going.id)
        texts.append([json.loads(params)["Task Description"] for params in found])
    going.commit()

    assert all(text.startswith("x [d3async ") for text in texts[0])
    assert len(set(texts[0])) == 5
    assert texts[1] == ["x"] * 5
    assert place.fleet.query("select count(*) from d3async_job where run = %s", going.id) == [0]


def test_an_untouched_run_that_is_dropped_leaves_nothing(place: FleetPlace) -> None:
    world = place.submit(FIVE, chunk_rows=2)
    assert asked(place.fleet, lambda db: runs.drop(db, world.id)) == 5
    for table in ("row", "chunk", "round"):
        assert world.count(table) == 0
    with pytest.raises(FencedError) as caught:
        world.open(0)
    assert caught.value.code == "superseded"


def did(world: FleetWorld, what: str, at: int) -> FleetWorld:
    """The world after *what* happened to it."""
    fleet, place, chunks = world.fleet, world.place, world.begun.chunks
    match what:
        case "open" if chunks:
            with suppress(FencedError):
                world.journals = [world.open(chunks[at % len(chunks)])]
        case "answer" | "claim" if world.journals:
            with suppress(FencedError):
                for call in world.calls()[:at]:
                    world.answer(call, OK) if what == "answer" else world.claim(call)
        case "close" if world.journals:
            world.end()
            world.journals = []
        case "cancel":
            asked(fleet, lambda db: runs.cancel(db, world.id, now=NOW))
        case "submit":
            return place.submit([task(f"{n}") for n in range(at, at + 5)], chunk_rows=2)
    return world


STEPS = st.tuples(st.sampled_from(["open", "open", "answer", "claim", "close", "cancel", "submit"]), st.integers(0, 4))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, min_size=1, max_size=8))
def test_no_row_is_lost_or_doubled_whatever_happens_in_whichever_order(
    fleet: Fleet, steps: list[tuple[str, int]]
) -> None:
    world = FleetPlace(fleet).submit(FIVE, chunk_rows=2)
    for what, at in steps:
        world = did(world, what, at)
        conserved(world)
