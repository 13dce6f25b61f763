"""Claims are compare-and-set, releases give back exactly what was there, outcomes reach every row of a call."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from d3async.d3.call import Call
from d3async.d3.response import AmbiguousAnswer, ItemError, Refused, Reply
from d3async.errors import ConservationError, FencedError
from d3async.journal.model import CallResult, Event
from d3async.journal.sqlite.row_claims import RowStore
from d3async.policy.outcome import judge
from tests.journal.ground import NOW, Run, links, task

OK = Reply("ok")
DOUBT = AmbiguousAnswer("http_500", "Unexpected Error.", 500)
NOT_LINKED = "The source incident is not linked to this incident."


@pytest.fixture
def tasks(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path, [task("a"), task("b")])
    yield run
    run.die()


@pytest.fixture
def merged(tmp_path: Path) -> Iterator[Run]:
    """Three rows of one source: one call."""
    run = Run(tmp_path, [links("a-1;b-2"), links("b-2;c-3"), links("d-4")])
    yield run
    run.die()


def job(run: Run, *columns: str) -> list[object]:
    return run.query(f"select {', '.join(columns)} from job order by id")


def settled(run: Run, call: Call, answer: Reply | Refused | AmbiguousAnswer) -> list[tuple[int, str]]:
    rows = run.store.settle(CallResult(call, judge(call, answer), '{"error":""}', NOW + 1))
    return [(row.row, row.outcome) for row in rows]


def test_a_claim_marks_the_row_sent_with_time_owner_and_attempt(tasks: Run) -> None:
    first, _ = tasks.calls()
    tasks.store.claim(first, NOW)

    assert job(tasks, "state", "prior", "attempts", "sent_at", "epoch") == [
        ("sent", "pending", 1, NOW, 1),
        ("pending", None, 0, None, None),
    ]


def test_a_task_is_claimed_once(tasks: Run) -> None:
    """Also not by the owner itself: a task sent twice is a task twice."""
    first, _ = tasks.calls()
    tasks.store.claim(first, NOW)

    with pytest.raises(FencedError) as caught:
        tasks.store.claim(first, NOW)
    assert caught.value.code == "fenced"
    assert job(tasks, "state", "attempts")[0] == ("sent", 1)


def test_a_row_that_has_an_outcome_is_not_claimed(tasks: Run) -> None:
    first, _ = tasks.calls()
    tasks.answer(first, OK)

    with pytest.raises(FencedError):
        tasks.store.claim(first, NOW)


def test_a_row_left_out_of_this_run_is_not_claimed(tmp_path: Path) -> None:
    run = Run(tmp_path, [task("a", selected=False)])
    call = Call("CreateTask", {}, None, "SOC", 1, "20220125-1", job=1)

    with pytest.raises(FencedError):
        run.store.claim(call, NOW)
    run.die()


def test_links_in_doubt_may_be_claimed_again_by_their_owner(merged: Run) -> None:
    (call,) = merged.calls()
    merged.store.claim(call, NOW)
    merged.store.claim(call.after_doubt(), NOW + 1)

    assert job(merged, "state", "prior", "attempts") == [("sent", "sent", 2)] * 3
    assert merged.query("select distinct maybe from item") == [1]


def test_links_sent_by_another_owner_are_not_claimed(merged: Run) -> None:
    (call,) = merged.calls()
    merged.store.claim(call, NOW)
    merged.folder.db.execute("update job set epoch = 99 where id = 2")

    with pytest.raises(FencedError):
        merged.store.claim(call, NOW)


def test_a_call_is_claimed_as_a_whole_or_not_at_all(merged: Run) -> None:
    (call,) = merged.calls()
    merged.folder.db.execute("update job set state = 'sent', epoch = 99 where id = 3")

    with pytest.raises(FencedError):
        merged.store.claim(call, NOW)


def test_a_claim_of_links_nobody_has_to_send_is_refused(merged: Run) -> None:
    (call,) = merged.calls()
    merged.answer(call, OK)

    with pytest.raises(FencedError):
        merged.store.claim(call, NOW)


@pytest.mark.parametrize(("left", "attempts", "sent_at"), [(True, 1, NOW), (False, 0, None)])
def test_a_release_gives_back_the_state_and_the_attempt_unless_it_left(
    tasks: Run, left: bool, attempts: int, sent_at: float | None
) -> None:
    first, _ = tasks.calls()
    tasks.store.claim(first, NOW)
    tasks.store.release(first, sent=left)

    assert job(tasks, "state", "attempts", "sent_at")[0] == ("pending", attempts, sent_at)
    tasks.store.claim(first, NOW)
    assert job(tasks, "state", "attempts")[0] == ("sent", attempts + 1)


def test_a_release_leaves_an_earlier_attempt_in_doubt_sent(merged: Run) -> None:
    (call,) = merged.calls()
    merged.store.claim(call, NOW)
    merged.store.claim(call.after_doubt(), NOW + 1)
    merged.store.release(call, sent=False)

    assert job(merged, "state", "attempts") == [("sent", 1)] * 3
    assert merged.query("select distinct item.state from item") == ["sent"]


def test_a_release_gives_every_item_its_own_state_back(tmp_path: Path) -> None:
    first = Run(tmp_path, [links("a-1;b-2;c-3")])
    (call,) = first.calls()
    first.answer(call, Reply("partial", (ItemError("b-2", "closed"),)))
    first.end()
    run = Run(tmp_path, [links("a-1;b-2;c-3")])
    (call,) = run.calls()
    run.store.claim(call, NOW)
    run.store.release(call, sent=True)

    assert run.states() == ["partial"]
    assert run.items() == [("a-1", "ok"), ("b-2", "failed"), ("c-3", "ok")]
    run.die()


def test_a_release_touches_no_link_of_another_source(tmp_path: Path) -> None:
    run = Run(tmp_path, [links("a-1", source="1-1"), links("a-1", source="2-2"), links("b-2", source="1-1")])
    one = run.store.take(1, 1)
    other = run.store.take(2, 1)
    assert one is not None
    assert other is not None
    for call in (one, other):
        run.store.claim(call, NOW)
    run.store.release(one, sent=False)

    assert run.items() == [("a-1", "pending"), ("a-1", "sent"), ("b-2", "pending")]
    run.die()


def test_a_release_after_the_outcome_changes_nothing(tasks: Run) -> None:
    first, _ = tasks.calls()
    tasks.answer(first, OK)
    tasks.store.release(first, sent=False)

    assert job(tasks, "state", "attempts")[0] == ("ok", 1)


def test_a_release_by_a_former_owner_changes_nothing(tasks: Run) -> None:
    first, _ = tasks.calls()
    tasks.store.claim(first, NOW)
    RowStore(tasks.folder.db, epoch=99).release(first, sent=False)

    assert job(tasks, "state")[0] == "sent"


def test_an_outcome_is_recorded_with_all_that_is_known(tasks: Run) -> None:
    first, _ = tasks.calls()
    tasks.store.claim(first, NOW)

    assert settled(tasks, first, Refused("http_400", "no\nway", 400)) == [(1, "failed")]
    assert job(tasks, "state", "code", "message", "http", "done_at", "todo", "maybe")[0] == (
        "failed", "http_400", "no way", 400, NOW + 1, 0, 0,
    )  # fmt: skip
    assert tasks.query("select body from answer") == ['{"error":""}']


@pytest.mark.parametrize("again", [False, True])
def test_an_answer_for_a_row_that_was_not_sent_is_a_defect(tasks: Run, again: bool) -> None:
    first, _ = tasks.calls()
    if again:
        tasks.answer(first, OK)

    with pytest.raises(ConservationError):
        settled(tasks, first, OK)


def test_an_answer_for_links_that_were_not_sent_is_a_defect(merged: Run) -> None:
    (call,) = merged.calls()

    with pytest.raises(ConservationError):
        settled(merged, call, OK)


def test_an_answer_for_more_links_than_were_sent_is_a_defect(merged: Run) -> None:
    call = merged.store.take(1, 1)
    assert call is not None
    merged.store.claim(call, NOW)

    with pytest.raises(ConservationError):
        settled(merged, call._replace(items=("a-1", "z-9")), OK)


def test_an_answer_settles_no_row_of_another_source(tmp_path: Path) -> None:
    run = Run(tmp_path, [links("a-1", source="1-1"), links("a-1", source="2-2")])
    one, other = run.calls()
    run.store.claim(other, NOW)
    run.answer(one, OK)

    assert run.states() == ["ok", "sent"]
    assert run.items() == [("a-1", "ok"), ("a-1", "sent")]
    run.die()


@pytest.mark.parametrize(("answer", "maybe"), [(OK, 0), (DOUBT, 1)], ids=["proof", "doubt"])
def test_only_an_answer_that_leaves_a_doubt_is_remembered_as_one(
    tmp_path: Path, answer: Reply | AmbiguousAnswer, maybe: int
) -> None:
    run = Run(tmp_path, [links("a-1;b-2"), task("t")])
    for call in run.calls():
        run.answer(call, answer)

    assert run.query("select maybe from item") == [maybe, maybe]
    assert run.query("select maybe from job where command = 'CreateTask'") == [maybe]
    run.die()


def test_one_call_settles_every_row_it_carried_and_an_item_of_two_rows_in_both(merged: Run) -> None:
    (call,) = merged.calls()
    assert call.items == ("a-1", "b-2", "c-3", "d-4")
    merged.store.claim(call, NOW)

    assert settled(merged, call, Reply("partial", (ItemError("B-2", "closed"),))) == [
        (1, "partial"), (2, "partial"), (3, "ok"),
    ]  # fmt: skip
    assert merged.items() == [("a-1", "ok"), ("b-2", "failed"), ("b-2", "failed"), ("c-3", "ok"), ("d-4", "ok")]
    assert job(merged, "attempts", "code") == [(1, "item_error"), (1, "item_error"), (1, "")]


def test_a_row_spread_over_calls_is_finished_by_the_last_of_them(merged: Run) -> None:
    one = merged.store.take(1, 2)
    assert one is not None
    merged.store.claim(one, NOW)

    assert settled(merged, one, OK) == [(1, "ok")]
    assert job(merged, "state", "message")[1] == ("pending", "1 of its items are not sent yet.")
    two = merged.store.take(1, 2)
    assert two is not None
    assert two.items == ("c-3", "d-4")
    merged.store.claim(two, NOW)
    assert settled(merged, two, DOUBT) == [(2, "unknown"), (3, "unknown")]
    assert merged.store.take(1, 2) is None


def test_a_row_with_thousands_of_items_is_not_called_final_by_the_first_of_them(tmp_path: Path) -> None:
    numbers = [f"x-{n}" for n in range(1_200)]
    run = Run(tmp_path, [links(";".join(numbers))])
    while call := run.store.take(1, 700):
        closed = [ItemError(n, "closed" if n == "x-1199" else NOT_LINKED) for n in call.items]
        run.answer(call, Reply("failed", tuple(closed)))

    assert job(run, "state", "code") == [("failed", "item_error")]
    run.end()


def test_the_lanes_come_in_order_and_each_once(tmp_path: Path) -> None:
    run = Run(tmp_path, [links("a-1"), task("x"), links("b-2"), task("y"), links("c-3", source="1-1")])

    assert [(lane, call is None) for lane, call in run.store.lanes(-1, 10)] == [
        (1, True),
        (2, False),
        (4, False),
        (5, True),
    ]
    assert [lane for lane, _ in run.store.lanes(2, 10)] == [4, 5]
    run.die()


def test_serial_lanes_hand_out_one_row_after_the_other(tmp_path: Path) -> None:
    run = Run(tmp_path, [task("x"), task("y")], serial=True)
    assert run.store.lanes(-1, 10) == [(1, None)]
    found = []
    while call := run.store.take(1, 50):
        found.append(call.params["Task Name"])
        run.answer(call, OK)

    assert found == ["x", "y"]
    run.die()


def test_numbers_with_nul_quotes_and_other_scripts_keep_their_identity(tmp_path: Path) -> None:
    odd = ["a\x001", "b'2", 'c"3', "пример-4", "d%5", "e_6"]
    run = Run(tmp_path, [links(number) for number in odd])
    (call,) = run.calls()

    assert list(call.items) == odd
    run.answer(call, Reply("partial", (ItemError("a\x001", "closed"),)))
    assert run.states() == ["failed", "ok", "ok", "ok", "ok", "ok"]
    run.end()


def test_a_former_owner_is_told_so_before_it_changes_anything(tmp_path: Path) -> None:
    old = Run(tmp_path, [task("a")])
    old.die()
    new = Run(tmp_path, [task("a")])
    with sqlite3.connect(tmp_path / "journal.sqlite") as db, pytest.raises(FencedError) as caught:
        RowStore(db, epoch=1).guard()
    assert caught.value.code == "fenced"
    db.close()
    new.store.guard()
    new.die()


def test_a_forked_copy_of_the_process_is_told_so(tasks: Run) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            tasks.store.guard()
        except FencedError as error:
            os._exit(error.code != "fenced")
        os._exit(1)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_events_are_kept_with_the_run_they_belong_to(tasks: Run) -> None:
    tasks.store.note(Event(NOW, "throttled", 2.0, "slow down"))

    assert tasks.query("select * from event") == [(1, NOW, "throttled", 2.0, "slow down")]
