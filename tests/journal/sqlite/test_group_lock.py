"""A journal that another process writes to is waited for, and nothing else waits meanwhile."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from d3async.journal.model import Selection
from d3async.journal.sqlite.group_commit import GroupCommitJournal
from d3async.journal.sqlite.row_claims import RowStore
from d3async.journal.sqlite.run_folder import FILE, open_folder
from tests.journal.ground import NOW, load, task


@pytest.mark.asyncio
async def test_a_claim_waits_for_the_lock_of_another_process_without_holding_up_the_loop(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "tasks.d3run")
    load(folder, [task("1")])
    folder.begin(Selection(), now=NOW, facts={})
    folder.commit()
    grouped = GroupCommitJournal(folder.db, RowStore(folder.db, epoch=1))
    [(_, call)] = await grouped.lanes(-1, 1)
    assert call is not None
    with closing(sqlite3.connect(folder.folder / FILE, isolation_level=None)) as other:
        other.execute("begin immediate")
        claim = asyncio.ensure_future(grouped.claim(call, NOW))
        for _ in range(50):
            await asyncio.sleep(0.001)

        assert not claim.done()

        other.execute("commit")
        await claim
    await grouped.aclose()

    assert folder.db.execute("select state from job").fetchall() == [("sent",)]
    folder.close()
