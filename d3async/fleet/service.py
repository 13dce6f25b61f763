"""A worker put together, from the fleet's address to the end of its last chunk."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from psycopg import AsyncConnection, OperationalError
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from d3async import __version__
from d3async.fleet import queue, rows
from d3async.fleet.chunks import Chunks
from d3async.fleet.connecting import unreachable
from d3async.fleet.limits import Limits
from d3async.fleet.metrics import Metrics, served
from d3async.fleet.reaper import Reaper
from d3async.fleet.tables import prepare
from d3async.fleet.tenants import Tenants
from d3async.fleet.worker import FleetWorker, Pace
from d3async.journal.postgres.journal import Writer
from d3async.program import signals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from d3async.delivery import Attempt
    from d3async.fleet.address import Address
    from d3async.fleet.patience import PatientConnector
    from d3async.fleet.tenants import SettingsOf
    from d3async.sansio.retry import Stop

log = logging.getLogger("d3async.fleet")
_WATCH = 1.0
_SETTLE = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a worker is to do. *drain* is seconds for requests in flight after a stop; *metrics* is (host, port)."""

    tenants: Sequence[str]
    pace: Pace = field(default_factory=Pace)
    drain: float = 30.0
    metrics: tuple[str, int] | None = None


async def serve(
    address: Address,
    orders: Orders,
    settings_of: SettingsOf,
    *,
    tell: Callable[[str], None],
) -> int:
    """Serve until SIGTERM or Ctrl-C; the exit code, 0. The first drains, the second cancels what is in flight.

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
        chunks = Chunks(pool, writer, tenants, metrics, who=who(), drain=orders.drain)
        reaper = Reaper(app, pool, stalled_after=orders.pace.stalled_after, waiting=_sweep)
        worker = FleetWorker(
            app, connector, chunks, tenants=orders.tenants, pace=orders.pace, reap=reaper, joined=_joining(pool, orders)
        )
        port = stack.enter_context(served(metrics, *(orders.metrics or ("", None))))
        if port is not None:
            tell(f"metrics at http://{orders.metrics[0] if orders.metrics else ''}:{port}/metrics")
        stack.enter_context(signals(_Stopping(worker, chunks, connector, orders.drain, tell)))
        await stack.enter_async_context(_watching(chunks, connector, metrics))
        tell(f"worker {who()}: {len(orders.tenants):,} tenants, {orders.pace.tenants} at a time, fleet {address}")
        await worker.run()
    tell("Stopped. What was not sent is taken by other workers, or by this one when it is started again.")
    return 0


async def _sweep(connection: AsyncConnection[Any]) -> set[str]:
    return await rows.sweep(connection, now=time.time())


def who() -> str:
    """What this worker is called: process and host."""
    return f"pid {os.getpid()} on {socket.gethostname()}"


@asynccontextmanager
async def pooled(address: Address, *, most: int) -> AsyncIterator[AsyncConnectionPool[AsyncConnection[Any]]]:
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


def _joining(pool: AsyncConnectionPool[AsyncConnection[Any]], orders: Orders) -> Callable[[int], Awaitable[None]]:
    async def joined(worker: int) -> None:
        async with pool.connection() as connection:
            await connection.execute(
                "insert into d3async_queue.d3async_worker(id, who, version, places, tenants)"
                " values (%s, %s, %s, %s, %s) on conflict (id) do nothing",
                (worker, who(), __version__, orders.pace.tenants, list(orders.tenants)),
            )

    return joined


@asynccontextmanager
async def _watching(chunks: Chunks, connector: PatientConnector, metrics: Metrics) -> AsyncIterator[None]:
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
        chunks: Chunks,
        connector: PatientConnector,
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
