"""A worker that was only slow may still say what it knows; what it did not send is sent by others."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from d3async.d3.commands.create_task import CreateTask
from d3async.jobs.job import Job, request_of
from d3async.journal.model import Selection
from d3async.journal.postgres import runs
from d3async.journal.postgres.group_commit import Writer, open_chunk
from d3async.journal.postgres.schema import migrate
from d3async.journal.postgres.submission import submission

if TYPE_CHECKING:
    from tests.database import Postgres


def a_job(row: int) -> Job:
    command = CreateTask(incident="1-1", name=f"task {row}", description="d", assignee="a", due="2099-01-01 00:00:00")
    return Job(row, row + 1, f"row {row}", request_of(command), None, "Site", None)


async def _submitted(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await migrate(connection)
    with psycopg.connect(url, autocommit=True) as connection:
        new = submission(connection, "run", "tenant", now=time.time())
        new.add([a_job(1), a_job(2)])
        list(new.duplicates(allow=False))
        new.adopt({"rows": "2", "base_url": "http://127.0.0.1/x"})
        new.begin(Selection(), now=time.time(), facts={})
        new.commit()


@pytest.mark.asyncio
async def test_a_row_that_was_claimed_and_provably_not_sent_is_to_be_sent_again_by_the_new_owner(
    postgres: Postgres,
) -> None:
    url = postgres.database()
    await _submitted(url)
    async with Writer(url) as slow, Writer(url) as other:
        former = await open_chunk(slow, 1, 0, round=1, who="slow", now=1.0)
        (_, call), _ = await former.lanes(-1, 10)
        assert call is not None
        await former.claim(call, 2.0)

        present = await open_chunk(other, 1, 0, round=1, who="other", now=3.0)
        taken_for_lost = present.rows
        former.release(call, sent=False)
        await former.aclose()
        left = await present.aclose()

    async with await psycopg.AsyncConnection.connect(url) as connection:
        [at] = await runs.overview(connection)
    assert taken_for_lost == 1
    assert left == 2
    assert at.to_send == 2
    assert at.outcomes["unsent"] == 2
