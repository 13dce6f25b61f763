"""The queue: procrastinate in a schema of its own, beside the rows. A job in it is a tenant whose turn will come."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import procrastinate
from psycopg import sql

from d3async.errors import JournalError
from d3async.fleet.patience import PatientConnector

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from psycopg import AsyncConnection

    from d3async.fleet.address import Address

SCHEMA = "d3async_queue"
TASK = "d3async.turn"
_LOCK = 5_317_002

_TABLES = """
create function {schema}.d3async_released() returns trigger language plpgsql as $$
begin
    if exists (select 1 from {schema}.procrastinate_jobs where lock = old.lock and status = 'todo') then
        perform pg_notify('procrastinate_queue_v1#' || old.queue_name, '{{"type": "job_inserted", "job_id": 0}}');
    end if;
    return null;
end $$;
create trigger d3async_released after update of status or delete on {schema}.procrastinate_jobs
    for each row when (old.status = 'doing' and old.lock is not null)
    execute function {schema}.d3async_released();
create table {schema}.d3async_worker(
    id bigint primary key references {schema}.procrastinate_workers on delete cascade,
    who text not null, version text not null, places integer not null, tenants text[] not null,
    since timestamptz not null default now()
);
create table {schema}.d3async_migration(name text not null);
create table {schema}.d3async_try(
    run integer, round integer, chunk integer, tries integer not null, code text, message text,
    primary key (run, round, chunk)
);
"""
# d3async_released   procrastinate tells nobody that a lock is free again: tenants would idle until somebody polls
# d3async_worker     who serves which tenants; gone with its place among procrastinate's workers, who have heartbeats
# d3async_migration  the last one of procrastinate's that the queue has
# d3async_try        how often in a row a chunk was taken without any use, and what its last try ran into


async def install(connection: AsyncConnection[Any]) -> None:
    """Make the queue where it is missing, and bring an older one up to the procrastinate that is installed.

    Safe to be called by many at once; commits nothing by itself. Raises `JournalError` (`journal_newer`) where a newer
    procrastinate has made it.
    """
    await connection.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))
    known = _migrations()
    found = await connection.execute("select to_regclass(%s)", (f"{SCHEMA}.procrastinate_jobs",))
    missing = (await found.fetchone() or (None,))[0] is None
    if missing:
        await connection.execute(f"create schema if not exists {SCHEMA}")
    await connection.execute(f"set local search_path to {SCHEMA}")
    if missing:
        await connection.execute(procrastinate.schema.SchemaManager.get_schema().encode())
        await connection.execute(_TABLES.format(schema=SCHEMA).encode())
        await connection.execute("insert into d3async_migration values (%s)", (known[-1].name,))
    else:
        await _migrate(connection, known)
    await connection.execute("set local search_path to default")


async def _migrate(connection: AsyncConnection[Any], known: Sequence[Path]) -> None:
    found = await connection.execute("select name from d3async_migration")
    last = str((await found.fetchone() or ("",))[0])
    if last > known[-1].name:
        message = "The fleet's queue was made by a newer procrastinate: pip install --upgrade 'd3async[fleet]'"
        raise JournalError(message, code="journal_newer")
    for path in known:
        if path.name > last:
            await connection.execute(path.read_bytes())
    await connection.execute("update d3async_migration set name = %s", (known[-1].name,))


def _migrations() -> list[Path]:
    """What procrastinate has to say to a database of an earlier version of it, in the order of its versions."""
    return sorted(Path(procrastinate.schema.SchemaManager.get_migrations_path()).glob("*.sql"))


@asynccontextmanager
async def opened(address: Address, *, most: int = 4) -> AsyncIterator[tuple[procrastinate.App, PatientConnector]]:
    """The queue of *address*, over at most *most* connections. Nothing is run by it: see `d3async.fleet.worker`."""
    connector = PatientConnector(
        mask=address.mask,
        conninfo=address.conninfo,
        min_size=1,
        max_size=most,
        timeout=10.0,
        configure=_configure,
        kwargs={"application_name": "d3async-queue"},
    )
    app = procrastinate.App(connector=connector)
    async with app.open_async():
        yield app, connector


async def _configure(connection: AsyncConnection[Any]) -> None:
    # by a statement, not a start-up option, which poolers refuse
    await connection.execute(sql.SQL("set search_path to {}").format(sql.Identifier(SCHEMA)))
    await connection.commit()


def queue_of(tenant: str) -> str:
    """The queue of *tenant*: workers ask for those of the tenants they know."""
    return f"d3:{tenant}"


async def present(app: procrastinate.App) -> set[str]:
    """The tenants that are in the queue, or being served."""
    jobs = [
        job for status in ("todo", "doing") for job in await app.job_manager.list_jobs_async(status=status, task=TASK)
    ]
    return {str(job.task_kwargs["tenant"]) for job in jobs}


async def defer(app: procrastinate.App, tenants: Iterable[str]) -> int:
    """Queue up each of *tenants* that does not wait there already; how many. Who comes first goes first.

    A tenant has one place in the queue, however many chunks it has: taking one from a queue of 5,000 chunks costs
    100 ms, and a tenant that comes later would wait for all of them.
    """
    wanted = list(dict.fromkeys(tenants))
    lock = queue_of(wanted[0]) if len(wanted) == 1 else None
    waiting = {job.lock for job in await app.job_manager.list_jobs_async(status="todo", task=TASK, lock=lock)}
    jobs = [_job(tenant) for tenant in wanted if queue_of(tenant) not in waiting]
    if jobs:
        await app.job_manager.batch_defer_jobs_async(jobs)
    return len(jobs)


def _job(tenant: str) -> procrastinate.jobs.Job:
    return procrastinate.jobs.Job(
        id=None,
        queue=queue_of(tenant),
        task_name=TASK,
        # while a chunk of it is run: one worker at a time speaks to a D3
        lock=queue_of(tenant),
        queueing_lock=None,
        priority=0,
        task_kwargs={"tenant": tenant},
    )
