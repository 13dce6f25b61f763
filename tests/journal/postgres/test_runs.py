"""The runs of a fleet as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from d3async.d3.response import AmbiguousAnswer, Reply
from d3async.errors import ConservationError, FencedError, JournalError
from d3async.journal import protocols
from d3async.journal.model import Event
from d3async.journal.postgres import runs
from d3async.journal.postgres.reader import FleetRunReader
from tests.journal.ground import NOW, broken, links, task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from psycopg import AsyncConnection

    from tests.journal.postgres.ground import Fleet, FleetPlace

OK = Reply("ok")
DOUBT = AmbiguousAnswer("http_500", "?", 500)


def asked(fleet: Fleet, ask: Callable[[AsyncConnection[Any]], Awaitable[Any]]) -> Any:
    async def asking() -> Any:
        async with await psycopg.AsyncConnection.connect(fleet.url, autocommit=True) as connection:
            return await ask(connection)

    return fleet.run(asking())


def test_a_run_is_told_with_its_outcomes_what_is_in_flight_and_what_is_left(fleet: Fleet, place: FleetPlace) -> None:
    world = place.start([task("a"), task("b"), task("c"), broken()])
    one, two, _ = world.calls()
    world.answer(one, OK)
    world.claim(two)
    (at,) = asked(fleet, lambda db: runs.overview(db, [place.name]))

    assert (at.name, at.tenant, at.round, at.in_flight, at.to_send, at.open_chunks) == (place.name, "soc", 1, 1, 1, 1)
    assert at.outcomes == {"ok": 1, "partial": 0, "failed": 0, "unknown": 1, "invalid": 1, "unsent": 1}
    assert (at.started_at, at.finished_at, at.cancelled_at) == (NOW, None, None)
    assert place.name in [one.name for one in asked(fleet, runs.overview)]
    world.end()


def test_chunks_with_rows_left_are_told_with_who_has_them(fleet: Fleet, place: FleetPlace) -> None:
    world = place.start([task(f"{n}") for n in range(4)], chunk_rows=2)
    for call in world.calls()[:2]:
        world.answer(call, OK)
    found = asked(fleet, lambda db: runs.chunks_left(db, world.id))
    assert [(at.chunk, at.left, at.who, at.since, at.tenant) for at in found] == [(1, 2, "me", NOW, "soc")]
    world.end()
    found = asked(fleet, lambda db: runs.chunks_left(db, world.id))
    assert [(at.chunk, at.left, at.who) for at in found] == [(1, 2, None)]


def test_a_round_is_finished_once_and_not_before_its_last_row(fleet: Fleet, place: FleetPlace) -> None:
    world = place.start([task("a"), task("b")])
    one, two = world.calls()

    def finish(now: float) -> bool:
        done: bool = asked(fleet, lambda db: runs.finish(db, world.id, 1, now=now, exit_code=0, facts={"requests": 2}))
        return done

    ends = []
    for call in (one, two):
        ends.append(finish(NOW))
        world.answer(call, OK)
    world.end()
    ends += [finish(NOW + 5), finish(NOW + 9)]
    assert ends == [False, False, True, False]
    with place.reader() as reader:
        (run,) = reader.runs()
    assert (run.started_at, run.finished_at, run.exit_code, run.facts) == (NOW, NOW + 5, 0, {"requests": 2})


def test_a_round_whose_rows_do_not_add_up_is_not_finished(fleet: Fleet, place: FleetPlace) -> None:
    world = place.start([broken(), broken("2")])
    fleet.db.execute("delete from d3async_job where run = %s and id = 2", (world.id,))
    with pytest.raises(ConservationError):
        asked(fleet, lambda db: runs.finish(db, world.id, 1, now=NOW, exit_code=0, facts={}))
    with place.reader() as reader, pytest.raises(ConservationError):
        reader.check()


def test_a_run_is_found_by_its_name_and_by_its_id(fleet: Fleet, place: FleetPlace) -> None:
    world = place.start([task("a")], serial=True)
    world.end()
    one, two = (asked(fleet, lambda db, key=key: runs.find(db, key)) for key in (place.name, world.id))
    assert one == two
    assert (one.tenant, one.round, one.serial, one.cancelled, one.meta["rows"]) == ("soc", 1, True, False, "1")
    with pytest.raises(JournalError) as caught:
        asked(fleet, lambda db: runs.find(db, "nobody"))
    assert caught.value.code == "no_run"


def test_a_cancelled_run_is_taken_up_again_by_submitting_it(fleet: Fleet, place: FleetPlace) -> None:
    world = place.start([task("a"), task("b")])
    world.answer(world.calls()[0], OK)
    assert asked(fleet, lambda db: runs.cancel(db, world.id, now=NOW)) == 1
    with pytest.raises(FencedError):
        world.calls()
    world.end()
    again = place.start([task("a"), task("b")])
    assert again.to_send == 1
    again.answer(again.calls()[0], OK)
    again.end()
    (at,) = asked(fleet, lambda db: runs.overview(db, [place.name]))
    assert (at.outcomes["ok"], at.cancelled_at, at.round) == (2, None, 2)


def test_a_chunk_of_an_earlier_round_is_not_opened(fleet: Fleet, place: FleetPlace) -> None:
    old = place.start([task("a")])
    old.end()
    place.start([task("a")]).end()
    with pytest.raises(FencedError) as caught:
        old.open(0)
    assert caught.value.code == "superseded"


def test_a_run_that_is_dropped_leaves_nothing_and_its_worker_is_fenced(fleet: Fleet, place: FleetPlace) -> None:
    world = place.start([task("a"), links("1;2")])
    one, link = world.calls()
    world.answer(link, OK)
    assert asked(fleet, lambda db: runs.drop(db, world.id)) == 2
    with pytest.raises(FencedError):
        world.claim(one)
    for table in ("run", "round", "chunk", "row", "job", "item", "source", "answer", "event"):
        key = "id" if table == "run" else "run"
        assert fleet.query(f"select count(*) from d3async_{table} where {key} = %s", world.id) == [0]
    with pytest.raises(FencedError) as caught:
        world.open(0)
    assert caught.value.code == "superseded"


def test_what_is_read_belongs_together_while_workers_go_on(place: FleetPlace) -> None:
    world = place.start([task("a"), task("b")])
    one, two = world.calls()
    world.answer(one, OK)
    with place.reader() as reader:
        before = reader.counts()
        world.answer(two, DOUBT)
        assert [row.outcome for row in reader.rows()] == ["ok", "unsent"]
        assert reader.counts() == before
        assert (reader.in_flight(), reader.to_send(), reader.done_since(NOW), reader.vanished()) == (0, 1, 1, 0)
        owner = reader.owner()
    world.end()
    assert owner is not None
    assert (owner.pid, owner.host, owner.since) == (0, "me", NOW)
    with place.reader() as reader:
        assert reader.owner() is None
        assert [row.outcome for row in reader.rows(["unknown"])] == ["unknown"]


def test_a_row_in_flight_is_told_as_unknown(place: FleetPlace) -> None:
    world = place.start([task("a")])
    world.claim(world.calls()[0])
    with place.reader() as reader:
        (row,) = reader.rows()
        assert (row.outcome, row.code, reader.in_flight()) == ("unknown", "interrupted", 1)
        reader.check()
    world.end()


def test_figures_are_added_up_by_round(place: FleetPlace) -> None:
    world = place.start([task("a"), task("b"), task("c")])
    one, two, _ = world.calls()
    world.answer(one, OK)
    world.answer(two, DOUBT)
    for event in (Event(NOW + 3, "throttled", 2.0, "429"), Event(NOW + 9, "pause", 4.0), Event(NOW + 20, "rate", 40.0)):
        world.note(event)
    world.end()
    with place.reader() as reader:
        assert protocols.spans(reader) == {1: (NOW, NOW + 1)}
        assert protocols.answered(reader, 1, NOW, 0.5) == [(2, 1, 1)]
        assert protocols.throttled(reader, 1, NOW, 2.0) == {1: 1}
        assert protocols.pauses(reader, 1, 10) == [(NOW + 5, 4.0)]
        assert protocols.latency_counts(reader, [0.5, 1.0]) == [0, 2, 0]


def test_a_run_that_is_not_there_and_a_server_that_is_not_there_are_told(fleet: Fleet) -> None:
    with pytest.raises(JournalError) as caught:
        FleetRunReader(fleet.url, "nobody")
    assert caught.value.code == "no_run"
    with pytest.raises(JournalError):
        FleetRunReader("postgresql://postgres@127.0.0.1:1/none", "nobody")
