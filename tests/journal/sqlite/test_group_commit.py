"""Writes go in groups, in order; a claim is on disk before it returns; nothing that waits is left without a word."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from d3async.d3.call import Call
from d3async.d3.response import Reply
from d3async.errors import FencedError, JournalError
from d3async.journal.model import CallResult, Event, Selection
from d3async.journal.sqlite.group_commit import GroupCommitJournal
from d3async.journal.sqlite.row_claims import RowStore
from d3async.journal.sqlite.run_folder import RunFolder, in_memory
from d3async.policy.outcome import judge
from tests.journal.ground import NOW, load, task


class Disk:
    """Stands before a connection and its log: counts transactions, refuses while *full* or *torn*, waits at *gate*."""

    in_commit = quick = False

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.full = self.torn = False
        self.refuse: Callable[[str], BaseException | None] = lambda _: None
        self.gate: threading.Event | None = None
        self.commits = self.syncs = 0

    def sync(self) -> None:
        assert self.gate is None or self.gate.wait(20)
        if self.torn:
            raise OSError(5, "Input/output error")
        self.syncs += 1

    def close(self) -> None:
        pass

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if self.full and sql == "commit":
            raise sqlite3.OperationalError("database or disk is full")
        if error := self.refuse(sql):
            raise error
        self.commits += sql == "commit"
        return self._db.execute(sql, *values)

    def executemany(self, sql: str, values: Any) -> sqlite3.Cursor:
        if error := self.refuse(sql):
            raise error
        return self._db.executemany(sql, values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


@asynccontextmanager
async def journal(rows: int = 10, **options: Any) -> AsyncIterator[tuple[GroupCommitJournal, Disk, RunFolder]]:
    folder = in_memory()
    load(folder, [task(f"{n}") for n in range(rows)])
    folder.begin(Selection(), now=NOW, facts={})
    folder.commit()
    disk: Any = Disk(folder.db)
    grouped = GroupCommitJournal(disk, RowStore(disk, epoch=1), log=disk, **options)
    try:
        yield grouped, disk, folder
    finally:
        disk.full, disk.torn, disk.refuse, disk.gate = False, False, lambda _: None, None
        with suppress(Exception):
            await grouped.aclose()
        folder.close()


async def calls(grouped: GroupCommitJournal) -> list[Call]:
    return [call for _, call in await grouped.lanes(-1, 100) if call]


def verdict(call: Call) -> CallResult:
    return CallResult(call, judge(call, Reply("ok")), None, NOW)


def states(folder: RunFolder) -> list[str]:
    return [state for (state,) in folder.db.execute("select state from job order by id")]


@pytest.mark.asyncio
async def test_a_claim_that_has_returned_is_on_disk() -> None:
    async with journal() as (grouped, disk, folder):
        call, *_ = await calls(grouped)
        await grouped.claim(call, NOW)

        assert states(folder)[0] == "sent"
        assert (disk.commits, disk.syncs) == (2, 1)


@pytest.mark.asyncio
async def test_outcomes_wait_for_no_disk_of_their_own() -> None:
    async with journal() as (grouped, disk, _):
        call, *_ = await calls(grouped)
        await grouped.claim(call, NOW)
        await grouped.settle(verdict(call))

        assert (disk.commits, disk.syncs) == (3, 1)


@pytest.mark.asyncio
@pytest.mark.parametrize("quick", [False, True])
async def test_only_a_quick_disk_is_waited_for_in_the_loop(quick: bool) -> None:
    async with journal() as (grouped, disk, _):
        threads: list[threading.Thread] = []
        disk.quick = quick
        disk.sync = lambda: threads.append(threading.current_thread())  # type: ignore[method-assign] - who calls it is asked
        call, *_ = await calls(grouped)
        await grouped.claim(call, NOW)

        assert [thread is threading.main_thread() for thread in threads] == [quick]


@pytest.mark.asyncio
async def test_a_claim_that_cannot_be_brought_to_disk_is_refused_and_taken_back_and_the_rest_stands() -> None:
    async with journal() as (grouped, disk, folder):
        one, two, *_ = await calls(grouped)
        await grouped.claim(one, NOW)
        disk.torn = True
        done = grouped.settle(verdict(one))
        with pytest.raises(JournalError, match="Input/output error"):
            await grouped.claim(two, NOW)
        await grouped.flush()

        assert [row.outcome for row in await done] == ["ok"]
        assert states(folder)[:2] == ["ok", "pending"]
        assert folder.db.execute("select attempts, sent_at from job where id = 2").fetchone() == (0, None)


@pytest.mark.asyncio
async def test_claims_that_come_while_one_is_stored_share_the_next_transaction() -> None:
    async with journal() as (grouped, disk, folder):
        found = await calls(grouped)
        disk.commits = 0
        await asyncio.gather(*(grouped.claim(call, NOW) for call in found))

        assert states(folder) == ["sent"] * 10
        assert disk.commits <= 2


@pytest.mark.asyncio
async def test_what_was_learnt_is_written_before_what_is_to_be_sent() -> None:
    async with journal() as (grouped, _, folder):
        call, other, *_ = await calls(grouped)
        await asyncio.gather(grouped.claim(call, NOW), grouped.claim(other, NOW))
        again = asyncio.ensure_future(grouped.claim(call, NOW))
        await asyncio.sleep(0)
        grouped.release(call, sent=True)
        done = grouped.settle(verdict(other))
        await again

        assert [row.outcome for row in await done] == ["ok"]
        assert [row.outcome for row in await grouped.settle(verdict(call))] == ["ok"]
        assert folder.db.execute("select attempts from job where id = 1").fetchone() == (2,)


@pytest.mark.asyncio
async def test_one_refused_write_takes_no_other_with_it() -> None:
    async with journal() as (grouped, _, folder):
        one, two, *_ = await calls(grouped)
        await grouped.claim(one, NOW)
        results = await asyncio.gather(grouped.claim(one, NOW), grouped.claim(two, NOW), return_exceptions=True)

        assert isinstance(results[0], FencedError)
        assert results[1] is None
        assert states(folder)[:2] == ["sent", "sent"]


@pytest.mark.asyncio
async def test_a_full_disk_refuses_claims_at_once_and_keeps_trying_to_store_outcomes() -> None:
    async with journal(patience=30.0) as (grouped, disk, folder):
        one, two, *_ = await calls(grouped)
        await grouped.claim(one, NOW)
        disk.full = True
        done = grouped.settle(verdict(one))
        with pytest.raises(JournalError, match="full"):
            await grouped.claim(two, NOW)
        assert states(folder)[1] == "pending"
        disk.full = False

        assert [row.outcome for row in await done] == ["ok"]
        await grouped.flush()


@pytest.mark.asyncio
async def test_a_claim_that_comes_while_the_disk_refuses_does_not_wait_for_its_patience() -> None:
    async with journal(patience=600.0) as (grouped, disk, _):
        one, two, *_ = await calls(grouped)
        await grouped.claim(one, NOW)
        disk.full = True
        grouped.settle(verdict(one))
        await asyncio.sleep(0.05)

        with pytest.raises(JournalError):
            await asyncio.wait_for(grouped.claim(two, NOW), 20)


@pytest.mark.asyncio
@pytest.mark.parametrize("writes", [1, 3])
async def test_when_patience_ends_every_write_that_waits_is_told(writes: int) -> None:
    async with journal(patience=0.0) as (grouped, disk, _):
        found = (await calls(grouped))[:writes]
        await asyncio.gather(*(grouped.claim(call, NOW) for call in found))
        disk.full = True
        done = [grouped.settle(verdict(call)) for call in found]

        results = await asyncio.wait_for(asyncio.gather(*done, return_exceptions=True), 20)
        assert all(isinstance(result, JournalError) for result in results)
        with pytest.raises(JournalError, match="disk is full"):
            await grouped.flush()


@pytest.mark.asyncio
async def test_an_outcome_that_could_not_be_stored_is_not_forgotten_when_the_disk_recovers() -> None:
    async with journal(patience=0.0) as (grouped, disk, _):
        call, *_ = await calls(grouped)
        await grouped.claim(call, NOW)
        disk.full = True
        grouped.settle(verdict(call))
        await asyncio.sleep(0)
        with pytest.raises(JournalError):
            await grouped.flush()
        disk.full = False
        await grouped.lanes(-1, 1)

        with pytest.raises(JournalError):
            await grouped.flush()


@pytest.mark.asyncio
async def test_a_defect_inside_the_writer_reaches_whoever_waits_and_the_writer_lives_on() -> None:
    async with journal() as (grouped, disk, _):
        call, other, *_ = await calls(grouped)
        disk.refuse = lambda sql: KeyError("a defect") if sql.startswith("update job") else None
        with pytest.raises(KeyError, match="a defect"):
            await asyncio.wait_for(grouped.claim(call, NOW), 20)
        disk.refuse = lambda _: None

        await grouped.claim(other, NOW)


@pytest.mark.asyncio
async def test_a_former_owner_changes_nothing_whatever_it_asks() -> None:
    async with journal() as (grouped, _, folder):
        one, two, *_ = await calls(grouped)
        await grouped.claim(one, NOW)
        folder.db.execute("update meta set value = '2' where key = 'epoch'")
        done = grouped.settle(verdict(one))
        grouped.note(Event(NOW, "stop"))
        with pytest.raises(FencedError):
            await grouped.claim(two, NOW)

        with pytest.raises(FencedError):
            await done
        with pytest.raises(FencedError):
            await grouped.flush()
        assert states(folder)[:2] == ["sent", "pending"]
        assert folder.db.execute("select count(*) from event").fetchone() == (0,)


@pytest.mark.asyncio
@pytest.mark.parametrize("when", ["before it is stored", "while it is stored", "once it is stored"])
async def test_a_claim_that_is_cancelled_leaves_no_mark_and_holds_nobody_up(when: str) -> None:
    async with journal() as (grouped, disk, folder):
        one, two, *_ = await calls(grouped)
        disk.gate = threading.Event()
        first = asyncio.ensure_future(grouped.claim(one, NOW))
        second = asyncio.ensure_future(grouped.claim(two, NOW))
        await asyncio.sleep(0.05 if when == "while it is stored" else 0)
        if when == "once it is stored":
            asyncio.get_running_loop().run_in_executor(None, disk.gate.set)
            second.add_done_callback(lambda _: first.cancel())
        else:
            first.cancel()
            await asyncio.sleep(0)
            disk.gate.set()
        await second
        await grouped.flush()

        expected = "sent" if first.done() and not first.cancelled() else "pending"
        assert states(folder)[:2] == [expected, "sent"]
        assert folder.db.execute("select attempts from job where id = 1").fetchone() == (int(expected == "sent"),)
        if when != "once it is stored":
            assert first.cancelled()


@pytest.mark.asyncio
async def test_closing_stores_what_was_still_waiting() -> None:
    async with journal() as (grouped, _, folder):
        call, *_ = await calls(grouped)
        await grouped.claim(call, NOW)
        grouped.settle(verdict(call))
        await grouped.aclose()

        assert states(folder)[0] == "ok"


@pytest.mark.asyncio
async def test_once_the_journal_is_gone_nothing_is_claimed_and_what_was_learnt_is_still_stored() -> None:
    lost: list[JournalError] = []
    async with journal(gone=lambda: lost[0] if lost else None) as (grouped, disk, folder):
        first, second, *_ = await calls(grouped)
        await grouped.claim(first, NOW)
        lost.append(JournalError("gone"))
        syncs = disk.syncs
        settled = grouped.settle(verdict(first))
        with pytest.raises(JournalError, match="gone"):
            await grouped.claim(second, NOW)
        await settled

        assert states(folder)[:2] == ["ok", "pending"]
        assert disk.syncs == syncs
