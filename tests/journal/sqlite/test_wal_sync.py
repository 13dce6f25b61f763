"""What is committed lasts once the log is on disk; the log is worked into the database now and then."""

import asyncio
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from d3async.journal.model import Selection
from d3async.journal.sqlite.group_commit import GroupCommitJournal, WalSync
from d3async.journal.sqlite.row_claims import RowStore
from d3async.journal.sqlite.run_folder import FILE, open_folder
from tests.journal.ground import NOW, load, task


class Clock:
    """Each look at it takes as long as the next of *steps* says, in seconds."""

    def __init__(self, *steps: float) -> None:
        self._now = 0.0
        self._steps = list(steps)
        self._looks = 0

    def __call__(self) -> float:
        if self._looks % 2:
            self._now += self._steps.pop(0) if self._steps else 0.0
        self._looks += 1
        return self._now


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as opened:
        opened.execute("pragma journal_mode = wal")
        opened.execute("create table t(x)")
        yield opened


def setting(db: sqlite3.Connection, name: str) -> object:
    return db.execute(f"pragma {name}").fetchone()[0]


def test_a_commit_waits_for_no_disk_of_its_own(db: sqlite3.Connection) -> None:
    log = WalSync(db)

    assert (setting(db, "synchronous"), setting(db, "wal_autocheckpoint"), log.in_commit) == (1, 0, False)


def test_a_disk_is_quick_if_it_was_the_last_time(db: sqlite3.Connection) -> None:
    log = WalSync(db, clock=Clock(0.0005, 0.0010, 0.0009))
    seen = [log.quick]
    for _ in range(3):
        log.sync()
        seen.append(log.quick)
    log.close()

    assert seen == [False, True, False, True]


def test_every_128th_time_the_log_is_worked_in_by_who_has_time_for_it(db: sqlite3.Connection, tmp_path: Path) -> None:
    log = WalSync(db, clock=Clock())
    log.sync()
    sizes, quick = [], []
    for _ in range(2, 130):
        db.execute("insert into t values (?)", ("x" * 4000,))
        quick.append(log.quick)
        log.sync()
        sizes.append((tmp_path / FILE).stat().st_size)
    log.close()

    assert [number for number, now in enumerate(quick, 2) if not now] == [128]
    assert len(set(sizes[:126])) == 1
    assert sizes[126] == sizes[127] > 100 * 4096 + sizes[0]


def test_where_there_is_no_log_each_commit_waits(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as db:
        log = WalSync(db)
        log.sync()

        assert (log.in_commit, setting(db, "synchronous")) == (True, 2)


def test_a_database_without_a_file_has_nothing_to_bring_to_disk() -> None:
    with closing(sqlite3.connect("", isolation_level=None)) as db:
        log = WalSync(db)
        log.sync()

        assert not log.in_commit


def test_a_disk_that_refuses_is_heard_of(db: sqlite3.Connection) -> None:
    log = WalSync(db)
    log.sync()
    assert log._file is not None
    os.close(log._file)

    with pytest.raises(OSError, match="Bad file descriptor"):
        log.sync()


@pytest.mark.asyncio
@pytest.mark.parametrize("mode", ["wal", "delete"])
async def test_a_journal_is_kept_with_or_without_a_log(tmp_path: Path, mode: str) -> None:
    folder = open_folder(tmp_path / "tasks.d3run")
    load(folder, [task("1")])
    folder.begin(Selection(), now=NOW, facts={})
    folder.commit()
    assert folder.db.execute(f"pragma journal_mode = {mode}").fetchone() == (mode,)
    journal = GroupCommitJournal(folder.db, RowStore(folder.db, epoch=1))
    [(_, call)] = await journal.lanes(-1, 1)
    assert call is not None
    await journal.claim(call, NOW)
    with closing(sqlite3.connect(folder.folder / FILE)) as other:
        assert other.execute("select state from job").fetchall() == [("sent",)]
    await journal.aclose()
    folder.close()


@pytest.mark.asyncio
async def test_without_a_log_a_claim_waits_for_whoever_reads(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "tasks.d3run")
    load(folder, [task("1")])
    folder.begin(Selection(), now=NOW, facts={})
    folder.commit()
    folder.db.execute("pragma journal_mode = delete")
    journal = GroupCommitJournal(folder.db, RowStore(folder.db, epoch=1))
    [(_, call)] = await journal.lanes(-1, 1)
    assert call is not None
    with closing(sqlite3.connect(folder.folder / FILE, isolation_level=None)) as reader:
        reader.execute("begin")
        reader.execute("select count(*) from job").fetchone()
        claim = asyncio.ensure_future(journal.claim(call, NOW))
        await asyncio.sleep(0.1)
        assert not claim.done()
        reader.execute("commit")
        await claim
    await journal.aclose()

    assert folder.db.execute("select state from job").fetchall() == [("sent",)]
    folder.close()
