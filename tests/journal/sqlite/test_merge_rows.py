"""How the rows of a file meet the rows a journal knows: by identity, never by position."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d3async.d3.response import AmbiguousAnswer, Answer, ItemError, Refused, Reply, TransportFailure
from d3async.jobs.job import Job
from d3async.journal.sqlite.reader import FolderReader
from d3async.journal.sqlite.run_folder import FILE, in_memory
from tests.journal.ground import Entry, Run, broken, changed, links, task

OK = Reply("ok")
REFUSED = Refused("http_400", "no", 400)
DOUBT = AmbiguousAnswer("http_500", "?", 500)
NOT_LINKED = "The source incident is not linked to this incident."


def bad(*numbers: str, why: str = "closed") -> Reply:
    return Reply("partial", tuple(ItemError(number, why) for number in numbers))


def ran(path: Path, entries: Sequence[Entry], answer: Answer | None, **options: bool) -> None:
    """A run in which every call had *answer*, or which was killed after sending them all."""
    run = Run(path, entries, **options)
    for call in run.calls():
        if answer is None:
            run.store.claim(call, 1.0)
        else:
            run.answer(call, answer)
    run.die() if answer is None else run.end()


def names(run: Run) -> list[str]:
    return [call.params.get("Task Name", "; ".join(call.items)) for call in run.calls()]


# what the first run did, and what the second finds and sends
AGAIN = [
    (task("a"), OK, "ok", []),
    (task("a"), REFUSED, "failed", ["a"]),
    (task("a"), DOUBT, "unknown", []),
    (task("a"), None, "unknown", []),
    (links("a-1;b-2"), OK, "ok", []),
    (links("a-1;b-2"), REFUSED, "failed", ["a-1; b-2"]),
    (links("a-1;b-2"), DOUBT, "unknown", ["a-1; b-2"]),
    (links("a-1;b-2"), None, "unknown", ["a-1; b-2"]),
    (links("a-1;b-2"), bad("b-2"), "partial", ["b-2"]),
    (links("a-1;b-2"), bad("b-2", why=NOT_LINKED), "partial", []),
    (links("a-1;b-2"), bad("a-1", "b-2", why=NOT_LINKED), "failed", []),
    (broken(), OK, "invalid", []),
]


@pytest.mark.parametrize(("entry", "answer", "state", "sent"), AGAIN)
def test_what_the_next_run_sends(
    tmp_path: Path, entry: Entry, answer: Answer | None, state: str, sent: list[str]
) -> None:
    """Contract §6, third column."""
    ran(tmp_path, [entry], answer)
    run = Run(tmp_path, [entry])

    assert (run.states(), names(run), run.to_send) == ([state], sent, len(sent))
    assert run.changes.same == 1
    run.die()


@pytest.mark.parametrize("answer", [DOUBT, None])
def test_unknown_rows_of_a_task_are_sent_again_only_when_asked_for(tmp_path: Path, answer: Answer | None) -> None:
    ran(tmp_path, [task("a")], answer)
    run = Run(tmp_path, [task("a")], retry_unknown=True)
    (call,) = run.calls()

    assert call.maybe
    assert run.answer(call, REFUSED)[0].outcome == "unknown"
    run.end()


def test_rows_move_with_their_outcome_wherever_they_go(tmp_path: Path) -> None:
    ran(tmp_path, [task("a"), task("b"), task("c")], OK)
    run = Run(tmp_path, [task("new"), task("c"), broken(), task("a")])

    assert run.states() == ["pending", "ok", "invalid", "ok"]
    assert run.query("select line from job where row is not null order by row") == [2, 3, 4, 5]
    assert (run.changes.same, run.changes.new, run.changes.vanished) == (2, 2, 1)
    run.die()


def test_an_edited_row_without_an_id_is_a_new_row_and_the_old_one_is_kept(tmp_path: Path) -> None:
    ran(tmp_path, [task("a")], OK)
    run = Run(tmp_path, [task("A")])

    assert names(run) == ["A"]
    assert (run.changes.new, run.changes.vanished) == (1, 1)
    assert run.query("select state from job order by id") == ["ok", "pending"]
    run.die()


def test_a_row_that_comes_back_has_not_been_forgotten(tmp_path: Path) -> None:
    ran(tmp_path, [task("a")], OK)
    ran(tmp_path, [task("b")], OK)
    run = Run(tmp_path, [task("a"), task("b")])

    assert (run.states(), run.to_send) == (["ok", "ok"], 0)
    assert (run.changes.same, run.changes.vanished) == (2, 0)
    run.die()


def test_one_of_three_identical_rows_taken_away_sends_nothing_again(tmp_path: Path) -> None:
    ran(tmp_path, [task("a"), task("a"), task("a")], OK, allow=True)
    run = Run(tmp_path, [task("a"), task("a")], allow=True)

    assert (run.states(), run.to_send, run.changes.vanished) == (["ok", "ok"], 0, 1)
    run.die()


def test_one_identical_row_added_is_one_more_to_send(tmp_path: Path) -> None:
    ran(tmp_path, [task("a")], OK)
    run = Run(tmp_path, [task("a"), task("a")], allow=True)

    assert (run.states(), run.to_send, run.changes.new) == (["ok", "pending"], 1, 1)
    run.die()


def test_a_mended_row_without_an_id_is_new_and_its_invalid_self_is_forgotten(tmp_path: Path) -> None:
    ran(tmp_path, [task("a"), broken()], OK)
    run = Run(tmp_path, [task("a"), task("b")])

    assert (run.states(), run.changes.new, run.changes.vanished) == (["ok", "pending"], 1, 0)
    run.die()


# one row with an id: what became of it, what it is now -> its state, what is sent, (changed, after ok, in doubt)
EDITED = [
    (task("a"), OK, task("b"), "ok", [], (0, 1, 0)),
    (task("a"), OK, broken(), "ok", [], (0, 1, 0)),
    (task("a"), REFUSED, task("b"), "pending", ["b"], (1, 0, 0)),
    (task("a"), REFUSED, broken(), "invalid", [], (1, 0, 0)),
    (task("a"), DOUBT, task("b"), "unknown", [], (0, 0, 1)),
    (task("a"), DOUBT, broken(), "unknown", [], (0, 0, 1)),
    (task("a"), None, task("b"), "unknown", [], (0, 0, 1)),
    (broken(), OK, task("b"), "pending", ["b"], (1, 0, 0)),
    (broken("x"), OK, broken("y"), "invalid", [], (0, 0, 0)),
    (links("a-1;b-2"), OK, links("a-1;c-3"), "ok", [], (0, 1, 0)),
    (links("a-1;b-2"), bad("b-2"), links("a-1;c-3"), "pending", ["c-3"], (1, 0, 0)),
    (links("a-1;b-2"), bad("b-2"), links("a-1;b-2;c-3"), "pending", ["b-2; c-3"], (1, 0, 0)),
    (links("a-1;b-2"), bad("b-2"), links("a-1"), "ok", [], (1, 0, 0)),
    (links("a-1;b-2"), bad("b-2"), links("b-2"), "failed", ["b-2"], (1, 0, 0)),
    (links("a-1;b-2"), bad("b-2", why=NOT_LINKED), links("b-2"), "failed", [], (1, 0, 0)),
    (links("a-1;b-2"), bad("b-2"), broken(), "invalid", [], (1, 0, 0)),
    (links("a-1;b-2"), REFUSED, links("a-1"), "failed", ["a-1"], (1, 0, 0)),
    (links("a-1;b-2"), DOUBT, links("a-1;c-3"), "unknown", ["a-1; c-3"], (1, 0, 0)),
    (links("a-1;b-2"), DOUBT, links("c-3"), "pending", ["c-3"], (1, 0, 0)),
    (links("a-1;b-2"), DOUBT, broken(), "unknown", [], (0, 0, 1)),
    (links("a-1;b-2"), None, links("a-1;c-3"), "unknown", ["a-1; c-3"], (1, 0, 0)),
    (links("a-1;b-2"), bad("b-2"), links("a-1;b-2", source="1-1"), "pending", ["a-1; b-2"], (1, 0, 0)),
    (links("a-1;b-2"), bad("b-2"), changed(links("a-1;b-2"), site="X"), "pending", ["a-1; b-2"], (1, 0, 0)),
    (links("a-1"), DOUBT, task("b"), "pending", ["b"], (1, 0, 0)),
    (links("a-1"), REFUSED, task("b"), "pending", ["b"], (1, 0, 0)),
    (task("a"), REFUSED, links("a-1"), "pending", ["a-1"], (1, 0, 0)),
]


def with_id(entry: Entry) -> Entry:
    return changed(entry, key="7")


@pytest.mark.parametrize(("before", "answer", "after", "state", "sent", "counts"), EDITED)
def test_a_row_edited_under_its_id(
    tmp_path: Path, before: Entry, answer: Answer | None, after: Entry, state: str, sent: list[str],
    counts: tuple[int, int, int],
) -> None:  # fmt: skip
    ran(tmp_path, [with_id(before)], answer)
    run = Run(tmp_path, [with_id(after)])

    assert (run.states(), names(run)) == ([state], sent)
    found = run.changes
    assert (found.changed, found.changed_after_ok, found.changed_in_doubt) == counts
    assert found.same + sum(counts) == 1
    assert run.query("select raw from job where row is not null") == [after.raw]
    run.end()
    with FolderReader(tmp_path / FILE) as reader:
        reader.check()


def test_a_row_changed_after_it_was_ok_says_so(tmp_path: Path) -> None:
    ran(tmp_path, [with_id(task("a"))], OK)
    run = Run(tmp_path, [with_id(task("b"))])

    assert run.query("select code from job") == ["changed_after_ok"]
    run.die()


def test_what_was_sent_is_kept_for_a_row_in_doubt_until_it_is_to_be_sent_again(tmp_path: Path) -> None:
    """Who looks the task up in D3 needs the text that was sent; who sends it again means the text in the file."""
    ran(tmp_path, [with_id(task("a"))], DOUBT)
    ran(tmp_path, [with_id(task("b"))], OK)
    kept = Run(tmp_path, [with_id(task("b"))])
    assert '"Task Name":"a"' in kept.query("select params from job")[0]
    kept.die()

    again = Run(tmp_path, [with_id(task("b"))], retry_unknown=True)
    assert names(again) == ["b"]
    assert again.states() == ["unknown"]
    again.die()


def test_sending_unknown_rows_again_renews_no_other_row(tmp_path: Path) -> None:
    done, left_out = task("done", key="1"), task("left out", key="2")
    ran(tmp_path, [done], OK)
    ran(tmp_path, [done, left_out], DOUBT)
    run = Run(tmp_path, [task("b", key="1"), task("c", key="2", selected=False)], retry_unknown=True)

    kept = run.query("select json_extract(params, '$.Task Name') from job order by id")
    assert kept == ["done", "left out"]
    assert run.states() == ["ok", "unknown"]
    run.die()


def test_a_row_asked_for_by_another_user_is_the_same_row_unless_it_was_changed_as_well(tmp_path: Path) -> None:
    ran(tmp_path, [changed(task("a", key="1"), username="ann"), changed(task("b", key="2"), username="ann")], OK)
    run = Run(tmp_path, [changed(task("a", key="1"), username="bob"), changed(task("c", key="2"), username="bob")])

    assert run.query("select username from job order by id") == ["bob", "ann"]
    assert [key.split("\x1f")[0] for key in run.query("select lane_key from job order by id")] == ["bob", "ann"]
    run.die()


def test_a_row_broken_and_mended_keeps_what_is_known_of_its_items(tmp_path: Path) -> None:
    ran(tmp_path, [with_id(links("a-1;b-2"))], bad("b-2"))
    ran(tmp_path, [with_id(broken())], OK)
    run = Run(tmp_path, [with_id(links("a-1;b-2"))])

    assert run.items() == [("a-1", "ok"), ("b-2", "failed")]
    assert names(run) == ["b-2"]
    run.die()


def test_a_row_broken_taken_away_and_put_back_mended_keeps_what_is_known_of_its_items(tmp_path: Path) -> None:
    ran(tmp_path, [with_id(links("a-1;b-2"))], bad("b-2"))
    ran(tmp_path, [with_id(broken())], OK)
    ran(tmp_path, [task("x")], OK)
    run = Run(tmp_path, [with_id(links("a-1;b-2"))])

    assert run.items() == [("a-1", "ok"), ("b-2", "failed")]
    run.die()


def test_a_row_broken_before_it_was_sent_and_taken_away_leaves_nothing(tmp_path: Path) -> None:
    Run(tmp_path, [with_id(links("a-1;b-2"))]).die()
    Run(tmp_path, [with_id(broken())]).die()
    run = Run(tmp_path, [task("x")])

    assert run.query("select count(*) from job") == [1]
    assert run.query("select count(*) from item") == [0]
    run.die()


def test_what_an_earlier_run_was_to_send_is_not_sent_by_one_that_leaves_it_out(tmp_path: Path) -> None:
    Run(tmp_path, [links("a-1"), links("b-2")]).die()
    run = Run(tmp_path, [links("a-1"), links("b-2", selected=False)])

    assert names(run) == ["a-1"]
    run.die()


def test_an_item_removed_by_a_row_that_is_gone_was_removed_by_us(tmp_path: Path) -> None:
    """A file edited without ids: the old row vanished, the new one names the same link."""
    ran(tmp_path, [links("a-1;b-2")], bad("b-2"))
    run = Run(tmp_path, [links("a-1;c-3")])
    (call,) = run.calls()

    assert call.gone == {"a-1"}
    outcome = run.answer(call, bad("a-1", why=NOT_LINKED))[0]
    assert outcome.outcome == "ok"
    run.die()


def test_an_item_of_another_source_was_not_removed_by_us(tmp_path: Path) -> None:
    ran(tmp_path, [links("a-1", source="1-1")], OK)
    run = Run(tmp_path, [links("a-1", source="2-2")])

    assert [call.tried | call.gone for call in run.calls()] == [frozenset()]
    run.die()


def test_rows_left_out_of_this_run_stay_unsent(tmp_path: Path) -> None:
    run = Run(tmp_path, [task("a"), task("b", selected=False), links("a-1", selected=False)])

    assert (names(run), run.to_send, run.states()) == (["a"], 1, ["pending"] * 3)
    run.die()


def test_rows_about_one_source_share_a_lane_and_tasks_do_not(tmp_path: Path) -> None:
    run = Run(tmp_path, [links("a-1"), task("x"), links("b-2", source="1-1"), task("y"), links("c-3")])

    assert run.query("select lane from job order by row") == [1, 2, 3, 4, 1]
    run.die()


def test_serial_puts_every_row_about_one_incident_into_one_lane(tmp_path: Path) -> None:
    run = Run(tmp_path, [task("x"), task("y", incident="1-1"), task("z")], serial=True)

    assert run.query("select lane from job order by row") == [1, 2, 1]
    run.die()


SPOILED = [
    "params = replace(params, 'admin user', 'somebody')",
    "site = 'Elsewhere', lane_key = 'x', username = 'root', label = '20990101-1'",
    "command = 'CreateTask', profile = 'other'",
]


@pytest.mark.parametrize("change", SPOILED)
@pytest.mark.parametrize("entry", [task("a"), task("a", key="1"), links("a-1;b-2"), links("a-1;b-2", key="1")])
@pytest.mark.parametrize("answer", [None, REFUSED], ids=["never sent", "refused"])
def test_what_is_sent_is_what_the_file_says_whatever_was_done_to_the_journal(
    tmp_path: Path, entry: Job, change: str, answer: Answer | None
) -> None:
    run = Run(tmp_path, [entry])
    if answer is not None:
        for call in run.calls():
            run.answer(call, answer)
    run.end()
    with closing(sqlite3.connect(tmp_path / FILE)) as db, db:
        db.execute(f"update job set {change}")

    run = Run(tmp_path, [entry])

    (call,) = run.calls()
    assert (call.command, call.site, call.username, call.label) == (
        entry.asked.kind.__name__, entry.site, None, entry.asked.subject,
    )  # fmt: skip
    if not entry.asked.items:
        assert call.params == json.loads(entry.asked.params)
    assert tuple(call.items) == entry.asked.items
    run.die()


@pytest.mark.parametrize("change", ["name = 'z-9'", "name = 'z-9', fold = 'z-9'", "pos = 5 - pos"])
def test_the_items_that_are_sent_are_those_of_the_file(tmp_path: Path, change: str) -> None:
    Run(tmp_path, [links("a-1;b-2")]).end()
    with closing(sqlite3.connect(tmp_path / FILE)) as db, db:
        db.execute(f"update item set {change}")

    run = Run(tmp_path, [links("a-1;b-2")])

    assert names(run) == ["a-1; b-2"]
    run.die()


ENTRIES = st.lists(
    st.one_of(
        st.sampled_from("abcd").map(task),
        st.sampled_from("abcd").map(lambda name: task(name, key=f"id {name}")),
        st.sampled_from(["a-1", "a-1;b-2", "b-2;c-3"]).map(links),
        st.sampled_from(["a-1;b-2", "c-3"]).map(lambda linked: links(linked, key="id links")),
        st.just(broken()),
        st.sampled_from("xy").map(lambda raw: broken(raw, key="id a")),
    ),
    max_size=8,
)
ANSWERS = st.sampled_from(
    [OK, REFUSED, DOUBT, bad("a-1"), bad("b-2", why=NOT_LINKED), TransportFailure(sent=True, code="x", message="")]
)


HISTORIES = st.lists(st.tuples(ENTRIES, st.lists(ANSWERS, max_size=3)), min_size=2, max_size=4)
"""What stood in the file in each run, and the answers to its first calls."""


@settings(max_examples=60, deadline=None)
@given(files=HISTORIES)
def test_whatever_the_edits_no_ok_row_is_sent_again_and_every_row_is_counted(
    files: list[tuple[list[Entry], list[Answer]]],
) -> None:
    folder = in_memory()
    folder.commit()
    done: set[int] = set()
    for entries, answers in files:
        folder.db.execute("begin immediate")
        run = Run.__new__(Run)
        run.folder = folder
        changes = run.again(entries)
        assert (
            changes.same + changes.new + changes.changed + changes.changed_after_ok + changes.changed_in_doubt
            == len(entries)
        )
        todo = set(run.query("select id from job where todo = 1"))
        assert not todo & done
        for call, answer in zip(run.calls(), answers, strict=False):
            run.answer(call, answer)
        run.folder.settle_leftovers()
        run.folder.finish(now=0.0, exit_code=0, facts={})
        done |= set(run.query("select id from job where state = 'ok'"))
    folder.abandon()
