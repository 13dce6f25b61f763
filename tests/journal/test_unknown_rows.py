"""What is unknown of a run is settled by what D3 shows, and by nothing else, in both databases alike."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from d3async.d3.linked_incidents import GET_LINKED
from d3async.d3.response import AmbiguousAnswer, Reply
from d3async.engine.read_back import reconcile_links, reconcile_tasks
from d3async.errors import FolderHeldError, JournalError
from d3async.journal.postgres.submission import RunSession
from d3async.journal.reconcile import LookupResult, UnknownRows
from tests.journal import test_conformance
from tests.journal.ground import links, task
from tests.journal.postgres import ground
from tests.journal.test_conformance import FolderPlace
from tests.journal.test_settle_by_hand import session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.journal.postgres.ground import FleetPlace
    from tests.journal.test_conformance import Place, World

fleet, place = test_conformance.fleet, test_conformance.place
OK = Reply("ok")
DOUBT = AmbiguousAnswer("http_500", "?", 500)


def doubted(place: Place) -> World:
    """Tasks of one incident: ok, unknown, unknown; links of two sources, unknown; one row not sent."""
    world = place.start(
        [task("a"), task("b"), task("b", assignee="x"), links("1;2"), links("2;3"), links("4", source="7-7"), task("z")]
    )
    for call, answer in zip(world.calls(), [OK, DOUBT, DOUBT, DOUBT, DOUBT], strict=False):
        world.answer(call, answer)
    world.end()
    return world


def rows(place: Place) -> list[tuple[str, str, str]]:
    with place.reader() as reader:
        reader.check()
        return [(row.outcome, row.code, row.message) for row in reader.rows()]


def test_what_is_unknown_is_counted_and_read(place: Place) -> None:
    doubted(place)
    with session(place) as at:
        found = UnknownRows(at)
        assert found.counts() == (2, 3, 0)
        (incident,) = found.task_incidents()
        assert (incident.key, incident.number, incident.site, incident.username) == ("20220125-1",) * 2 + ("SOC", None)
        assert [sent.name for sent in found.unknown_tasks(incident)] == ["b", "b"]
        assert [sent.name for sent in found.created_tasks(incident)] == ["a"]
        pairs = found.links()
        read = {
            source.number: [(pair.line, pair.name) for chunk in pairs.of(source) for pair in chunk]
            for batch in pairs.batches(10)
            for source in batch
        }
        assert read == {"20231025-130": [(5, "1"), (5, "2"), (6, "2"), (6, "3")], "7-7": [(7, "4")]}
        pairs.close()


def test_tasks_are_settled_by_news_and_why_the_others_are_not_is_said_once(place: Place) -> None:
    doubted(place)
    with session(place) as at:
        found = UnknownRows(at)
        for why in ("first", "then \0"):
            found.settle_tasks([LookupResult(2, None, "ok", "found", "there \0"), LookupResult(3, None, "", "", why)])
        found.settle_tasks(
            [LookupResult(1, None, "failed", "not_found", "never"), LookupResult(7, None, "ok", "found", "never")]
        )
    assert rows(place)[:3] == [
        ("ok", "", ""),
        ("ok", "found", "there \0"),
        ("unknown", "http_500", "?; looked up in D3: then \0"),
    ]
    assert rows(place)[6][0] == "unsent"


class Linked:
    """A D3 in which *left* are the links of every source."""

    def __init__(self, *left: str) -> None:
        self.left = left

    async def call(
        self, name: str, params: Mapping[str, Any], *, username: str | None = None, site: str | None = None
    ) -> Any:
        return {"returnData": "Successful", "rawData": {"LinkedIncidents": list(self.left)}, "error": ""}


def test_links_are_settled_in_every_row_that_names_them_and_rows_follow(place: Place) -> None:
    doubted(place)
    with session(place) as at:
        found = UnknownRows(at)
        pairs = found.links()
        for source in (source for batch in pairs.batches(10) for source in batch):
            for chunk in pairs.of(source):
                there, gone = ("failed", "still_linked", "there"), ("ok", "removed", "gone")
                found.settle_items(
                    [LookupResult(pair.job, pair.item, *(there if pair.name == "3" else gone)) for pair in chunk]
                )
        assert found.counts() == (2, 0, 0)
    assert [row[:2] for row in rows(place)[3:6]] == [("ok", "removed"), ("partial", "still_linked"), ("ok", "removed")]
    assert rows(place)[3][2] == "Read back from D3: no longer linked."


def test_links_that_were_ok_and_are_there_fail(place: Place) -> None:
    world = place.start([links("1;2")])
    world.answer(world.calls()[0], OK)
    world.end()
    with session(place) as at:
        [(item,)] = at.all("select id from {item} where {here} and name = '2'")
        UnknownRows(at).settle_items([LookupResult(1, item, "failed", "still_linked", "there")], was="ok")
    assert rows(place) == [("partial", "still_linked", "2: there")]


def test_what_reading_back_cannot_tell_stays_unknown(place: Place) -> None:
    doubted(place)

    async def look(found: UnknownRows) -> int:
        await reconcile_links(Linked("x"), found, [GET_LINKED])
        return (await reconcile_tasks(Linked(), found)).found

    with session(place) as at:
        found = UnknownRows(at)
        assert asyncio.run(look(found)) == 0
        assert found.counts()[0] == 2


def test_a_run_that_is_being_sent_is_not_reconciled(place: Place) -> None:
    world = place.start([task("a")])
    with pytest.raises(FolderHeldError), session(place):
        pass
    world.end()


def test_a_run_that_is_not_there_cannot_be_reconciled(place: Place) -> None:
    if isinstance(place, FolderPlace):
        place = FolderPlace(place.path / "none")
    with pytest.raises(JournalError) as caught, session(place):
        pass
    assert caught.value.code in {"no_run", "no_run_folder"}


def test_a_worker_that_comes_meanwhile_is_left_alone(fleet: Any) -> None:
    place: FleetPlace = ground.FleetPlace(fleet)
    world = doubted(place)
    with session(place) as at:
        fleet.db.execute("update d3async_chunk set who = 'me' where run = %s", (world.id,))
        with pytest.raises(FolderHeldError, match="me has chunk 0"):
            UnknownRows(at).settle_tasks([LookupResult(2, None, "ok", "found", "")])


def test_what_was_left_in_flight_is_unknown_once_it_is_reconciled(place: Place) -> None:
    world = place.start([task("a")])
    world.claim(world.calls()[0])
    world.die()
    if not isinstance(place, FolderPlace):
        place.fleet.db.execute("update d3async_chunk set who = null where run = %s", (world.id,))
    with session(place) as at:
        assert UnknownRows(at).counts() == (1, 0, 0)
        if isinstance(at, RunSession):
            at.set_exit_code(4, {"reconciled": {"at": 1.0}})
    assert rows(place)[0][1] == "interrupted"
    if not isinstance(place, FolderPlace):
        with place.reader() as reader:
            assert reader.runs()[0].facts == {"reconciled": {"at": 1.0}, "exit_code": 4}
