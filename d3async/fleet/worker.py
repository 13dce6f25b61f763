"""A worker: put together from the fleet's URL, asks the queue for tenants, outlives the database's absences."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from procrastinate import BaseRetryStrategy, RetryDecision
from procrastinate.exceptions import ConnectorException
from procrastinate.worker import Worker
from psycopg import AsyncConnection, OperationalError
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from d3async import __version__
from d3async.fleet import queue
from d3async.fleet.metrics import Metrics, served
from d3async.fleet.queue import LostJobs, is_outage, prepare
from d3async.fleet.run_chunk import ChunkRunner, Limits, Tenants
from d3async.journal.postgres import runs
from d3async.journal.postgres.connections import unreachable
from d3async.journal.postgres.group_commit import Writer
from d3async.journal.postgres.schema import note_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from procrastinate import App, JobContext
    from procrastinate.jobs import Job

    from d3async.config.database_urls import FleetUrl
    from d3async.engine.delivery import Attempt
    from d3async.engine.engine import StopSource
    from d3async.fleet.queue import WaitingConnector
    from d3async.fleet.run_chunk import SettingsOf
    from d3async.policy.halt_and_exit_codes import Stop

log = logging.getLogger("d3async.fleet")
_WATCH = 1.0
_SETTLE = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPace:
    """How a worker goes: *tenants* are served at a time.

    Seconds: *poll* between two looks at a queue that tells nothing; a worker that gave no sign of life for
    *stalled_after* counts as lost, and its chunks are taken again.
    """

    tenants: int = 16
    poll: float = 1.0
    stalled_after: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What a worker is to do. *drain* is seconds for requests in flight after a stop; *metrics* is (host, port)."""

    tenants: Sequence[str]
    pace: WorkerPace = field(default_factory=WorkerPace)
    drain: float = 30.0
    metrics: tuple[str, int] | None = None


async def serve(
    address: FleetUrl,
    orders: ServeOptions,
    settings_of: SettingsOf,
    *,
    tell: Callable[[str], None],
    stops: StopSource,
) -> int:
    """Serve until a user stops it by *stops*; the exit code, 0. The first stop drains, the second cancels.

    Raises `JournalError` where the database cannot be reached at the beginning; later it is waited for.
    """
    await prepare(address)
    async with AsyncExitStack() as stack:
        app, connector = await stack.enter_async_context(queue.opened(address))
        pool = await stack.enter_async_context(pooled(address, most=4))
        writer = await stack.enter_async_context(Writer(address.conninfo))
        metrics = Metrics(lambda: tenants.known(), host=socket.gethostname())  # noqa: PLW0108 - made below
        limits = await stack.enter_async_context(Limits(address.url))

        def heard(tenant: str, attempt: Attempt) -> None:
            metrics.attempt(tenant, attempt)
            chunks.attempt(tenant, attempt)

        tenants = Tenants(settings_of, limits.limiter, heard)
        stack.push_async_callback(tenants.aclose)
        chunks = ChunkRunner(pool, writer, tenants, metrics, who=who(), drain=orders.drain)
        reaper = LostJobs(app, pool, stalled_after=orders.pace.stalled_after, waiting=_sweep)
        worker = FleetWorker(
            app, connector, chunks, tenants=orders.tenants, pace=orders.pace, reap=reaper, joined=_joining(pool, orders)
        )
        port = stack.enter_context(served(metrics, *(orders.metrics or ("", None))))
        if port is not None:
            tell(f"metrics at http://{orders.metrics[0] if orders.metrics else ''}:{port}/metrics")
        stack.enter_context(stops(_Stopping(worker, chunks, connector, orders.drain, tell)))
        await stack.enter_async_context(_watching(chunks, connector, metrics))
        tell(f"worker {who()}: {len(orders.tenants):,} tenants, {orders.pace.tenants} at a time, fleet {address}")
        await worker.run()
    tell("Stopped. What was not sent is taken by other workers, or by this one when it is started again.")
    return 0


async def _sweep(connection: AsyncConnection[Any]) -> set[str]:
    return await runs.sweep(connection, now=time.time())


def who() -> str:
    """What this worker is called: process and host."""
    return f"pid {os.getpid()} on {socket.gethostname()}"


@asynccontextmanager
async def pooled(address: FleetUrl, *, most: int) -> AsyncIterator[AsyncConnectionPool[AsyncConnection[Any]]]:
    """Connections for short questions, at most *most*."""
    pool = AsyncConnectionPool(
        address.conninfo,
        min_size=1,
        max_size=most,
        timeout=10.0,
        open=False,
        check=AsyncConnectionPool.check_connection,
        kwargs={"application_name": "d3async", "autocommit": True},
    )
    try:
        await pool.open(wait=True, timeout=10.0)
    except PoolTimeout as error:
        await pool.close()
        raise unreachable(address, error) from None
    async with pool:
        yield pool


def _joining(pool: AsyncConnectionPool[AsyncConnection[Any]], orders: ServeOptions) -> Callable[[int], Awaitable[None]]:
    async def joined(worker: int) -> None:
        async with pool.connection() as connection:
            tenants = orders.tenants
            await note_worker(connection, worker, who(), __version__, tenants, places=orders.pace.tenants)

    return joined


@asynccontextmanager
async def _watching(chunks: ChunkRunner, connector: WaitingConnector, metrics: Metrics) -> AsyncIterator[None]:
    """Look once a second whether runs are cancelled, and whether the database is there."""

    async def watch() -> None:
        while True:
            await asyncio.sleep(_WATCH)
            metrics.database.set(connector.away_since is None)
            try:
                await chunks.stop_cancelled()
            except OperationalError as error:
                log.debug("not looked for cancelled runs: %s", type(error).__name__)

    watching = asyncio.create_task(watch(), name="d3async-watch")
    try:
        yield
    finally:
        watching.cancel()


class _Stopping:
    """What a signal does: the first drains, the second cancels, and then nothing is waited for any longer."""

    def __init__(
        self,
        worker: FleetWorker,
        chunks: ChunkRunner,
        connector: WaitingConnector,
        drain: float,
        tell: Callable[[str], None],
    ) -> None:
        self._worker = worker
        self._chunks = chunks
        self._connector = connector
        self._drain = drain
        self._tell = tell
        self._told = False

    def __call__(self, reason: Stop) -> None:
        if not self._told:
            self._told = True
            self._tell("finishing what is in flight (again to cancel it) …")
            self._chunks.stop(reason)
            self._worker.stop()
            return
        self._tell("cancelling what is in flight: it becomes unknown")
        self._chunks.cancel()
        # of a database that does not come back nothing more is expected
        asyncio.get_running_loop().call_later(_SETTLE, setattr, self._connector, "patient", False)  # noqa: FBT003 - setattr has no keywords


_PAUSE = 1.0
_AFTER_A_DEFECT = 5.0
_BEATS = 4
"""Heartbeats in the time after which a worker counts as lost."""


class TenantTurn(Protocol):
    """What is done when the queue calls a tenant."""

    async def __call__(self, tenant: str) -> float | None:
        """Run chunks of *tenant* for a while; seconds until it is to be called again, None when it has no more."""
        ...


class _Later(Exception):  # noqa: N818 - no error: the way to tell procrastinate when to call again
    def __init__(self, wait: float) -> None:
        super().__init__(f"again in {wait:g} s")
        self.wait = wait


class _Always(BaseRetryStrategy):
    """A tenant's place in the queue is never lost over what went wrong in its turn; chunks bound their own tries."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision:  # noqa: ARG002 - its signature
        wait = exception.wait if isinstance(exception, _Later) else _AFTER_A_DEFECT
        if is_outage(exception):
            wait = _PAUSE
        return RetryDecision(retry_at=datetime.now(UTC) + timedelta(seconds=wait) if wait else None)


class FleetWorker:
    """Serves *tenants* until `stop`.

    Every now and then *reap* is called with its number among the workers and the jobs that run here; *joined* with
    that number whenever it has a new one.
    """

    def __init__(
        self,
        app: App,
        connector: WaitingConnector,
        turn: TenantTurn,
        *,
        tenants: Sequence[str],
        pace: WorkerPace,
        reap: Callable[[int, frozenset[int]], Awaitable[None]],
        joined: Callable[[int], Awaitable[None]],
    ) -> None:
        self._app = app
        self._connector = connector
        self._serve = turn
        self._queues = [queue.queue_of(tenant) for tenant in tenants]
        self._pace = pace
        self._reap = reap
        self._joined = joined
        self._joined_as: int | None = None
        self._running: set[int] = set()
        self._worker: Worker | None = None
        self._stopping = asyncio.Event()
        app.task(name=queue.TASK, pass_context=True, retry=_Always())(self._turn)

    def stop(self) -> None:
        """Take no further chunk; `run` returns when those that run have ended."""
        self._stopping.set()
        if self._worker is not None:
            self._worker.stop()  # type: ignore[no-untyped-call]

    async def run(self) -> None:
        """Serve until `stop`. Neither a database that goes away nor a defect in one turn ends it."""
        async with self._side_tasks():
            while not self._stopping.is_set():
                self._worker = self._made()
                try:
                    await self._worker.run()  # type: ignore[no-untyped-call]
                except ConnectorException as error:
                    # thawed after others took it for lost: its place among the workers is gone, and so is its work
                    reason = str(error.__cause__).partition("\n")[0]
                    log.warning("the queue does not know this worker any more (%s); it joins again", reason)
                    await self._pause(_PAUSE)

    def _made(self) -> Worker:
        beat = self._pace.stalled_after / _BEATS
        return Worker(
            self._app,
            queues=self._queues,
            name="d3async",
            concurrency=self._pace.tenants,
            fetch_job_polling_interval=self._pace.poll,
            delete_jobs="successful",
            install_signal_handlers=False,
            update_heartbeat_interval=beat,
            stalled_worker_timeout=self._pace.stalled_after * _BEATS,
        )

    async def _turn(self, context: JobContext, *, tenant: str) -> None:
        job = context.job.id or 0
        self._running.add(job)
        try:
            again = await self._serve(tenant)
            if again or (again is not None and self._stopping.is_set()):
                raise _Later(again)
            if again is not None:
                await queue.defer(self._app, [tenant])
        finally:
            await self._disown_unless_ours(job, context.job.worker_id)
            self._running.discard(job)

    async def _disown_unless_ours(self, job: int, worker: int | None) -> None:
        """A worker that was taken for lost, and was only slow, has no say over what became of its job."""
        if not await self._app.job_manager.list_jobs_async(id=job, worker_id=worker, status="doing"):
            self._connector.disown(job)

    @asynccontextmanager
    async def _side_tasks(self) -> AsyncIterator[None]:
        beat = self._pace.stalled_after / _BEATS
        tasks = [
            asyncio.create_task(self._every(beat, self._beat), name="d3async-heartbeat"),
            asyncio.create_task(self._every(min(beat, _PAUSE), self._join), name="d3async-join"),
            asyncio.create_task(self._every(beat, self._look), name="d3async-reaper"),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except Exception as error:
                level = logging.DEBUG if is_outage(error) else logging.ERROR
                log.log(level, "%s: %s", asyncio.current_task(), type(error).__name__, exc_info=level > logging.INFO)
            await asyncio.sleep(seconds)

    async def _beat(self) -> None:
        """The heartbeat of procrastinate ends with the first word to stop, while chunks are still being finished."""
        if self._worker is not None and self._worker.worker_id is not None:
            await self._app.job_manager.update_heartbeat(self._worker.worker_id)

    async def _join(self) -> None:
        number = self._worker.worker_id if self._worker is not None else None
        if number is not None and number != self._joined_as:
            await self._joined(number)
            self._joined_as = number

    async def _look(self) -> None:
        if self._worker is not None and self._worker.worker_id is not None:
            await self._reap(self._worker.worker_id, frozenset(self._running))

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass
