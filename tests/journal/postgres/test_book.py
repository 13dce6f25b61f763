"""What is unknown of a fleet run is settled by what D3 shows, and by nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from d3async.errors import FolderHeldError, JournalError
from d3async.journal.postgres.reconcile import PostgresBook
from d3async.journal.reconcile import News
from d3async.readback import LinkCounts, settle_links, settle_tasks
from d3async.sansio.links import GET_LINKED
from d3async.sansio.protocol import Doubtful, Reply
from tests.journal.ground import links, task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.journal.postgres.ground import FleetPlace, FleetWorld

OK = Reply("ok")
DOUBT = Doubtful("http_500", "?", 500)


def book(place: FleetPlace) -> PostgresBook:
    return PostgresBook(place.fleet.url, place.name)


def doubted(place: FleetPlace) -> FleetWorld:
    """Tasks of one incident: ok, unknown, unknown; links of two sources, unknown; one row not sent."""
    world = place.start(
        [task("a"), task("b"), task("b", assignee="x"), links("1;2"), links("2;3"), links("4", source="7-7"), task("z")]
    )
    for call, answer in zip(world.calls(), [OK, DOUBT, DOUBT, DOUBT, DOUBT], strict=False):
        world.answer(call, answer)
    world.end()
    return world


def test_what_is_unknown_is_counted_and_told(place: FleetPlace) -> None:
    doubted(place)
    with book(place) as found:
        assert found.counts() == (2, 3, 0)
        (incident,) = found.task_incidents()
        assert (incident.key, incident.number, incident.site, incident.username) == ("20220125-1",) * 2 + ("SOC", None)
        assert [sent.name for sent in found.unknown_tasks(incident)] == ["b", "b"]
        assert [sent.name for sent in found.created_tasks(incident)] == ["a"]
        pairs = found.unknown_pairs()
        told = {
            source.number: [(pair.line, pair.name) for chunk in pairs.of(source) for pair in chunk]
            for batch in pairs.batches(10)
            for source in batch
        }
        assert told == {"20231025-130": [(5, "1"), (5, "2"), (6, "2"), (6, "3")], "7-7": [(7, "4")]}
        pairs.close()


def test_tasks_are_settled_by_news_and_why_the_others_are_not_is_told_once(place: FleetPlace) -> None:
    world = doubted(place)
    with book(place) as found:
        for why in ("first", "then"):
            found.settle_tasks([News(2, None, "ok", "found", "there"), News(3, None, "", "", why)])
        found.settle_tasks([News(1, None, "failed", "not_found", "never"), News(7, None, "ok", "found", "never")])
    assert world.rows("state", "code")[:3] == [("ok", ""), ("ok", "found"), ("unknown", "http_500")]
    assert world.rows("message")[2] == "?; looked up in D3: then"
    assert world.states()[6] == "pending"


class Linked:
    """A D3 in which *left* are the links of every source."""

    def __init__(self, *left: str) -> None:
        self.left = left

    async def call(
        self, name: str, params: Mapping[str, Any], *, username: str | None = None, site: str | None = None
    ) -> Any:
        return {"returnData": "Successful", "rawData": {"LinkedIncidents": list(self.left)}, "error": ""}


def test_links_are_settled_in_every_row_that_names_them_and_rows_follow(place: FleetPlace) -> None:
    world = doubted(place)
    with book(place) as found:
        for pairs in found.unknown_pairs().batches(10):
            for source in pairs:
                for chunk in found.unknown_pairs().of(source):
                    news = [
                        News(pair.job, pair.item, *(("failed", "still_linked", "there") if pair.name == "3" else
                                                    ("ok", "removed", "gone")))
                        for pair in chunk
                    ]  # fmt: skip
                    found.settle_items(news)
        assert found.counts() == (2, 0, 0)
    assert world.states()[3:6] == ["ok", "partial", "ok"]
    assert world.rows("code", "message")[3] == ("removed", "Read back from D3: no longer linked.")
    with place.reader() as reader:
        reader.check()


def test_what_reading_back_cannot_tell_stays_unknown(place: FleetPlace) -> None:
    doubted(place)
    with book(place) as found:
        counts = place.fleet.run(settle_links(Linked("x"), found, found.unknown_pairs(), [GET_LINKED]))
        assert isinstance(counts, LinkCounts)
        tasks = place.fleet.run(settle_tasks(Linked(), found))
        assert tasks.found == 0
        assert found.counts()[0] == 2


def test_a_run_that_is_being_sent_is_not_reconciled(place: FleetPlace) -> None:
    world = place.start([task("a")])
    with pytest.raises(FolderHeldError):
        book(place)
    world.end()
    with pytest.raises(JournalError) as caught:
        PostgresBook(place.fleet.url, "nobody")
    assert caught.value.code == "no_run"


def test_what_was_left_in_the_air_is_unknown_once_it_is_reconciled(place: FleetPlace) -> None:
    world = place.start([task("a")])
    world.claim(world.calls()[0])
    place.fleet.db.execute("update d3async_chunk set who = null where run = %s", (world.id,))
    with book(place) as found:
        assert found.counts() == (1, 0, 0)
        found.note(exit_code=4, told={"reconciled": {"at": 1.0}})
    assert world.states() == ["unknown"]
    with place.reader() as reader:
        assert reader.runs()[0].facts == {"reconciled": {"at": 1.0}, "exit_code": 4}
