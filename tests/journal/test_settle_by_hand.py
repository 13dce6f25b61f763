"""Unknown rows that a user settles: all or none, with who and what was before, in both databases alike."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from d3async.d3.response import AmbiguousAnswer, ItemError, Refused, Reply
from d3async.errors import FolderHeldError
from d3async.jobs.feedback_rows import Mark, row_mark
from d3async.journal.postgres.submission import RunSession
from d3async.journal.settle import HandSettlements
from d3async.journal.sqlite.session import FolderSession, hold
from d3async.policy.hand_settlement import Hand, RowChoice, parse_rows
from tests.journal import test_conformance
from tests.journal.ground import NOW, links, task
from tests.journal.test_conformance import FolderPlace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from d3async.journal.protocols import Session
    from tests.journal.ground import Entry
    from tests.journal.test_conformance import Place

fleet, place = test_conformance.fleet, test_conformance.place
OK, DOUBT = Reply("ok"), AmbiguousAnswer("http_500", "Unexpected Error.", 500)
BY = Hand("alice", "soc-1", NOW + 60)
COLUMNS = ("state", "code", "message", "maybe", "attempts")
WORDS = "Settled by hand as {} (alice, 2026-12-01 17:01:00 UTC). Before: unknown, http_500: Unexpected Error."


@contextmanager
def session(place: Place) -> Iterator[Session]:
    if isinstance(place, FolderPlace):
        folder = hold(place.path, now=NOW)
        try:
            yield FolderSession(folder)
        finally:
            folder.close()
    else:
        with RunSession(place.fleet.url, place.name) as found:
            yield found


def doubted(place: Place, entries: Sequence[Entry], *answers: Any) -> Any:
    """A run that had *answers*, the last one for all further calls too."""
    world = place.start(entries)
    for n, call in enumerate(world.calls()):
        world.answer(call, answers[min(n, len(answers) - 1)])
    world.end()
    return world


def state(place: Place) -> list[tuple[Any, ...]]:
    """Everything known of rows and items."""
    with session(place) as found:
        rows = found.all("select r.row, j.state, j.code, j.message, j.maybe, j.attempts, j.http, j.done_at from {rows}"
                         " order by r.row")  # fmt: skip
        items = found.all("select job, name, state, code, message, maybe from {item} where {here} order by job, pos")
    return [*rows, *items]


def rows(place: Place) -> list[tuple[str, str]]:
    with place.reader() as reader:
        reader.check()
        return [(row.outcome, row.code) for row in reader.rows()]


def settle(place: Place, outcome: Any, *words: str, by: Hand = BY) -> Any:
    with session(place) as found:
        hands = HandSettlements(found)
        choice = parse_rows(words) if words else RowChoice(every=True)
        return hands.undo(choice, by) if outcome == "undo" else hands.settle(choice, outcome, by)


def test_rows_get_the_outcome_the_user_saw_and_say_who_when_and_what_was_before(place: Place) -> None:
    doubted(place, [task("a"), task("b"), task("c")], OK, DOUBT)

    assert settle(place, "ok", "2").rows == 1
    assert settle(place, "failed", "3").rows == 1

    assert rows(place) == [("ok", ""), ("ok", "settled_by_hand"), ("failed", "settled_by_hand")]
    with place.reader() as reader:
        assert [row.message for row in reader.rows()] == ["", WORDS.format("ok"), WORDS.format("failed")]
        assert reader.settled_by_hand() == {"failed": 1, "ok": 1}


def test_the_journal_keeps_each_change_with_what_the_row_was(place: Place) -> None:
    doubted(place, [task("a")], DOUBT)
    settle(place, "ok", "1")
    settle(place, "undo", "1", by=Hand("bob", "soc-2", NOW + 90))

    with session(place) as found:
        events = found.all("select kind, at, note from {event} where {here} order by at")
    kinds = [(kind, at, json.loads(note)) for kind, at, note in events]
    assert [(kind, at, note["row"], note["by"], note["host"]) for kind, at, note in kinds] == [
        ("settled", NOW + 60, 1, "alice", "soc-1"),
        ("settle_undone", NOW + 90, 1, "bob", "soc-2"),
    ]
    assert kinds[0][2]["before"] == {
        "state": "unknown",
        "code": "http_500",
        "message": "Unexpected Error.",
        "maybe": True,
    }


@pytest.mark.parametrize("outcome", ["ok", "failed"])
def test_what_is_taken_back_is_exactly_as_it_was(place: Place, outcome: str) -> None:
    entries = [task("a\x1a\0"), task("b"), links("1;2"), links("7;8", source="20231025-131"), task("z")]
    doubted(place, entries, DOUBT)
    before = state(place)

    assert settle(place, outcome, "1-3,5").rows == 4
    assert state(place) != before
    assert settle(place, "undo", "1-3,5").rows == 4

    assert state(place) == before


def test_of_a_row_of_links_only_the_unknown_ones_are_settled(place: Place) -> None:
    refused = Reply("partial", errors=(ItemError("1", "The source incident is not linked to this incident."),))
    world = place.start([links("1;2"), links("3", source="7-7")])
    for call in world.calls(1):
        world.answer(call, DOUBT if "3" in call.items else refused)
    for call in world.calls(1):
        world.answer(call, DOUBT)
    world.end()
    assert [outcome for outcome, _ in rows(place)] == ["unknown", "unknown"]

    settle(place, "ok", "1")
    settle(place, "failed", "2")

    assert rows(place)[1] == ("failed", "settled_by_hand")
    with place.reader() as reader:
        told = [(item.item, item.outcome, item.code) for item in reader.items()]
    assert told[1:] == [("2", "ok", "settled_by_hand"), ("3", "failed", "settled_by_hand")]
    assert told[0][1] != "unknown"


NOT_UNKNOWN = "is ok; only rows that are unknown can be settled"
BY_HAND = "is ok already, settled by hand; `undo` takes that back"
END = "the file has 4 rows"
REFUSED = [
    (["1"], [("row 1", NOT_UNKNOWN)]),
    (["1-4"], [("row 1", NOT_UNKNOWN), ("row 4", BY_HAND)]),
    (["2", "9"], [("row 9", END)]),
    (["2-1000000"], [("row 4", BY_HAND), ("rows 5-1000000", END)]),
]


@pytest.mark.parametrize(("words", "refused"), REFUSED)
def test_one_row_that_cannot_be_settled_and_none_is(
    place: Place, words: list[str], refused: list[tuple[str, str]]
) -> None:
    doubted(place, [task("a"), task("b"), task("c"), task("d")], OK, DOUBT)
    settle(place, "ok", "4")
    before = state(place)

    change = settle(place, "failed", *words)

    assert change.rows == 0
    assert sorted((refusal.what, refusal.why) for refusal in change.refused) == refused
    assert state(place) == before


def test_rows_that_were_not_settled_cannot_be_taken_back(place: Place) -> None:
    doubted(place, [task("a"), task("b")], DOUBT)
    settle(place, "ok", "1")
    settle(place, "undo", "1")

    change = settle(place, "undo", "1-2")

    assert [refusal.why for refusal in change.refused] == ["was not settled by hand"] * 2


def test_what_was_sent_after_it_was_settled_is_not_taken_back(place: Place) -> None:
    doubted(place, [task("a"), task("b")], DOUBT)
    settle(place, "failed", "1")
    world = place.start([task("a"), task("b")])
    for call in world.calls():
        world.answer(call, OK)
    world.end()

    change = settle(place, "undo", "1")

    assert [refusal.why for refusal in change.refused] == ["was sent after it was settled"]
    assert rows(place) == [("ok", ""), ("unknown", "http_500")]


def test_a_row_that_was_changed_in_the_file_since_is_not_taken_back(place: Place) -> None:
    doubted(place, [task("a", key="k")], DOUBT)
    settle(place, "failed", "1")
    world = place.start([task("other", key="k")])
    world.die() if isinstance(place, FolderPlace) else world.end()

    change = settle(place, "undo", "1")

    assert [refusal.why for refusal in change.refused] == ["was changed after it was settled"]


def test_the_next_run_sends_what_failed_and_nothing_else(place: Place) -> None:
    entries = [task("a"), task("b"), task("c")]
    doubted(place, entries, DOUBT)
    settle(place, "ok", "1")
    settle(place, "failed", "2")

    world = place.start(entries)

    assert [call.params["Task Name"] for call in world.calls()] == ["b"]
    world.end()


def test_a_row_may_be_settled_anew_after_it_was_taken_back(place: Place) -> None:
    doubted(place, [task("a")], DOUBT)
    before = state(place)
    settle(place, "ok", "1")
    settle(place, "undo", "1")
    settle(place, "failed", "1")

    assert rows(place) == [("failed", "settled_by_hand")]
    settle(place, "undo", "1")
    assert state(place) == before


def test_every_row_is_every_unknown_one_and_every_one_that_can_be_taken_back(place: Place) -> None:
    doubted(place, [task("a"), task("b"), task("c")], OK, DOUBT)

    assert settle(place, "failed").rows == 2
    doubted(place, [task("a"), task("b"), task("c")], OK, DOUBT)
    assert settle(place, "ok").rows == 1
    assert settle(place, "undo").rows == 1

    assert [outcome for outcome, _ in rows(place)] == ["ok", "ok", "unknown"]


def test_while_rows_are_being_sent_nothing_is_settled(place: Place) -> None:
    world = place.start([task("a")])
    with pytest.raises(FolderHeldError):
        settle(place, "ok", "1")
    world.end()


def test_what_a_killed_process_left_in_flight_can_be_settled(place: Place) -> None:
    world = place.start([task("a")])
    world.claim(world.calls()[0])
    world.die()
    if not isinstance(place, FolderPlace):
        place.fleet.db.execute("update d3async_chunk set who = null where run = %s", (world.id,))

    assert settle(place, "ok", "1").rows == 1
    assert rows(place) == [("ok", "settled_by_hand")]
    settle(place, "undo", "1")
    assert rows(place) == [("unknown", "interrupted")]


def test_rows_are_named_by_their_marks_and_a_strange_mark_stops_all(place: Place) -> None:
    doubted(place, [task("a"), task("b"), links("1")], DOUBT)
    with session(place) as found:
        uid = found.uid
        contents = found.all("select r.id, coalesce(r.content, r.identity) from {rows} order by r.row")
        marks = [row_mark(uid, job, bytes(content)) for job, content in contents]
        strange = [Mark(marks[0].job, marks[1].letters), Mark(99, "kkkk")]
        refused = HandSettlements(found).settle(RowChoice(marks=(marks[2], *strange)), "ok", BY)
        settled = HandSettlements(found).settle(RowChoice(((1, 1),), marks=(marks[0], marks[2])), "ok", BY)

    assert [refusal.what for refusal in refused.refused] == [f"mark {mark}" for mark in strange]
    assert settled.rows == 2
    assert [outcome for outcome, _ in rows(place)] == ["ok", "unknown", "ok"]


@pytest.mark.parametrize(
    ("answer", "row"),
    [
        (Refused("http_400", "Incident is closed.", 400), ("failed", "http_400")),
        (Reply("failed", errors=(ItemError("a-1", "Incident a-1 is closed."),)), ("failed", "item_error")),
        (Reply("failed", errors=(ItemError("a-1", "a-1 is not linked."),)), ("ok", "")),
        (DOUBT, ("unknown", "http_500")),
    ],
)
def test_a_link_that_was_seen_in_place_is_not_in_doubt_any_more(
    place: Place, answer: Any, row: tuple[str, str]
) -> None:
    doubted(place, [links("a-1")], DOUBT)
    settle(place, "failed")

    world = place.start([links("a-1")])
    [call] = world.calls()
    world.answer(call, answer)
    world.end()

    assert (call.tried, call.gone) == (frozenset(), {"a-1"})
    assert rows(place) == [row]
