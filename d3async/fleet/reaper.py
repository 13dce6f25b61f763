"""Finds what nobody works on any more, and puts it back: jobs of lost workers, jobs lost on the way, tenants."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from d3async.fleet import queue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from procrastinate import App
    from procrastinate.jobs import Job
    from psycopg import AsyncConnection
    from psycopg_pool import AsyncConnectionPool

log = logging.getLogger("d3async.fleet")
_LOCK = 5_317_003


class Reaper:
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
            found = await connection.execute("select pg_try_advisory_xact_lock(%s)", (_LOCK,))
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
        forgotten = await self._waiting(connection) - await queue.present(self._app)
        if forgotten:
            await queue.defer(self._app, sorted(forgotten))
