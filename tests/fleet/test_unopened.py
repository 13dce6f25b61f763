"""Chunks nobody has opened yet are work like any other: found, given up, stopped, counted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psycopg
import pytest

from d3async.journal.postgres import runs
from d3async.journal.postgres.group_commit import Writer, open_chunk
from d3async.journal.postgres.reader import FleetRunReader, fleet_snapshot
from d3async.policy.halt_and_exit_codes import Stop
from tests.fleet.ground import OUTCOMES
from tests.fleet.test_chunks import asked, ready, submit

if TYPE_CHECKING:
    from tests.database import Postgres

NOWHERE = "http://127.0.0.1:9/x"


def stands(url: str) -> tuple[int, int, bool]:
    """Rows unsent and to be sent of the only run, and whether it is open, as `status` tells."""
    with psycopg.connect(url) as connection:
        [run] = fleet_snapshot(connection, now=9.0).runs
        assert fleet_snapshot(connection, now=9.0, name="run").runs == [run]
    return run.outcomes["unsent"], run.to_send, run.open


@pytest.mark.asyncio
async def test_a_run_that_was_only_submitted_waits_whole_and_is_not_over(postgres: Postgres) -> None:
    url = await ready(postgres)
    submit(url, NOWHERE, count=5, chunk_rows=2)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        at = await runs.next_chunk(connection, "tenant")
        waiting = await runs.sweep(connection, now=9.0)
        over = await runs.finish_if_over(connection, 1, now=9.0)
        assert at is not None
        before = await runs.so_far(connection, at)

    assert (at.chunk, waiting, over) == (0, {"tenant"}, False)
    assert (before.counts.total(), before.rows) == (0, 5)
    assert stands(url) == (5, 5, True)


@pytest.mark.asyncio
async def test_a_chunk_that_is_opened_is_counted_once_and_the_others_still_are(postgres: Postgres) -> None:
    url = await ready(postgres)
    submit(url, NOWHERE, count=5, chunk_rows=2)
    async with Writer(url) as writer:
        journal = await open_chunk(writer, 1, 1, round=1, who="me", now=9.0)
        assert stands(url) == (5, 5, True)
        await journal.aclose()

    assert await asked(url, "select id from d3async_job order by id") == [(3,), (4,)]
    assert stands(url) == (5, 5, True)


@pytest.mark.asyncio
async def test_an_untouched_chunk_that_is_given_up_stays_unsent_and_says_why(postgres: Postgres) -> None:
    url = await ready(postgres)
    submit(url, NOWHERE, count=5, chunk_rows=2)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        at = await runs.next_chunk(connection, "tenant")
        assert at is not None
        await runs.give_up(connection, at, "crashed", "given up", who="me", now=9.0)
        after = await runs.next_chunk(connection, "tenant")

    assert after is not None
    assert after.chunk == 1
    assert stands(url) == (5, 3, True)
    with FleetRunReader(url, "run") as reader:
        reader.check()
        assert [(row.outcome, row.code, row.message) for row in reader.rows()] == [
            ("unsent", "crashed", "given up"),
        ] * 2 + [("unsent", "", "")] * 3


@pytest.mark.parametrize(("halted", "reason"), [(True, "halt"), (False, None)], ids=["halted", "cancelled"])
@pytest.mark.asyncio
async def test_a_run_that_is_stopped_before_anybody_opened_it_is_over_with_all_its_rows(
    postgres: Postgres, *, halted: bool, reason: str | None
) -> None:
    url = await ready(postgres)
    submit(url, NOWHERE, count=5, chunk_rows=2)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        at = await runs.next_chunk(connection, "tenant")
        assert at is not None
        if halted:
            await runs.stop(connection, at, Stop("halt", "--halt failed=1"), now=9.0)
        else:
            await runs.cancel(connection, 1, now=9.0)
        none = await runs.next_chunk(connection, "tenant")
        waiting = await runs.sweep(connection, now=9.0)

    [(code, facts)] = await asked(url, "select exit_code, facts from d3async_round where finished_at is not null")
    assert (none, waiting) == (None, set())
    assert code == 5
    assert json.loads(facts).get("stop", {}).get("code") == reason
    assert stands(url) == (5, 5, False)
    assert await asked(url, OUTCOMES) == [("pending", 5)]


@pytest.mark.asyncio
async def test_status_is_told_while_a_run_is_being_forgotten(postgres: Postgres) -> None:
    url = await ready(postgres)
    submit(url, NOWHERE, name="gone", count=3)
    submit(url, NOWHERE, count=2)
    async with Writer(url) as writer:
        await (await open_chunk(writer, 1, 0, round=1, who="me", now=9.0)).aclose()
    await forgotten(url)
    assert stands(url) == (2, 2, True)


async def forgotten(url: str) -> None:
    """The first of the transactions that forget the first run, and no other."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        for table, key in (("run", "id"), ("round", "run"), ("chunk", "run")):
            await connection.execute(f"delete from d3async_{table} where {key} = 1".encode())
