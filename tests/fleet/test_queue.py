"""The queue: a place a tenant, first come first served; nothing is lost with a worker, or by one that was slow."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from d3async.config.database_urls import needed
from d3async.errors import JournalError
from d3async.fleet import queue
from d3async.fleet.queue import LostJobs, prepare
from d3async.fleet.worker import FleetWorker, WorkerPace, pooled
from tests.database import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from procrastinate import App
    from procrastinate.jobs import Job

    from d3async.fleet.queue import WaitingConnector
    from tests.database import Postgres

QUICK = WorkerPace(tenants=2, poll=0.1, stalled_after=1.0)


@asynccontextmanager
async def opened(postgres: Postgres) -> AsyncIterator[tuple[App, WaitingConnector, str]]:
    url = postgres.database()
    await prepare(needed(url, {}))
    async with queue.opened(needed(url, {})) as (app, connector):
        yield app, connector, url


async def fetch(app: App, worker: int, *tenants: str) -> Job | None:
    return await app.job_manager.fetch_job(queues=[queue.queue_of(tenant) for tenant in tenants], worker_id=worker)


async def until(seen: Callable[[], bool]) -> None:
    """Wait for a state nobody tells of."""
    while not seen():  # noqa: ASYNC110 - as said
        await asyncio.sleep(0.05)


async def never(worker: int, running: frozenset[int] = frozenset()) -> None:
    """Nothing to reap, nobody to tell."""


def worker_of(
    app: App, connector: WaitingConnector, turn: Callable[[str], Awaitable[float | None]], **more: Any
) -> FleetWorker:
    given = {"tenants": ["a", "b"], "pace": QUICK, "reap": never, "joined": never, **more}
    return FleetWorker(app, connector, turn, **given)


@pytest.mark.asyncio
async def test_the_tables_are_made_once_however_many_ask_at_once(postgres: Postgres) -> None:
    address = needed(postgres.database(), {})

    await asyncio.gather(*(prepare(address) for _ in range(4)))
    await prepare(address)

    async with await psycopg.AsyncConnection.connect(address.conninfo) as connection:
        found = await connection.execute("select count(*) from pg_tables where tablename = 'procrastinate_jobs'")
        assert await found.fetchone() == (1,)


@pytest.mark.asyncio
async def test_a_queue_of_an_older_procrastinate_is_brought_up_and_one_of_a_newer_is_left_alone(
    postgres: Postgres,
) -> None:
    address = needed(postgres.database(), {})
    await prepare(address)
    async with await psycopg.AsyncConnection.connect(address.conninfo, autocommit=True) as connection:
        found = await (await connection.execute("select name from d3async_queue.d3async_migration")).fetchone()
        await connection.execute(
            "update d3async_queue.d3async_migration set name = '03.04.00_01_pre_add_retry_failed_job_procedure.sql'"
        )
        await prepare(address)
        now = await (await connection.execute("select name from d3async_queue.d3async_migration")).fetchone()
        await connection.execute("update d3async_queue.d3async_migration set name = '99'")

        with pytest.raises(JournalError, match="newer procrastinate"):
            await prepare(address)

    assert now == found


@pytest.mark.asyncio
async def test_a_tenant_has_one_place_and_is_served_by_one_worker_at_a_time(postgres: Postgres) -> None:
    async with opened(postgres) as (app, _, _):
        added = [await queue.defer(app, tenants) for tenants in (["a", "b", "a"], ["b", "a"], ["b", "c"])]
        one, two = [await app.job_manager.register_worker() for _ in range(2)]
        first = await fetch(app, one, "a")
        await queue.defer(app, ["a"])

        assert added == [2, 0, 1]
        assert first is not None
        assert await fetch(app, two, "a") is None
        assert await queue.present(app) == {"a", "b", "c"}


@pytest.mark.asyncio
async def test_a_tenant_that_was_served_stands_behind_those_who_wait(postgres: Postgres) -> None:
    served: list[str] = []
    async with opened(postgres) as (app, connector, _):

        async def turn(tenant: str) -> float | None:
            served.append(tenant)
            if len(served) == 6:
                worker.stop()
            return 0.0

        await queue.defer(app, ["a", "b", "c"])
        worker = worker_of(app, connector, turn, tenants=["a", "b", "c"], pace=WorkerPace(tenants=1, poll=5.0))
        async with asyncio.timeout(20):
            await worker.run()

        assert served == ["a", "b", "c"] * 2
        assert await queue.present(app) == {"a", "b", "c"}


@pytest.mark.asyncio
async def test_a_turn_that_fails_is_a_turn_that_comes_again(postgres: Postgres) -> None:
    async with opened(postgres) as (app, connector, _):

        async def turn(tenant: str) -> float | None:
            worker.stop()
            raise RuntimeError("boom")

        await queue.defer(app, ["a"])
        worker = worker_of(app, connector, turn)
        async with asyncio.timeout(20):
            await worker.run()

        [job] = await app.job_manager.list_jobs_async(task=queue.TASK)
        assert job.status == "todo"
        assert job.attempts == 1


@pytest.mark.asyncio
async def test_what_a_lost_worker_had_is_put_back_even_if_its_place_was_pruned(postgres: Postgres) -> None:
    async with opened(postgres) as (app, _, url), pooled(needed(url, {}), most=2) as pool:
        await queue.defer(app, ["a", "b"])
        gone, pruned, alive = [await app.job_manager.register_worker() for _ in range(3)]
        await fetch(app, gone, "a")
        await fetch(app, pruned, "b")
        async with pool.connection() as connection:
            await connection.execute(
                "update d3async_queue.procrastinate_workers set last_heartbeat = now() - interval '9 s' where id = %s",
                (gone,),
            )
            await connection.execute("delete from d3async_queue.procrastinate_workers where id = %s", (pruned,))
        reap = LostJobs(app, pool, stalled_after=2.0, waiting=nobody_waits)
        await reap(alive, frozenset())

        assert await fetch(app, alive, "a") is not None
        assert await fetch(app, alive, "b") is not None


async def nobody_waits(connection: object) -> set[str]:
    return set()


@pytest.mark.asyncio
async def test_a_job_whose_fetching_was_never_heard_of_is_put_back_at_the_second_look(postgres: Postgres) -> None:
    async with opened(postgres) as (app, _, url), pooled(needed(url, {}), most=2) as pool:
        await queue.defer(app, ["a", "b"])
        me = await app.job_manager.register_worker()
        heard, unheard = await fetch(app, me, "a"), await fetch(app, me, "b")
        assert heard is not None
        assert heard.id is not None
        assert unheard is not None
        reap = LostJobs(app, pool, stalled_after=60.0, waiting=nobody_waits)
        await reap(me, frozenset({heard.id}))
        first = await fetch(app, me, "b")
        await reap(me, frozenset({heard.id}))
        second = await fetch(app, me, "b")

        assert first is None
        assert second is not None
        assert second.id == unheard.id


@pytest.mark.asyncio
async def test_a_tenant_with_work_that_nobody_has_queued_up_is_queued_up(postgres: Postgres) -> None:
    async def a_and_b_wait(connection: object) -> set[str]:
        return {"a", "b"}

    async with opened(postgres) as (app, _, url), pooled(needed(url, {}), most=2) as pool:
        await queue.defer(app, ["a"])
        me = await app.job_manager.register_worker()
        reap = LostJobs(app, pool, stalled_after=60.0, waiting=a_and_b_wait)
        await reap(me, frozenset())
        await reap(me, frozenset())

        assert await queue.present(app) == {"a", "b"}
        assert len(list(await app.job_manager.list_jobs_async())) == 2


@pytest.mark.asyncio
async def test_a_worker_that_was_slow_does_not_end_the_job_another_one_has_by_now(postgres: Postgres) -> None:
    async with opened(postgres) as (app, connector, url), pooled(needed(url, {}), most=2) as pool:
        other = await app.job_manager.register_worker()

        async def slow(tenant: str) -> float | None:
            [job] = await app.job_manager.list_jobs_async(status="doing")
            async with pool.connection() as connection:
                await connection.execute(
                    "update d3async_queue.procrastinate_jobs set worker_id = %s where id = %s", (other, job.id)
                )
            worker.stop()
            return None

        await queue.defer(app, ["a"])
        worker = worker_of(app, connector, slow)
        async with asyncio.timeout(20):
            await worker.run()

        [job] = await app.job_manager.list_jobs_async(status="doing")
        assert job.worker_id == other


@pytest.mark.asyncio
async def test_a_worker_whose_place_was_taken_away_while_it_was_frozen_joins_again(postgres: Postgres) -> None:
    joined: list[int] = []
    both = asyncio.Event()

    async def join(worker: int) -> None:
        joined.append(worker)
        if len(joined) == 2:
            both.set()

    async with opened(postgres) as (app, connector, url), pooled(needed(url, {}), most=2) as pool:

        async def turn(tenant: str) -> float | None:
            await both.wait()
            worker.stop()
            return None

        worker = worker_of(app, connector, turn, joined=join)
        run = asyncio.create_task(worker.run())
        async with asyncio.timeout(20):
            await until(lambda: bool(joined))
            async with pool.connection() as connection:
                await connection.execute("delete from d3async_queue.procrastinate_workers")
            await queue.defer(app, ["a"])
            await run

        assert len(set(joined)) == 2


@pytest.mark.asyncio
async def test_a_database_that_crashes_and_comes_back_is_waited_for() -> None:
    served: list[str] = []
    with running() as server:
        async with opened(server) as (app, connector, _):

            async def turn(tenant: str) -> float | None:
                served.append(tenant)
                if len(served) == 2:
                    worker.stop()
                return None

            worker = worker_of(app, connector, turn)
            await queue.defer(app, ["a"])
            run = asyncio.create_task(worker.run())
            async with asyncio.timeout(30):
                await until(lambda: bool(served))
                await asyncio.to_thread(server.stop, "immediate")
                await until(lambda: connector.away_since is not None)
                await asyncio.to_thread(server.start)
                await queue.defer(app, ["b"])
                await run

            assert served == ["a", "b"]
            assert connector.away_since is None


@pytest.mark.asyncio
async def test_a_database_in_which_no_table_may_be_made_says_so(postgres: Postgres) -> None:
    url = postgres.database()
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("create role guest login")
        try:
            with pytest.raises(JournalError, match=r"cannot be made: permission denied .* grant CREATE"):
                await prepare(needed(url.replace("postgres@", "guest@"), {}))
        finally:
            await connection.execute("drop role guest")


@pytest.mark.asyncio
async def test_a_database_that_is_not_there_at_the_beginning_is_said_at_once() -> None:
    with pytest.raises(JournalError, match="cannot be reached"):
        await prepare(needed("postgresql://u:hush@127.0.0.1:1/x", {}))
