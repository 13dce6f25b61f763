"""A worker's life: it asks the queue for tenants, has their chunks run, and outlives the database's absences."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from procrastinate import BaseRetryStrategy, RetryDecision
from procrastinate.exceptions import ConnectorException
from procrastinate.worker import Worker

from d3async.fleet import queue
from d3async.fleet.patience import is_outage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from procrastinate import App, JobContext
    from procrastinate.jobs import Job

    from d3async.fleet.patience import PatientConnector

log = logging.getLogger("d3async.fleet")
_PAUSE = 1.0
_AFTER_A_DEFECT = 5.0
_BEATS = 4
"""Heartbeats in the time after which a worker counts as lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a worker goes: *tenants* are served at a time.

    Seconds: *poll* between two looks at a queue that tells nothing; a worker that gave no sign of life for
    *stalled_after* counts as lost, and its chunks are taken again.
    """

    tenants: int = 16
    poll: float = 1.0
    stalled_after: float = 30.0


class Turn(Protocol):
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
        connector: PatientConnector,
        turn: Turn,
        *,
        tenants: Sequence[str],
        pace: Pace,
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
