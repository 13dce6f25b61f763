"""What a journal must guarantee, whichever database keeps it: one suite for SQLite and PostgreSQL."""

from __future__ import annotations

import json
import re
import sqlite3
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings

from d3async.d3.response import AmbiguousAnswer, Answer, ItemError, Refused, Reply
from d3async.errors import ConservationError, FencedError
from d3async.files.run_files import write_files, write_results, write_summary_of
from d3async.files.source import Format
from d3async.journal.model import CallResult
from d3async.journal.sqlite.reader import FolderReader
from d3async.journal.sqlite.row_claims import RowStore
from d3async.journal.sqlite.run_folder import FILE
from d3async.policy.batching import lane_in_wave, wave_of
from d3async.policy.outcome import judge
from tests.journal.ground import NOW, Entry, Run, broken, changed, links, task
from tests.journal.postgres.ground import Fleet, FleetPlace, FleetWorld
from tests.journal.sqlite import test_lanes, test_merge_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from d3async.d3.call import Call
    from d3async.journal.model import RowOutcome
    from tests.database import Postgres

OK = Reply("ok")
REFUSED = Refused("http_400", "no", 400)
DOUBT = AmbiguousAnswer("http_500", "Unexpected Error.", 500)
NOT_LINKED = "The source incident is not linked to this incident."
bad = test_merge_rows.bad


class FolderWorld(Run):
    """One run over a run folder, driven as `FleetWorld` is."""

    def __init__(self, path: Path, entries: Sequence[Entry], **options: bool) -> None:
        super().__init__(path, entries, **options)
        self.path = path
        self._former: RowStore | None = None

    def lanes(self, after: int = -1, most: int = 1000) -> list[tuple[int, Call | None]]:
        return list(self.store.lanes(after, most))

    def take(self, lane: int, most: int = 50) -> Call | None:
        return self.store.take(lane, most)

    def claim(self, call: Call, at: float = NOW) -> None:
        self.store.guard()
        self.store.claim(call, at)

    def release(self, call: Call, *, sent: bool) -> None:
        self.store.release(call, sent=sent)

    def settle(self, call: Call, answer: Answer) -> list[RowOutcome]:
        self.store.guard()
        return self.store.settle(CallResult(call, judge(call, answer), '{"error":""}', NOW + 1))

    def answer(self, call: Call, answer: Answer) -> list[RowOutcome]:
        self.claim(call)
        return self.settle(call, answer)

    def die(self) -> None:
        """Go away as a kill does; a frozen process would find the same journal when it is thawed."""
        super().die()
        db = sqlite3.connect(self.path / FILE, isolation_level=None)
        self.store = RowStore(db, epoch=self.folder.epoch)
        _OPEN.append(db)

    def rows(self, *columns: str) -> list[Any]:
        return self.query(f"select {', '.join(columns)} from job order by row is null, row, id")

    def count(self, table: str) -> int:
        return int(self.query(f"select count(*) from {table}")[0])


_OPEN: list[sqlite3.Connection] = []
World = FolderWorld | FleetWorld


class FolderPlace:
    """A run folder, run over once or again."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, entries: Sequence[Entry], **options: Any) -> FolderWorld:
        return FolderWorld(self.path, entries, **options)

    def reader(self) -> FolderReader:
        return FolderReader(self.path / FILE)


Place = FolderPlace | FleetPlace


@pytest.fixture(scope="module")
def fleet(postgres: Postgres) -> Iterator[Fleet]:
    with Fleet(postgres.database()) as found:
        yield found


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    yield FolderPlace(tmp_path) if request.param == "sqlite" else FleetPlace(request.getfixturevalue("fleet"))
    while _OPEN:
        _OPEN.pop().close()


def ran(place: Place, entries: Sequence[Entry], answer: Answer | None, **options: bool) -> None:
    """A run in which every call had *answer*, or which was killed after sending them all."""
    world = place.start(entries, **options)
    for call in world.calls():
        if answer is None:
            world.claim(call)
        else:
            world.answer(call, answer)
    world.die() if answer is None else world.end()


def names(world: World) -> list[str]:
    return [call.params.get("Task Name", "; ".join(call.items)) for call in world.calls()]


def outcomes(found: Sequence[RowOutcome]) -> list[tuple[int, str]]:
    return [(row.row, row.outcome) for row in found]


# --- claims ---------------------------------------------------------------------------------------------------------


def test_a_claim_marks_the_row_sent_with_time_and_attempt(place: Place) -> None:
    world = place.start([task("a"), task("b")])
    world.claim(world.calls()[0])

    assert world.rows("state", "prior", "attempts", "sent_at") == [
        ("sent", "pending", 1, NOW),
        ("pending", None, 0, None),
    ]
    world.end()


def test_a_task_is_claimed_once(place: Place) -> None:
    """Also not by the owner itself: a task sent twice is a task twice."""
    world = place.start([task("a")])
    (call,) = world.calls()
    world.claim(call)

    with pytest.raises(FencedError) as caught:
        world.claim(call)
    assert caught.value.code == "fenced"
    assert world.rows("state", "attempts") == [("sent", 1)]
    world.end()


def test_a_row_with_an_outcome_is_not_claimed(place: Place) -> None:
    world = place.start([task("a"), links("a-1")])
    for call in world.calls():
        world.answer(call, OK)
        with pytest.raises(FencedError):
            world.claim(call)
    world.end()


def test_a_row_left_out_is_not_claimed(place: Place) -> None:
    world = place.start([task("a", selected=False), task("b")])
    with pytest.raises(FencedError):
        world.claim(world.calls()[0]._replace(job=1))
    assert world.states() == ["pending", "pending"]
    world.end()


def test_links_in_doubt_may_be_claimed_again_by_their_owner(place: Place) -> None:
    world = place.start([links("a-1;b-2"), links("b-2;c-3"), links("d-4")])
    (call,) = world.calls()
    world.claim(call)
    world.claim(call.after_doubt(), NOW + 1)

    assert world.rows("state", "prior", "attempts") == [("sent", "sent", 2)] * 3
    world.end()


def test_whoever_had_it_before_claims_nothing_any_more(place: Place) -> None:
    """A frozen process, thawed: somebody else owns the rows meanwhile."""
    entries = [task("a"), task("b"), links("a-1")]
    old = place.start(entries)
    calls = old.calls()
    old.claim(calls[0])
    old.die()
    new = place.start(entries)

    for call in calls:
        with pytest.raises(FencedError) as caught:
            old.claim(call)
        assert caught.value.code == "fenced"
    assert new.states() == ["unknown", "pending", "pending"]
    for call in new.calls():
        new.answer(call, OK)
    assert new.states() == ["unknown", "ok", "ok"]
    new.end()


# --- releases -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("left", "attempts", "sent_at"), [(True, 1, NOW), (False, 0, None)])
def test_a_release_gives_back_the_state_and_the_attempt_unless_it_left(
    place: Place, left: bool, attempts: int, sent_at: float | None
) -> None:
    world = place.start([task("a")])
    (call,) = world.calls()
    world.claim(call)
    world.release(call, sent=left)

    assert world.rows("state", "attempts", "sent_at") == [("pending", attempts, sent_at)]
    world.claim(call)
    assert world.rows("state", "attempts") == [("sent", attempts + 1)]
    world.end()


def test_a_release_leaves_an_earlier_attempt_in_doubt_sent(place: Place) -> None:
    world = place.start([links("a-1;b-2")])
    (call,) = world.calls()
    world.claim(call)
    world.claim(call.after_doubt(), NOW + 1)
    world.release(call, sent=False)

    assert world.rows("state", "attempts") == [("sent", 1)]
    assert world.items() == [("a-1", "sent"), ("b-2", "sent")]
    world.end()


def test_a_release_gives_every_item_its_own_state_back(place: Place) -> None:
    ran(place, [links("a-1;b-2;c-3")], bad("b-2"))
    world = place.start([links("a-1;b-2;c-3")])
    (call,) = world.calls()
    world.claim(call)
    world.release(call, sent=True)

    assert world.states() == ["partial"]
    assert world.items() == [("a-1", "ok"), ("b-2", "failed"), ("c-3", "ok")]
    world.end()


def test_a_release_touches_no_link_of_another_source(place: Place) -> None:
    world = place.start([links("a-1", source="1-1"), links("a-1", source="2-2"), links("b-2", source="1-1")])
    one, other = world.take(1, 1), world.take(2, 1)
    assert one is not None
    assert other is not None
    for call in (one, other):
        world.claim(call)
    world.release(one, sent=False)

    assert world.items() == [("a-1", "pending"), ("a-1", "sent"), ("b-2", "pending")]
    world.end()


def test_a_release_after_the_outcome_changes_nothing(place: Place) -> None:
    world = place.start([task("a")])
    (call,) = world.calls()
    world.answer(call, OK)
    world.release(call, sent=False)

    assert world.rows("state", "attempts") == [("ok", 1)]
    world.end()


# --- outcomes -------------------------------------------------------------------------------------------------------


def test_an_outcome_is_recorded_with_all_that_is_known(place: Place) -> None:
    world = place.start([task("a")])
    (call,) = world.calls()
    world.claim(call)

    assert outcomes(world.settle(call, Refused("http_400", "no\nway", 400))) == [(1, "failed")]
    world.end()
    with place.reader() as reader:
        (row,) = reader.rows(full=True)
        assert row[2:9] == ("failed", "http_400", "no way", 400, 1, NOW, NOW + 1)
        assert row.answer is not None
        assert reader.answer(row.answer) == '{"error":""}'
        reader.check()


@pytest.mark.parametrize("entry", [task("a"), links("a-1")])
@pytest.mark.parametrize("again", [False, True])
def test_an_answer_for_what_was_not_sent_is_a_defect(place: Place, entry: Entry, again: bool) -> None:
    world = place.start([entry])
    (call,) = world.calls()
    if again:
        world.answer(call, OK)

    before = world.rows("state", "attempts")
    with pytest.raises(ConservationError):
        world.settle(call, OK)
    assert world.rows("state", "attempts") == before


def test_an_answer_for_more_links_than_were_sent_is_a_defect_and_settles_none(place: Place) -> None:
    world = place.start([links("a-1;z-9")])
    call = world.take(1, 1)
    assert call is not None
    world.claim(call)

    with pytest.raises(ConservationError):
        world.settle(call._replace(items=("a-1", "z-9")), OK)


def test_an_answer_settles_no_row_of_another_source(place: Place) -> None:
    world = place.start([links("a-1", source="1-1"), links("a-1", source="2-2")])
    one, other = world.calls()
    world.claim(other)
    world.answer(one, OK)

    assert world.states() == ["ok", "sent"]
    world.end()


def test_one_call_settles_every_row_it_carried_and_an_item_of_two_rows_in_both(place: Place) -> None:
    world = place.start([links("a-1;b-2"), links("b-2;c-3"), links("d-4")])
    (call,) = world.calls()
    assert call.items == ("a-1", "b-2", "c-3", "d-4")
    world.claim(call)

    found = world.settle(call, Reply("partial", (ItemError("B-2", "closed"),)))
    assert outcomes(found) == [(1, "partial"), (2, "partial"), (3, "ok")]
    assert [row.items for row in found] == [(1, 1, 0), (1, 1, 0), (1, 0, 0)]
    assert world.items() == [("a-1", "ok"), ("b-2", "failed"), ("b-2", "failed"), ("c-3", "ok"), ("d-4", "ok")]
    world.end()
    with place.reader() as reader:
        reader.check()
        assert reader.item_counts() == {"ok": 3, "failed": 2, "unknown": 0, "unsent": 0}
        assert [row[10:13] for row in reader.rows()] == [(1, 1, 0), (1, 1, 0), (1, 0, 0)]


def test_a_row_spread_over_calls_is_finished_by_the_last_of_them(place: Place) -> None:
    world = place.start([links("a-1;b-2"), links("b-2;c-3"), links("d-4")])
    one = world.take(1, 2)
    assert one is not None

    assert outcomes(world.answer(one, OK)) == [(1, "ok")]
    assert world.rows("state", "message")[1] == ("pending", "1 of its items are not sent yet.")
    two = world.take(1, 2)
    assert two is not None
    assert two.items == ("c-3", "d-4")
    assert outcomes(world.answer(two, DOUBT)) == [(2, "unknown"), (3, "unknown")]
    assert world.take(1, 2) is None
    world.end()


def test_an_item_removed_by_a_row_that_is_gone_was_removed_by_us(place: Place) -> None:
    ran(place, [links("a-1;b-2")], bad("b-2"))
    world = place.start([links("a-1;c-3")])
    (call,) = world.calls()

    assert call.gone == {"a-1"}
    assert world.answer(call, bad("a-1", why=NOT_LINKED))[0].outcome == "ok"
    world.end()


def test_a_link_removed_from_its_other_end_was_removed_by_us(place: Place) -> None:
    world = place.start([links("b", source="a"), links("a", source="b")])
    first, _ = world.calls()
    world.answer(first, OK)
    second = world.take(world.lanes()[-1][0])
    assert second is not None

    assert second.gone == {"a"}
    world.end()


ODD = ["a\x001", "b'2", 'c"3', "пример-4", "d%5", "e_6", "\x1a0041", "g\x1a7"]


def test_numbers_with_nul_quotes_and_other_scripts_keep_their_identity(place: Place) -> None:
    world = place.start([links(number) for number in ODD])
    (call,) = world.calls()

    assert list(call.items) == ODD
    world.answer(call, Reply("partial", (ItemError("a\x001", "cl\x00sed"),)))
    assert world.states() == ["failed", *["ok"] * 7]
    world.end()
    with place.reader() as reader:
        assert [row.raw.partition(",")[2] for row in reader.rows()] == ODD
        assert [item.item for item in reader.items()] == ODD
        assert next(reader.rows()).message == "a\x001: cl\x00sed"


# --- lanes ----------------------------------------------------------------------------------------------------------

LANES = test_lanes.test_a_source_is_one_lane_and_sources_that_name_each_other_stand_in_different_waves.pytestmark[0]


@pytest.mark.parametrize(("entries", "lanes"), LANES.args[1])
def test_a_source_is_one_lane_and_sources_that_name_each_other_stand_in_different_waves(
    place: Place, entries: list[Entry], lanes: list[tuple[int, int]]
) -> None:
    world = place.start(entries)

    found = world.rows("lane")
    assert [(wave_of(lane), lane - lane_in_wave(0, wave_of(lane))) for lane in found] == lanes
    assert [lane for lane, _ in world.lanes()] == sorted(set(found))
    world.end()


def test_the_lanes_come_in_order_and_each_once(place: Place) -> None:
    world = place.start([links("a-1"), task("x"), links("b-2"), task("y"), links("c-3", source="1-1")])

    assert [(lane, call is None) for lane, call in world.lanes()] == [(1, True), (2, False), (4, False), (5, True)]
    assert [lane for lane, _ in world.lanes(2)] == [4, 5]
    assert [lane for lane, _ in world.lanes(-1, 3)] == [1, 2]
    world.end()


def test_serial_lanes_hand_out_one_row_after_the_other(place: Place) -> None:
    world = place.start([task("x"), task("y", incident="1-1"), task("z")], serial=True)
    assert world.rows("lane") == [1, 2, 1]
    assert world.lanes() == [(1, None), (2, None)]
    found = []
    while call := world.take(1):
        found.append(call.params["Task Name"])
        world.answer(call, OK)

    assert found == ["x", "z"]
    world.end()


# --- the file again -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("entry", "answer", "state", "sent"), test_merge_rows.AGAIN)
def test_what_the_next_run_sends(
    place: Place, entry: Entry, answer: Answer | None, state: str, sent: list[str]
) -> None:
    """Contract §6, third column; no answer is a kill after sending."""
    ran(place, [entry], answer)
    world = place.start([entry])

    assert (world.states(), names(world), world.to_send) == ([state], sent, len(sent))
    assert world.changes.same == 1
    world.end()


@pytest.mark.parametrize("answer", [DOUBT, None])
def test_unknown_rows_of_a_task_are_sent_again_only_when_asked_for(place: Place, answer: Answer | None) -> None:
    ran(place, [task("a")], answer)
    world = place.start([task("a")], retry_unknown=True)
    (call,) = world.calls()

    assert call.maybe
    assert world.answer(call, REFUSED)[0].outcome == "unknown"
    world.end()


@pytest.mark.parametrize(("before", "answer", "after", "state", "sent", "counts"), test_merge_rows.EDITED)
def test_a_row_edited_under_its_id(
    place: Place, before: Entry, answer: Answer | None, after: Entry, state: str, sent: list[str],
    counts: tuple[int, int, int],
) -> None:  # fmt: skip
    ran(place, [test_merge_rows.with_id(before)], answer)
    world = place.start([test_merge_rows.with_id(after)])

    assert (world.states(), names(world)) == ([state], sent)
    found = world.changes
    assert (found.changed, found.changed_after_ok, found.changed_in_doubt) == counts
    assert found.same + sum(counts) == 1
    assert world.rows("raw") == [after.raw]
    world.end()
    with place.reader() as reader:
        reader.check()


def test_a_row_changed_after_it_was_ok_says_so(place: Place) -> None:
    ran(place, [task("a", key="7")], OK)
    world = place.start([task("b", key="7")])

    assert world.rows("code") == ["changed_after_ok"]
    world.end()


def test_what_was_sent_is_kept_for_a_row_in_doubt_until_it_is_to_be_sent_again(place: Place) -> None:
    ran(place, [task("a", key="7")], DOUBT)
    ran(place, [task("b", key="7")], OK)
    kept = place.start([task("b", key="7")])
    assert '"Task Name":"a"' in kept.rows("params")[0]
    kept.end()

    again = place.start([task("b", key="7")], retry_unknown=True)
    assert (names(again), again.states()) == (["b"], ["unknown"])
    again.end()


def test_rows_move_with_their_outcome_wherever_they_go(place: Place) -> None:
    ran(place, [task("a"), task("b"), task("c")], OK)
    world = place.start([task("new"), task("c"), broken(), task("a")])

    assert world.states() == ["pending", "ok", "invalid", "ok"]
    assert (world.changes.same, world.changes.new, world.changes.vanished) == (2, 2, 1)
    world.end()
    with place.reader() as reader:
        reader.check()
        assert [row.raw for row in reader.rows()] == ["new", "c", "?", "a"]
        assert (reader.vanished(), reader.counts()["unsent"]) == (1, 1)


def test_a_row_that_comes_back_has_not_been_forgotten(place: Place) -> None:
    ran(place, [task("a")], OK)
    ran(place, [task("b")], OK)
    world = place.start([task("a"), task("b")])

    assert (world.states(), world.to_send) == (["ok", "ok"], 0)
    assert (world.changes.same, world.changes.vanished) == (2, 0)
    world.end()


@pytest.mark.parametrize(
    ("first", "second", "states", "counts"),
    [
        (3, 2, ["ok", "ok"], (2, 0, 1)),
        (1, 2, ["ok", "pending"], (1, 1, 0)),
    ],
)
def test_identical_rows_are_told_apart_by_their_occurrence(
    place: Place, first: int, second: int, states: list[str], counts: tuple[int, int, int]
) -> None:
    ran(place, [task("a")] * first, OK, allow=True)
    world = place.start([task("a")] * second, allow=True)

    assert world.states() == states
    assert (world.changes.same, world.changes.new, world.changes.vanished) == counts
    world.end()


def test_a_mended_row_is_new_and_its_invalid_self_is_forgotten(place: Place) -> None:
    ran(place, [task("a"), broken()], OK)
    world = place.start([task("a"), task("b")])

    assert (world.states(), world.changes.new, world.changes.vanished) == (["ok", "pending"], 1, 0)
    assert world.changes.mended == 1
    assert world.count("job") == 2
    world.end()


def test_a_row_asked_for_by_another_user_is_the_same_row_unless_it_was_changed_as_well(place: Place) -> None:
    ran(place, [changed(task("a", key="1"), username="ann"), changed(task("b", key="2"), username="ann")], OK)
    world = place.start([changed(task("a", key="1"), username="bob"), changed(task("c", key="2"), username="bob")])

    assert world.rows("username") == ["bob", "ann"]
    assert [key.split("\x1f")[0] for key in world.rows("lane_key")] == ["bob", "ann"]
    world.end()


def test_a_row_broken_taken_away_and_put_back_mended_keeps_what_is_known_of_its_items(place: Place) -> None:
    ran(place, [links("a-1;b-2", key="7")], bad("b-2"))
    ran(place, [broken(key="7")], OK)
    ran(place, [task("x")], OK)
    world = place.start([links("a-1;b-2", key="7")])

    assert world.items() == [("a-1", "ok"), ("b-2", "failed")]
    assert names(world) == ["b-2"]
    world.end()


def test_a_row_broken_before_it_was_sent_and_taken_away_leaves_nothing(place: Place) -> None:
    place.start([links("a-1;b-2", key="7")]).die()
    place.start([broken(key="7")]).die()
    world = place.start([task("x")])

    assert (world.count("job"), world.count("item")) == (1, 0)
    world.end()


def test_what_an_earlier_run_was_to_send_is_not_sent_by_one_that_leaves_it_out(place: Place) -> None:
    place.start([links("a-1"), links("b-2")]).die()
    world = place.start([links("a-1"), links("b-2", selected=False)])

    assert names(world) == ["a-1"]
    world.end()


DUPLICATES = [
    ([task("a"), task("a")], False, [(2, "duplicate")], ["pending", "invalid"]),
    ([task("a"), task("a")], True, [], ["pending", "pending"]),
    ([task("a", key="1"), task("b", key="1")], True, [(2, "id")], ["pending", "invalid"]),
    (
        [task("a", key="1"), broken(key="1"), task("b", key="1")], True,
        [(2, "id"), (3, "id")], ["pending", "invalid", "invalid"],
    ),
    ([links("a-1"), links("a-1")], False, [], ["pending", "pending"]),
    ([links("a-1", key="1"), links("b-2", key="1")], False, [(2, "id")], ["pending", "invalid"]),
    ([broken("x"), broken("x")], False, [], ["invalid", "invalid"]),
]  # fmt: skip


@pytest.mark.parametrize(("entries", "allow", "found", "states"), DUPLICATES)
def test_the_same_id_twice_is_wrong_and_identical_tasks_are_unless_allowed(
    place: Place, entries: list[Entry], allow: bool, found: list[tuple[int, str]], states: list[str]
) -> None:
    world = place.start(entries, allow=allow)

    if isinstance(world, FleetWorld):
        assert [(one.row, one.problems[0].code) for one in world.repeated] == found
    assert world.states() == states
    assert world.to_send == states.count("pending")
    world.end()
    named = ('id "1": is on line 2 already', "the same as line 2")
    with place.reader() as reader:
        reader.check()
        told = [(row.row, row.code) for row in reader.rows(["invalid"]) if row.message.startswith(named)]
    assert told == [(row, f"invalid.{code}") for row, code in found]


_HISTORIES = count()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=test_merge_rows.HISTORIES)
def test_whatever_the_edits_no_ok_row_is_sent_again_and_every_row_is_counted(
    place: Place, files: list[tuple[list[Entry], list[Answer]]]
) -> None:
    here = FleetPlace(place.fleet) if isinstance(place, FleetPlace) else FolderPlace(place.path / str(next(_HISTORIES)))
    done: set[tuple[bytes, int]] = set()
    for entries, answers in files:
        world = here.start(entries, allow=True)
        found = world.changes
        assert found.same + found.new + found.changed + found.changed_after_ok + found.changed_in_doubt == len(entries)
        todo = {(bytes(identity), again) for identity, again, todo in identities(world) if todo}
        assert not todo & done
        for call, answer in zip(world.calls(), answers, strict=False):
            world.answer(call, answer)
        states = world.rows("state")
        done |= {key[:2] for key, state in zip(identities(world), states, strict=True) if state == "ok"}
        world.end()
        with here.reader() as reader:
            reader.check()


FORM = Format("csv", header_raw="raw")
HISTORY: list[tuple[list[Entry], list[Answer]]] = [
    (
        [task("a"), task("b"), links("a-1;b-2"), links("b-2;c-3"), links("d-4", source="1-1"), task("=cmd")],
        [OK, REFUSED, bad("b-2"), DOUBT, OK],
    ),
    (
        [links("b-2;c-3"), task("b"), task("new\x00\x1a"), links("a-1;b-2"), task("a"), broken(), task("left")],
        [bad("b-2", why=NOT_LINKED), DOUBT, REFUSED],
    ),
]


MARKS = re.compile(r",(?:_row|\d+-[a-z0-9]{4})$", re.MULTILINE)
"""Rows of a run folder have marks in its feedback files; those of the fleet have none."""


def written(place: Place, folder: Path) -> dict[str, str]:
    """Every file of a run folder that is written from *place*, without what names the folder: page, next steps."""
    folder.mkdir()
    with place.reader() as reader:
        reader.folder = folder
        write_files(reader)
        write_summary_of(reader, {"requests": 8})
        with (folder / "results.jsonl").open("wb") as file:
            write_results(file, reader, "jsonl")
    summary = folder / "summary.json"
    known = {key: value for key, value in json.loads(summary.read_text()).items() if key not in {"next", "advice"}}
    summary.write_text(json.dumps(known, indent=2))
    return {path.name: MARKS.sub("", path.read_text()) for path in folder.iterdir() if path.suffix != ".html"}


def test_both_write_the_same_files(fleet: Fleet, tmp_path: Path) -> None:
    files = []
    for place in (FolderPlace(tmp_path / "run"), FleetPlace(fleet)):
        for entries, answers in HISTORY:
            world = place.start(entries)
            if isinstance(world, FolderWorld):
                world.folder.db.execute(
                    "insert or replace into meta values ('format', ?)", (json.dumps(FORM.to_json()),)
                )
            for call, answer in zip(world.calls(), answers, strict=False):
                world.answer(call, answer)
            world.end()
        files.append(written(place, tmp_path / f"written {len(files)}"))

    assert files[0].keys() == {
        "results.csv", "items.csv", "failed.csv", "unknown.csv", "summary.json", "results.jsonl",
    }  # fmt: skip
    for name, text in files[0].items():
        assert text.splitlines() == files[1][name].splitlines()


def identities(world: World) -> list[tuple[bytes, int, bool]]:
    """(identity, occurrence, to be sent) of every row."""
    if isinstance(world, FolderWorld):
        return world.rows("identity", "occurrence", "todo")
    return world.fleet.query(
        "select r.identity, r.occurrence, j.todo from d3async_job j join d3async_row r on r.run = j.run and r.id = j.id"
        " where j.run = %s order by r.row nulls last, r.id",
        world.id,
    )
