"""Tenants in procrastinate's queue: outages are waited for, lost jobs are put back, tables are made."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import procrastinate
import psycopg
from procrastinate import PsycopgConnector
from procrastinate.exceptions import ConnectorException
from psycopg import AsyncConnection

from d3async.journal.postgres.connections import translated
from d3async.journal.postgres.schema import install_queue, look_in_queue, migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
    from typing import LiteralString

    from procrastinate import App
    from procrastinate.connector import Notify
    from procrastinate.jobs import Job
    from psycopg_pool import AsyncConnectionPool

    from d3async.config.database_urls import FleetUrl

log = logging.getLogger("d3async.fleet")
_REAP_LOCK = 5_317_003


class LostJobs:
    """A plain task of every worker: one that was a job in the queue could be lost itself.

    *waiting* tells the tenants that have chunks with work.
    """

    def __init__(
        self,
        app: App,
        pool: AsyncConnectionPool[AsyncConnection[Any]],
        *,
        stalled_after: float,
        waiting: Callable[[AsyncConnection[Any]], Awaitable[set[str]]],
    ) -> None:
        self._app = app
        self._pool = pool
        self._stalled_after = stalled_after
        self._waiting = waiting
        self._suspect: frozenset[int] = frozenset()

    async def __call__(self, worker: int, running: frozenset[int]) -> None:
        """Look once, for the worker with the id *worker* that runs the jobs *running*."""
        async with self._pool.connection() as connection, connection.transaction():
            found = await connection.execute("select pg_try_advisory_xact_lock(%s)", (_REAP_LOCK,))
            mine = (await found.fetchone() or (False,))[0]
            if mine:
                await self._put_back_stalled()
                await self._call_forgotten(connection)
        await self._put_back_lost(worker, running)

    async def _put_back_stalled(self) -> None:
        stalled = await self._app.job_manager.get_stalled_jobs(seconds_since_heartbeat=self._stalled_after)
        for job in stalled:
            log.warning("a worker is gone: what it had of %s is taken again", job.task_kwargs.get("tenant"))
            await self._app.job_manager.retry_job(job)

    async def _put_back_lost(self, worker: int, running: frozenset[int]) -> None:
        """Jobs fetched by us in an answer that never came; seen twice, so as not to mistake one that is starting."""
        jobs: list[Job] = list(await self._app.job_manager.list_jobs_async(status="doing", worker_id=worker))
        idle = {job.id: job for job in jobs if job.id is not None and job.id not in running}
        for number in self._suspect & idle.keys():
            await self._app.job_manager.retry_job(idle[number])
        self._suspect = frozenset(idle) - self._suspect

    async def _call_forgotten(self, connection: AsyncConnection[Any]) -> None:
        """A run is finished by its rows, never by an empty queue."""
        forgotten = await self._waiting(connection) - await present(self._app)
        if forgotten:
            await defer(self._app, sorted(forgotten))


T = TypeVar("T")
_PAUSE = 0.5


def is_outage(error: BaseException | None) -> bool:
    """Whether *error*, or what caused it, says that the database cannot be reached, rather than that it said no."""
    while error is not None:
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | ConnectionError):
            return True
        error = error.__cause__
    return False


class WaitingConnector(PsycopgConnector):
    """Asks again until the database is back. What may have been done by the first try is not an error in the second.

    *mask* takes secrets out of what is logged.
    """

    def __init__(self, *, mask: Callable[[str], str] = str, **pool: Any) -> None:
        super().__init__(**pool)
        self.patient = True
        """Off, an outage is raised: for the end of a worker whose database does not come back."""
        self.away_since: float | None = None
        """Loop time since which the database cannot be reached; None while it can."""
        self._mask = mask
        self._disowned: set[int] = set()

    def disown(self, job: int) -> None:
        """Leave the next statement about *job* out: another worker has it by now, and would lose it.

        What procrastinate stores about a job that ends does not ask whose it is.
        """
        self._disowned.add(job)

    async def execute_query_async(self, query: LiteralString, **arguments: Any) -> None:
        """See `BaseConnector`."""
        if arguments.get("job_id") in self._disowned:
            self._disowned.discard(arguments["job_id"])
            return
        asked = super().execute_query_async
        again = False
        while True:
            try:
                await asked(query, **arguments)
            except ConnectorException as error:
                if again and isinstance(error.__cause__, psycopg.errors.RaiseException):
                    break
                await self._bear(error)
                again = True
            else:
                break
        self.away_since = None

    async def execute_query_one_async(self, query: LiteralString, **arguments: Any) -> dict[str, Any]:
        """See `BaseConnector`. A job whose fetching was never heard of is found by the worker's `LostJobs`."""
        return await self._until_back(super().execute_query_one_async, query, arguments)

    async def execute_query_all_async(self, query: LiteralString, **arguments: Any) -> list[dict[str, Any]]:
        """See `BaseConnector`."""
        return await self._until_back(super().execute_query_all_async, query, arguments)

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        """See `BaseConnector`."""
        channels = list(channels)
        while True:
            try:
                await super().listen_notify(on_notification, channels)
            except ConnectorException as error:
                await self._bear(error)

    async def _until_back(
        self, asked: Callable[..., Awaitable[T]], query: LiteralString, arguments: dict[str, Any]
    ) -> T:
        while True:
            try:
                found = await asked(query, **arguments)
            except ConnectorException as error:
                await self._bear(error)
            else:
                self.away_since = None
                return found

    async def _bear(self, error: ConnectorException) -> None:
        """Wait a moment, if *error* is an outage; else raise it."""
        if not self.patient or not is_outage(error.__cause__):
            raise error
        if self.away_since is None:
            self.away_since = asyncio.get_running_loop().time()
            reason = self._mask(str(error.__cause__)).splitlines()
            log.warning("the database is away (%s); waiting for it", reason[0] if reason else "no reason given")
        await asyncio.sleep(_PAUSE)


TASK = "d3async.turn"


async def install(connection: AsyncConnection[Any]) -> None:
    """Make the queue where it is missing, and bring an older one up to the procrastinate that is installed.

    Safe to be called by many at once; commits nothing by itself. Raises `JournalError` (`journal_newer`) where a newer
    procrastinate has made it.
    """
    await install_queue(connection, procrastinate.schema.SchemaManager.get_schema().encode(), _migrations())


def _migrations() -> list[tuple[str, bytes]]:
    """What brings a database of an earlier procrastinate up to date, in the order of its versions."""
    paths = sorted(Path(procrastinate.schema.SchemaManager.get_migrations_path()).glob("*.sql"))
    return [(path.name, path.read_bytes()) for path in paths]


@asynccontextmanager
async def opened(address: FleetUrl, *, most: int = 4) -> AsyncIterator[tuple[procrastinate.App, WaitingConnector]]:
    """The queue of *address*, over at most *most* connections. Nothing is run by it: see `d3async.fleet.worker`."""
    connector = WaitingConnector(
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
    await look_in_queue(connection)
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


async def prepare(address: FleetUrl) -> None:
    """Make the tables, or bring older ones up to date.

    Raises `JournalError` where the database cannot be reached or used.
    """
    with translated(address):
        async with await AsyncConnection.connect(address.conninfo) as connection:
            await migrate(connection)
            await install(connection)
