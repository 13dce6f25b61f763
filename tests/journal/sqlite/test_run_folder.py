"""A run folder: one owner at a time, all or nothing, and a clear word where it cannot be used."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from d3async.d3.response import Reply
from d3async.errors import ConservationError, FencedError, FolderHeldError, JournalError
from d3async.journal.model import Selection
from d3async.journal.sqlite.run_folder import in_memory, open_folder
from d3async.journal.sqlite.schema import VERSION
from tests.journal.ground import NOW, Run, broken, links, load, task

OK = Reply("ok")


def changed(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path / "journal.sqlite")) as db, db:
        db.execute(sql)


def test_the_folder_is_made_for_the_owner_alone(tmp_path: Path) -> None:
    run = Run(tmp_path / "deep" / "x.d3run", [task("a")])

    assert (tmp_path / "deep" / "x.d3run").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "deep" / "x.d3run" / "journal.sqlite").stat().st_mode & 0o777 == 0o600
    run.end()


def test_a_folder_made_for_nothing_disappears(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "x.d3run")
    load(folder, [task("a")])
    folder.abandon()

    assert list(tmp_path.iterdir()) == []


def test_abandoning_leaves_an_older_journal_as_it_was(tmp_path: Path) -> None:
    first = Run(tmp_path, [task("a")])
    first.answer_all(OK)
    first.end()
    folder = open_folder(tmp_path)
    load(folder, [task("b"), task("c")])
    folder.begin(Selection(), now=NOW, facts={})
    folder.abandon()

    again = Run(tmp_path, [task("a")])
    assert (again.states(), again.folder.epoch) == (["ok"], 2)
    again.die()


def test_abandoning_after_the_commit_takes_nothing_away(tmp_path: Path) -> None:
    run = Run(tmp_path / "x.d3run", [task("a")])
    run.answer_all(OK)
    run.folder.abandon()

    again = Run(tmp_path / "x.d3run", [task("a")])
    assert again.states() == ["ok"]
    again.die()


def test_a_second_owner_is_told_who_holds_the_folder_and_since_when(tmp_path: Path) -> None:
    run = Run(tmp_path, [task("a")])
    script = (
        "import sys; from pathlib import Path; from d3async.errors import FolderHeldError\n"
        "from d3async.journal.sqlite.run_folder import open_folder\n"
        "try: open_folder(Path(sys.argv[1]))\n"
        "except FolderHeldError as error: print(error.message)"
    )
    told = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True).stdout
    owner = json.loads(str(run.folder.meta_of("owner")))

    assert f"pid {owner['pid']} on {owner['host']}, since 2026-12-01 17:00:00 UTC" in told
    assert "d3async status" in told
    run.die()


def test_a_folder_held_before_its_first_commit_says_that_somebody_is_starting(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "x.d3run")

    with pytest.raises(FolderHeldError, match="just starting"):
        open_folder(tmp_path / "x.d3run")
    folder.abandon()


def test_a_refused_second_owner_leaves_the_lock_to_the_first(tmp_path: Path) -> None:
    run = Run(tmp_path, [task("a")])
    for _ in range(3):
        with pytest.raises(FolderHeldError):
            open_folder(tmp_path)
    run.die()
    Run(tmp_path, [task("a")]).end()

    assert not (tmp_path / ".lock").exists()


def test_every_owner_has_a_higher_epoch_than_the_one_before(tmp_path: Path) -> None:
    epochs = []
    for _ in range(3):
        run = Run(tmp_path, [task("a")])
        epochs.append(run.folder.epoch)
        run.die()

    assert epochs == [1, 2, 3]


def test_a_former_owner_can_neither_settle_nor_finish_what_is_anothers(tmp_path: Path) -> None:
    """Frozen, its lock file taken away by hand, thawed: the new owner's row in flight is not its business."""
    old = Run(tmp_path, [task("a"), task("b")])
    (tmp_path / ".lock").unlink()
    new = Run(tmp_path, [task("a"), task("b")])
    first, second = new.calls()
    new.store.claim(first, NOW)

    with pytest.raises(FencedError):
        old.folder.settle_leftovers()
    with pytest.raises(FencedError):
        old.folder.finish(now=NOW, exit_code=0, facts={})
    assert new.states() == ["sent", "pending"]
    assert new.folder.meta_of("owner") is not None
    new.answer(second, OK)
    old.die()
    new.end()


def test_what_a_killed_owner_had_sent_is_unknown_to_the_next_one(tmp_path: Path) -> None:
    run = Run(tmp_path, [task("a"), task("b"), links("a-1")])
    for call in run.calls()[1:]:
        run.store.claim(call, NOW)
    run.die()
    again = Run(tmp_path, [task("a"), task("b"), links("a-1")])

    assert again.query("select state, code, maybe, done_at from job order by row") == [
        ("pending", None, 0, None),
        ("unknown", "interrupted", 1, None),
        ("unknown", "interrupted", 1, None),
    ]
    assert again.query("select state, maybe from item") == [("unknown", 1)]
    assert again.to_send == 2
    again.die()


def test_a_run_ends_with_its_exit_code_and_without_an_owner(tmp_path: Path) -> None:
    run = Run(tmp_path, [task("a")])
    run.answer_all(OK)
    run.folder.finish(now=NOW + 9, exit_code=4, facts={"version": "x"})

    assert run.query("select started_at, finished_at, exit_code, facts from run") == [
        (NOW, NOW + 9, 4, '{"version": "x"}')
    ]
    assert run.folder.meta_of("owner") is None
    run.folder.close()


def test_what_the_last_run_wrote_is_known_to_the_next_one_and_to_nobody_after_it(tmp_path: Path) -> None:
    first = Run(tmp_path, [task("a")])
    assert first.folder.files_before() == {}
    first.folder.note_files({"results.csv": [1, 2]})
    first.end()

    second = Run(tmp_path, [task("a")])
    assert second.folder.files_before() == {"results.csv": [1, 2]}
    second.end()

    third = Run(tmp_path, [task("a")])
    assert third.folder.files_before() == {}
    third.end()


@pytest.mark.parametrize("spoil", ["delete from job where row = 2", "update meta set value = 4 where key = 'rows'"])
def test_a_run_whose_rows_do_not_add_up_does_not_end_well(tmp_path: Path, spoil: str) -> None:
    run = Run(tmp_path, [task("a"), task("b"), broken()])
    run.store.claim(run.calls()[0], NOW)
    run.folder.db.execute(spoil)

    with pytest.raises(ConservationError):
        run.folder.settle_leftovers()
    assert run.states()[0] == "sent"
    run.die()


def test_a_newer_schema_is_refused_with_what_to_do(tmp_path: Path) -> None:
    Run(tmp_path, [task("a")]).end()
    changed(tmp_path, f"update meta set value = '{VERSION + 1}' where key = 'schema'")

    with pytest.raises(JournalError, match=r"newer d3async.*-o") as caught:
        open_folder(tmp_path)
    assert caught.value.code == "journal_newer"
    changed(tmp_path, f"update meta set value = '{VERSION}' where key = 'schema'")
    Run(tmp_path, [task("a")]).end()


@pytest.mark.parametrize(
    "content",
    [b"not a database at all, but longer than a header" * 10, b"SQLite format 3\x00" + b"\xff" * 5_000, b"x"],
    ids=["text", "torn", "one byte"],
)
def test_a_file_that_is_no_journal_is_left_alone_and_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "journal.sqlite"
    file.write_bytes(content)

    with pytest.raises(JournalError, match=r"journal\.sqlite .*-o"):
        open_folder(tmp_path)
    assert file.read_bytes() == content
    with pytest.raises(JournalError):
        open_folder(tmp_path)


@pytest.mark.parametrize(
    "sql",
    ["drop table meta", "delete from meta where key = 'schema'", "update meta set value = 'x' where key = 'schema'"],
)
def test_somebody_elses_database_is_refused(tmp_path: Path, sql: str) -> None:
    Run(tmp_path, [task("a")]).end()
    changed(tmp_path, sql)

    with pytest.raises(JournalError, match=r"journal\.sqlite"):
        open_folder(tmp_path)


def test_a_journal_torn_in_the_middle_is_an_error_of_the_journal(tmp_path: Path) -> None:
    run = Run(tmp_path, [task(f"{n}") for n in range(500)])
    run.end()
    file = tmp_path / "journal.sqlite"
    whole = file.read_bytes()
    file.write_bytes(whole[:8192] + b"\xff" * (len(whole) - 8192))
    with pytest.raises(JournalError):
        Run(tmp_path, [task("a")])


def test_an_empty_file_is_a_new_journal(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").touch()
    run = Run(tmp_path, [task("a")])

    assert run.to_send == 1
    run.end()


def test_a_journal_whose_maker_was_killed_before_its_first_commit_is_a_new_one(tmp_path: Path) -> None:
    """Its header is on disk already, its tables are not."""
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as db:
        db.execute("pragma journal_mode = wal")
    assert (tmp_path / "journal.sqlite").stat().st_size > 0
    run = Run(tmp_path, [task("a")])

    assert run.to_send == 1
    run.end()


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").touch()

    with pytest.raises(JournalError, match="is a file"):
        open_folder(tmp_path / "x")


@pytest.mark.parametrize("place", ["/proc/d3async-run", "/sys/d3async-run", "/dev/null/x"])
def test_a_place_where_nothing_can_be_written_is_named_with_the_cure(place: str) -> None:
    with pytest.raises(JournalError, match="-o"):
        open_folder(Path(place))


def test_a_folder_that_takes_no_file_is_named_with_the_cure() -> None:
    """/sys/kernel is one, for root too."""
    with pytest.raises(JournalError, match=r"cannot be locked.*-o"):
        open_folder(Path("/sys/kernel"))


def test_a_journal_in_memory_knows_runs_and_rows_all_the_same() -> None:
    folder = in_memory()
    assert folder.meta() == {}
    load(folder, [task("a")])
    folder.begin(Selection(), now=NOW, facts={})
    folder.commit()
    folder.finish(now=NOW, exit_code=0, facts={})

    assert folder.meta_of("rows") == "1"
    folder.close()
