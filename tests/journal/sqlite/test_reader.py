"""The journal as its readers see it: one moment, nothing changed, every outcome counted once."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from d3async.errors import ConservationError, JournalError
from d3async.journal.model import INTERRUPTED, FolderOwner
from d3async.journal.sqlite.reader import FILE, FolderReader
from tests.journal.factory import LINK_HEADER, START, Entry, Told, every_outcome, make, unsent

if TYPE_CHECKING:
    from pathlib import Path


def links(folder: Path, *rows: tuple[str, tuple[str, ...]]) -> Path:
    """A journal of RemoveLinkedIncidents rows, each (state, states of its items)."""
    entries = [
        Entry(f"S-{number},x", state, items=tuple((f"L-{at}", item, "", "") for at, item in enumerate(items)))
        for number, (state, items) in enumerate(rows, 1)
    ]
    return make(folder, entries, header=LINK_HEADER, command="RemoveLinkedIncidents")


def change(folder: Path, sql: str) -> None:
    with closing(sqlite3.connect(folder / FILE)) as db, db:
        db.execute(sql)


def test_every_row_of_the_file_has_one_of_six_outcomes_and_vanished_rows_none(tmp_path: Path) -> None:
    with FolderReader(every_outcome(tmp_path) / FILE) as reader:
        assert reader.counts() == {"ok": 1, "partial": 0, "failed": 1, "unknown": 2, "invalid": 1, "unsent": 1}
        assert reader.vanished() == 1
        assert reader.in_flight() == 1


def test_a_row_sent_without_an_answer_is_unknown_and_says_that_it_may_have_happened(tmp_path: Path) -> None:
    with FolderReader(every_outcome(tmp_path) / FILE) as reader:
        sent = list(reader.rows(("unknown",)))[-1]
    assert (sent.row, sent.outcome, sent.code, sent.message) == (6, "unknown", "interrupted", INTERRUPTED)


def test_rows_come_in_the_order_of_the_file_whatever_order_they_were_stored_in(tmp_path: Path) -> None:
    folder = make(tmp_path, [Entry(text) for text in "abc"])
    change(folder, "update job set row = 4 - row")
    with FolderReader(folder / FILE) as reader:
        assert [(row.row, row.raw) for row in reader.rows()] == [(1, "c"), (2, "b"), (3, "a")]


def test_only_rows_of_the_chosen_outcomes_come(tmp_path: Path) -> None:
    with FolderReader(every_outcome(tmp_path) / FILE) as reader:
        assert [row.row for row in reader.rows(("failed", "unsent"))] == [2, 5]
        assert [row.row for row in reader.rows(())] == []


def test_label_and_answer_are_told_only_where_asked_for(tmp_path: Path) -> None:
    folder = make(tmp_path, [Entry("a", answer="{}")])
    with FolderReader(folder / FILE) as reader:
        (short,), (full,) = reader.rows(), reader.rows(full=True)
        assert (short.label, short.answer) == (None, None)
        assert full.label == "20260125-77"
        assert reader.answer(full.answer) == "{}"


@pytest.mark.parametrize(
    ("state", "items", "expected"),
    [
        ("ok", ("ok", "ok"), (2, 0, 0)),
        ("partial", ("ok", "failed", "failed"), (1, 2, 0)),
        ("unknown", ("ok", "failed", "unknown"), (1, 1, 1)),
        ("sent", ("sent", "ok"), (1, 0, 1)),
        ("pending", ("pending", "pending"), (None, None, None)),
        ("pending", ("ok", "pending"), (1, 0, 0)),
        ("invalid", (), (None, None, None)),
    ],
)
def test_item_counts_are_of_items_that_were_tried_and_empty_where_none_was(
    tmp_path: Path, state: str, items: Any, expected: Any
) -> None:
    folder = links(tmp_path, (state, items), ("ok", ("ok",)))
    with FolderReader(folder / FILE) as reader:
        row = next(reader.rows())
    assert (row.items_ok, row.items_failed, row.items_unknown) == expected


def test_items_come_with_their_rows_in_the_order_of_both(tmp_path: Path) -> None:
    folder = links(tmp_path, ("ok", ("ok", "ok")), ("pending", ("pending",)), ("sent", ("sent",)))
    change(folder, "update job set row = 4 - row")
    with FolderReader(folder / FILE) as reader:
        found = [(item.row, item.item, item.outcome) for item in reader.items()]
        assert reader.item_counts() == {"ok": 2, "failed": 0, "unknown": 1, "unsent": 1}
    assert found == [(1, "L-0", "unknown"), (2, "L-0", "unsent"), (3, "L-0", "ok"), (3, "L-1", "ok")]


def test_what_is_read_belongs_to_one_moment_although_a_run_goes_on_writing(tmp_path: Path) -> None:
    folder = make(tmp_path, [unsent("a"), unsent("b")])
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as run:
        run.execute("pragma journal_mode = wal")
        run.execute("begin immediate")
        with FolderReader(folder / FILE) as reader:
            assert reader.counts()["unsent"] == 2
            run.execute("update job set state = 'ok'")
            run.execute("commit")
            assert reader.counts()["unsent"] == 2
            assert [row.outcome for row in reader.rows()] == ["unsent", "unsent"]
        with FolderReader(folder / FILE) as later:
            assert later.counts()["ok"] == 2


def test_reading_changes_nothing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = every_outcome(tmp_path)
    change(folder, "pragma journal_mode = wal")
    before = (folder / FILE).read_bytes()
    with FolderReader(folder / FILE) as reader:
        list(reader.rows())
        with pytest.raises(JournalError, match="readonly"):
            reader.query("delete from job")
    assert (folder / FILE).read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == [FILE]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_can_be_read(tmp_path: Path) -> None:
    folder = every_outcome(tmp_path)
    change(folder, "pragma journal_mode = wal")
    (folder / FILE).chmod(0o400)
    folder.chmod(0o500)
    try:
        with FolderReader(folder / FILE) as reader:
            assert reader.counts()["ok"] == 1
    finally:
        folder.chmod(0o700)


def test_a_journal_of_a_newer_d3async_is_refused_with_what_to_do(tmp_path: Path) -> None:
    folder = make(tmp_path, [], schema="99")
    with pytest.raises(JournalError, match=r"newer d3async \(journal version 99.*update this one"):
        FolderReader(folder / FILE)


@pytest.mark.parametrize(
    "content", [b"", b"not a database at all, but long enough to look at" * 50, b"SQLite format 3\0"]
)
def test_a_file_that_is_no_journal_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(JournalError):
        FolderReader(tmp_path / FILE)


def test_a_journal_without_a_table_is_of_a_run_that_was_cut_short_at_once(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE)) as db:
        db.execute("pragma journal_mode = wal")
    with pytest.raises(JournalError, match="holds no run yet: one was cut short there before it sent anything"):
        FolderReader(tmp_path / FILE)


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE)) as db:
        db.execute("create table meta(key text, value text)")
    with pytest.raises(JournalError, match="is not a journal of d3async"):
        FolderReader(tmp_path / FILE)


def test_a_torn_journal_is_refused_and_not_half_read(tmp_path: Path) -> None:
    folder = make(tmp_path, [Entry("x" * 500) for _ in range(500)])
    whole = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(JournalError, match="cannot be read"), FolderReader(folder / FILE) as reader:
        list(reader.rows())


def test_a_missing_journal_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="d3async run FILE"):
        FolderReader(tmp_path / FILE)


def test_the_owner_is_told_while_there_is_one(tmp_path: Path) -> None:
    with FolderReader(make(tmp_path / "free", []) / FILE) as reader:
        assert reader.owner() is None
    held = make(tmp_path / "held", [], owner={"pid": 7, "host": "soc-3", "since": START})
    with FolderReader(held / FILE) as reader:
        assert reader.owner() == FolderOwner(7, "soc-3", START)


def test_runs_come_with_their_facts_also_one_that_was_cut_short(tmp_path: Path) -> None:
    folder = make(tmp_path, [], runs=(Told({"requests": 3}), Told(finished_at=None, exit_code=None)))
    change(folder, "update run set facts = null where epoch = 2")
    with FolderReader(folder / FILE) as reader:
        first, second = reader.runs()
    assert (first.epoch, first.facts, first.exit_code) == (1, {"requests": 3}, 0)
    assert (second.facts, second.finished_at, second.exit_code) == ({}, None, None)


def test_a_journal_that_adds_up_passes(tmp_path: Path) -> None:
    with FolderReader(every_outcome(tmp_path) / FILE) as reader:
        reader.check()


@pytest.mark.parametrize(
    "damage",
    [
        "delete from job where row = 2",
        "update job set row = 9 where row = 2",
        "update meta set value = '7' where key = 'rows'",
        "update job set state = 'done' where row = 2",
    ],
)
def test_rows_that_do_not_add_up_are_a_defect(tmp_path: Path, damage: str) -> None:
    folder = every_outcome(tmp_path)
    change(folder, damage)
    with FolderReader(folder / FILE) as reader, pytest.raises(ConservationError):
        reader.check()


@pytest.mark.parametrize(
    ("state", "items", "adds_up"),
    [
        ("ok", ("ok", "ok"), True),
        ("ok", ("ok", "failed"), False),
        ("ok", ("ok", "pending"), False),
        ("partial", ("ok", "failed"), True),
        ("partial", ("ok", "ok"), False),
        ("partial", ("failed", "failed"), False),
        ("partial", ("ok", "unknown"), False),
        ("failed", ("failed",), True),
        ("failed", ("failed", "ok"), False),
        ("failed", ("failed", "unknown"), False),
        ("unknown", ("unknown", "ok", "failed"), True),
        ("unknown", ("failed", "ok"), False),
        ("sent", ("sent", "pending", "ok"), True),
        ("pending", ("pending", "failed"), True),
        ("failed", ("wrong",), False),
    ],
)
def test_the_items_of_a_row_are_what_its_outcome_says(tmp_path: Path, state: str, items: Any, adds_up: bool) -> None:
    with FolderReader(links(tmp_path, (state, items)) / FILE) as reader:
        if adds_up:
            reader.check()
        else:
            with pytest.raises(ConservationError, match="row 1"):
                reader.check()


def test_a_row_still_to_be_sent_may_have_items_of_any_state(tmp_path: Path) -> None:
    folder = links(tmp_path, ("partial", ("ok", "pending")))
    change(folder, "update job set todo = 1")
    with FolderReader(folder / FILE) as reader:
        reader.check()
        assert reader.to_send() == 1


def test_meta_is_handed_out_as_it_is(tmp_path: Path) -> None:
    with FolderReader(every_outcome(tmp_path) / FILE) as reader:
        assert json.loads(reader.meta()["header"]) == ["incident", "name", "assignee", "due"]
