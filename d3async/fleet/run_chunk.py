"""A tenant's turn: its next chunk through the same engine as on one machine, and what follows from how that ended."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from d3async.engine import Engine
from d3async.errors import FencedError, JournalError, SettingsError
from d3async.fleet import rows, tries
from d3async.fleet.ending import BOUNDS, Again, Done, GiveUp, StopRun, what_next
from d3async.journal.base import Event
from d3async.journal.postgres.journal import open_chunk
from d3async.sansio import halt
from d3async.sansio.protocol import Throttled
from d3async.sansio.retry import Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg import AsyncConnection
    from psycopg_pool import AsyncConnectionPool

    from d3async.delivery import Attempt
    from d3async.fleet.metrics import Metrics
    from d3async.fleet.rows import Next, SoFar
    from d3async.fleet.tenants import Tenant, Tenants
    from d3async.journal.postgres.journal import PostgresJournal, Writer
    from d3async.sansio.halt import Halt

log = logging.getLogger("d3async.fleet")
_WORTH_TELLING = 0.25
_TURN = 30.0
"""Seconds after which another tenant may have the place."""


class _Ended(NamedTuple):
    """How a chunk ended: why, how many rows were finished, how many are left."""

    stop: Stop | None
    finished: int
    left: int


class Chunks:
    """Runs chunks of *tenants*, as *who*. *drain* is how long, in seconds, requests in flight may take after a stop."""

    def __init__(
        self,
        pool: AsyncConnectionPool[AsyncConnection[Any]],
        writer: Writer,
        tenants: Tenants,
        metrics: Metrics,
        *,
        who: str,
        drain: float = 30.0,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._writer = writer
        self._tenants = tenants
        self._metrics = metrics
        self._who = who
        self._drain = drain
        self._wall = wall
        self._clock = clock
        self._engines: dict[Engine, Next] = {}
        self._journals: dict[str, PostgresJournal] = {}
        self._stop: Stop | None = None

    def attempt(self, tenant: str, attempt: Attempt) -> None:
        """A request to *tenant* left: a 429 is written down where the run is."""
        journal = self._journals.get(tenant)
        if journal is not None and isinstance(attempt.answer, Throttled):
            journal.note(Event(attempt.at, "throttled", attempt.answer.retry_after, attempt.answer.message))

    def stop(self, reason: Stop) -> None:
        """Start no row any more; what is in flight may finish."""
        self._stop = reason
        for engine in self._engines:
            engine.stop(reason)

    def cancel(self) -> None:
        """Drop what is in flight: it becomes `unknown`."""
        for engine in self._engines:
            engine.cancel()

    async def stop_cancelled(self) -> None:
        """Stop the chunks of runs that were cancelled."""
        if not self._engines:
            return
        async with self._pool.connection() as connection:
            gone = await rows.cancelled(connection, {at.run for at in self._engines.values()})
        for engine, at in self._engines.items():
            if at.run in gone:
                engine.stop(Stop("cancelled", "The run was cancelled."))

    async def __call__(self, tenant: str) -> float | None:
        """See `d3async.fleet.worker.Turn`. A turn is several chunks: to hand a tenant over costs it time."""
        until = self._clock() + _TURN
        at: Next | None = None
        again: float | None = 0.0
        while again == 0.0 and self._stop is None and self._clock() < until:
            again, at = await self._next(tenant, at)
        return again

    async def _next(self, tenant: str, before: Next | None) -> tuple[float | None, Next | None]:
        """Run the next chunk of *tenant*, after that of *before*, and tell which it was; as `__call__`."""
        async with self._pool.connection() as connection:
            at = await rows.next_chunk(connection, tenant)
            if before is not None and (at is None or at.run != before.run):
                await rows.finish_if_over(connection, before.run, now=self._wall())
            if at is None:
                return None, None
            so_far = await rows.so_far(connection, at)
            tried = await tries.begun(connection, at.place)
        if tried.code == "crashed" and tried.tries > BOUNDS["crashed"].tries:
            message = f"given up after {tried.tries - 1} tries: {tried.message}"
            return await self._follow(at, GiveUp("crashed", message), _Ended(None, 0, 1), 0), at
        ended = await self._run(at, so_far)
        self._metrics.chunk(tenant, ended.stop.code if ended.stop else "done")
        count = 1 if ended.finished else tried.tries
        return await self._follow(at, what_next(ended.stop, count), ended, count), at

    async def _run(self, at: Next, so_far: SoFar) -> _Ended:
        engine: Engine | None = None
        left = 1
        try:
            halts = halt.with_default(map(halt.parse, at.halts))
            if words := halt.reached(halts, *so_far):
                # reached by a worker that was lost before it could say so
                return _Ended(Stop("halt", words), 0, left)
            tenant = await self._tenants.get(at.tenant)
            _check_same_d3(at, tenant)
            journal = await open_chunk(self._writer, at.run, at.chunk, round=at.round, who=self._who, now=self._wall())
            engine = self._engine(at, tenant, journal, halts, so_far)
            stop, left = await self._carried(engine, at, tenant, journal)
        except FencedError as error:
            stop = Stop("fenced", error.message)
        except JournalError as error:
            stop = Stop("journal", error.message)
        except SettingsError as error:
            stop = Stop("settings", error.message)
        except Exception as error:
            # whatever a chunk does to its worker, the other tenants' chunks go on
            log.exception("%s, chunk %s", at.name, at.chunk)
            stop = Stop("crashed", f"a defect: {type(error).__name__}")
        return _Ended(stop, engine.counts.total() - so_far.counts.total() if engine else 0, left)

    async def _carried(
        self, engine: Engine, at: Next, tenant: Tenant, journal: PostgresJournal
    ) -> tuple[Stop | None, int]:
        paused = tenant.connection.limiter.numbers.paused_s
        self._engines[engine] = at
        self._journals[at.tenant] = journal
        self._metrics.running.inc()
        if self._stop is not None:
            engine.stop(self._stop)
        try:
            stop = await engine.run()
            if (waited := tenant.connection.limiter.numbers.paused_s - paused) >= _WORTH_TELLING:
                journal.note(Event(self._wall(), "pause", waited))
        finally:
            self._metrics.running.dec()
            del self._engines[engine]
            del self._journals[at.tenant]
            left = await journal.aclose()
        return stop, left

    def _engine(
        self, at: Next, tenant: Tenant, journal: PostgresJournal, halts: Sequence[Halt], so_far: SoFar
    ) -> Engine:
        """What sends the chunk; it counts on from the run's counts, of which halt rules speak."""
        engine = Engine(
            carrier=tenant.connection.delivery,
            journal=journal,
            rows=so_far.rows,
            workers=tenant.settings.concurrency,
            halts=halts,
            links_per_call=at.links_per_call,
            drain=self._drain,
            on_row=lambda row: self._metrics.row(tenant.name, row.outcome),
        )
        engine.counts.update(so_far.counts)
        return engine

    async def _follow(self, at: Next, follows: Done | Again | GiveUp | StopRun, ended: _Ended, count: int) -> float:
        """Write down what follows; seconds until the tenant is to be called again."""
        async with self._pool.connection() as connection:
            match follows:
                case Done():
                    await (tries.forget if ended.left else tries.done)(connection, at.place)
                case Again(code=code, message=message):
                    log.warning("%s, chunk %s: %s; again in %.0f s", at.name, at.chunk, message, follows.wait)
                    await tries.note(connection, at.place, count if follows.counts else count - 1, code, message)
                case GiveUp(code=code, message=message):
                    log.error("%s, chunk %s: %s", at.name, at.chunk, message)
                    await rows.give_up(connection, at, code, message, who=self._who, now=self._wall())
                    await tries.note(connection, at.place, 0, code, message)
                case StopRun(code=code, message=message):
                    log.warning("%s is stopped: %s", at.name, message)
                    await rows.stop(connection, at, Stop(code, message), now=self._wall())
                    await tries.forget(connection, at.place)
        if not isinstance(follows, Again):
            return 0.0
        if follows.code in {"unauthorized", "settings"}:
            await self._tenants.forget(at.tenant)
        return follows.wait


def _check_same_d3(at: Next, tenant: Tenant) -> None:
    if at.base_url != tenant.settings.base_url:
        raise SettingsError(
            f"{at.name} was submitted for {at.base_url}, but here profile {tenant.name} speaks to"
            f" {tenant.settings.base_url}.",
            code="other_d3",
        )
