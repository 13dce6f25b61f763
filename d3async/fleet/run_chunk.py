"""A tenant's turn: its connection and limiter, its next chunk through the engine; done, tried later, given up."""

from __future__ import annotations

import logging
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from d3async.d3.response import Throttled
from d3async.engine.delivery import connect
from d3async.engine.engine import Engine
from d3async.errors import FencedError, JournalError, SettingsError
from d3async.journal.model import Event
from d3async.journal.postgres import chunk_owners, runs
from d3async.journal.postgres.group_commit import open_chunk
from d3async.policy import halt_and_exit_codes
from d3async.policy.halt_and_exit_codes import Stop
from d3async.ratelimit.choose_store import limit_database, limit_key, shared_limit
from d3async.ratelimit.limiter import Limiter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from psycopg import AsyncConnection
    from psycopg_pool import AsyncConnectionPool

    from d3async.config.credentials import Secret
    from d3async.config.settings import Settings
    from d3async.engine.delivery import Attempt, Connection
    from d3async.fleet.metrics import Metrics
    from d3async.journal.postgres.group_commit import PostgresJournal, Writer
    from d3async.journal.postgres.runs import ChunkToRun, RoundCounts
    from d3async.policy.halt_and_exit_codes import Halt
    from d3async.ratelimit.store_protocol import LimitStore

    SettingsOf = Callable[[str], Settings]
    LimiterOf = Callable[[Settings], AbstractAsyncContextManager[Limiter]]
    Heard = Callable[[str, Attempt], None]


@dataclass(frozen=True, slots=True)
class ChunkDone:
    """The chunk has no more work, or another worker has it now."""


@dataclass(frozen=True, slots=True)
class TryLater:
    """The chunk is taken again after *wait* seconds; *code* and *message* say why. *counts*: as a try in vain."""

    wait: float
    code: str
    message: str
    counts: bool = True


@dataclass(frozen=True, slots=True)
class GiveUp:
    """What is left of the chunk stays unsent, and *code* and *message* say why."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class StopRun:
    """A halt rule was reached: nothing more of the run is started."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class RetryBounds:
    """How often a chunk is taken in vain: *first* seconds until the next time, doubled up to *most*, *tries* times."""

    first: float
    most: float
    tries: int

    def wait(self, tries: int) -> float:
        """Seconds to wait after *tries* in vain."""
        return float(min(self.first * 2.0 ** min(tries - 1, 20), self.most))


RETRY_BOUNDS = {
    "crashed": RetryBounds(1, 30, 8),
    "unauthorized": RetryBounds(60, 300, 24),
    "settings": RetryBounds(30, 300, 24),
    "throttled": RetryBounds(60, 300, 100),
    "unreachable": RetryBounds(15, 300, 100),
    "not_d3": RetryBounds(60, 300, 100),
}
"""By the code of the stop. In all: defects two minutes, a wrong key or setting two hours, a D3 that is away eight."""
_OUTAGES, _OUTAGE = 20, 60.0
"""Connection failures in a row, and seconds, for which a worker waits for a D3 before other tenants have its place."""
_UNCOUNTED = {"journal": 2.0, "terminated": 0.0, "interrupted": 0.0}
"""Nothing that the chunk is to blame for: seconds until it may be taken again."""


def what_next(stop: Stop | None, tries: int) -> ChunkDone | TryLater | GiveUp | StopRun:
    """What follows from *stop*, given how often in a row the chunk was taken without finishing a row, this time too."""
    if stop is None or stop.code in {"fenced", "cancelled"}:
        return ChunkDone()
    if stop.code == "halt":
        return StopRun("halt", stop.message)
    if stop.code in _UNCOUNTED:
        return TryLater(_UNCOUNTED[stop.code], stop.code, stop.message, counts=False)
    bounds = RETRY_BOUNDS.get(stop.code, RETRY_BOUNDS["crashed"])
    if tries >= bounds.tries:
        return GiveUp(stop.code, f"given up after {tries} tries: {stop.message}")
    wait = max(bounds.wait(tries), stop.retry_after or 0.0)
    return TryLater(wait, stop.code, stop.message)


@dataclass(frozen=True, slots=True)
class Tenant:
    """One D3 this worker speaks to."""

    name: str
    settings: Settings
    connection: Connection


class Tenants:
    """Connections by tenant. *settings_of* may raise `SettingsError`; *heard* is called with every attempt."""

    def __init__(self, settings_of: SettingsOf, limiter_of: LimiterOf, heard: Heard) -> None:
        self._settings_of = settings_of
        self._limiter_of = limiter_of
        self._heard = heard
        self._kept: dict[str, tuple[Tenant, AsyncExitStack]] = {}

    async def get(self, name: str) -> Tenant:
        """The tenant *name*, as it was the last time or, after `forget`, with its settings read anew."""
        if name not in self._kept:
            self._kept[name] = await self._made(name)
        return self._kept[name][0]

    async def _made(self, name: str) -> tuple[Tenant, AsyncExitStack]:
        settings = self._settings_of(name)
        async with AsyncExitStack() as stack:
            limiter = await stack.enter_async_context(self._limiter_of(settings))
            parts = connect(
                settings,
                limiter=limiter,
                max_outages=_OUTAGES,
                max_outage=_OUTAGE,
                on_attempt=lambda attempt: self._heard(name, attempt),
            )
            await stack.enter_async_context(parts.transport)
            return Tenant(name, settings, parts), stack.pop_all()

    async def forget(self, name: str) -> None:
        """Close the connection of *name*: a key that was changed is found the next time."""
        if name in self._kept:
            _, stack = self._kept.pop(name)
            await stack.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        for name in list(self._kept):
            await self.forget(name)

    def known(self) -> list[Tenant]:
        """Those there is a connection to."""
        return [tenant for tenant, _ in self._kept.values()]


log = logging.getLogger("d3async.fleet")


class Limits:
    """Shares limits through the database that a tenant's settings name, else through *url*, the fleet's.

    A context manager; one connection for each database, however many tenants there are.
    """

    def __init__(self, url: Secret) -> None:
        self._url = url
        self._stores: dict[str, LimitStore] = {}
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    @asynccontextmanager
    async def limiter(self, settings: Settings) -> AsyncIterator[Limiter]:
        """The limiter of the tenant with *settings*."""
        store = await self._store(settings.limit_url or self._url)
        async with shared_limit(store, limit_key(settings), tell=log.warning) as share:
            yield Limiter(rate=settings.rate, concurrency=settings.concurrency, share=share)

    async def _store(self, url: Secret) -> LimitStore:
        text = url.reveal()
        if text not in self._stores:
            self._stores[text] = await self._open.enter_async_context(limit_database(url))
        return self._stores[text]


_WORTH_TELLING = 0.25
_TURN = 30.0
"""Seconds after which another tenant may have the place."""


class _ChunkEnd(NamedTuple):
    """How a chunk ended: why, how many rows were finished, how many are left."""

    stop: Stop | None
    finished: int
    left: int


class ChunkRunner:
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
        self._engines: dict[Engine, ChunkToRun] = {}
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
            gone = await runs.cancelled(connection, {at.run for at in self._engines.values()})
        for engine, at in self._engines.items():
            if at.run in gone:
                engine.stop(Stop("cancelled", "The run was cancelled."))

    async def __call__(self, tenant: str) -> float | None:
        """See `d3async.fleet.worker.TenantTurn`. A turn is several chunks: to hand a tenant over costs it time."""
        until = self._clock() + _TURN
        at: ChunkToRun | None = None
        again: float | None = 0.0
        while again == 0.0 and self._stop is None and self._clock() < until:
            again, at = await self._next(tenant, at)
        return again

    async def _next(self, tenant: str, before: ChunkToRun | None) -> tuple[float | None, ChunkToRun | None]:
        """Run the next chunk of *tenant*, after that of *before*, and tell which it was; as `__call__`."""
        async with self._pool.connection() as connection:
            at = await runs.next_chunk(connection, tenant)
            if before is not None and (at is None or at.run != before.run):
                await runs.finish_if_over(connection, before.run, now=self._wall())
            if at is None:
                return None, None
            so_far = await runs.so_far(connection, at)
            tried = await chunk_owners.begun(connection, at.place)
        if tried.code == "crashed" and tried.tries > RETRY_BOUNDS["crashed"].tries:
            message = f"given up after {tried.tries - 1} tries: {tried.message}"
            return await self._follow(at, GiveUp("crashed", message), _ChunkEnd(None, 0, 1), 0), at
        ended = await self._run(at, so_far)
        self._metrics.chunk(tenant, ended.stop.code if ended.stop else "done")
        count = 1 if ended.finished else tried.tries
        return await self._follow(at, what_next(ended.stop, count), ended, count), at

    async def _run(self, at: ChunkToRun, so_far: RoundCounts) -> _ChunkEnd:
        engine: Engine | None = None
        left = 1
        try:
            halts = halt_and_exit_codes.with_default(map(halt_and_exit_codes.parse, at.halts))
            if words := halt_and_exit_codes.reached(halts, *so_far):
                # reached by a worker that was lost before it could say so
                return _ChunkEnd(Stop("halt", words), 0, left)
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
        return _ChunkEnd(stop, engine.counts.total() - so_far.counts.total() if engine else 0, left)

    async def _carried(
        self, engine: Engine, at: ChunkToRun, tenant: Tenant, journal: PostgresJournal
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
        self, at: ChunkToRun, tenant: Tenant, journal: PostgresJournal, halts: Sequence[Halt], so_far: RoundCounts
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

    async def _follow(
        self, at: ChunkToRun, follows: ChunkDone | TryLater | GiveUp | StopRun, ended: _ChunkEnd, count: int
    ) -> float:
        """Write down what follows; seconds until the tenant is to be called again."""
        async with self._pool.connection() as connection:
            match follows:
                case ChunkDone():
                    await (chunk_owners.forget if ended.left else chunk_owners.done)(connection, at.place)
                case TryLater(code=code, message=message):
                    log.warning("%s, chunk %s: %s; again in %.0f s", at.name, at.chunk, message, follows.wait)
                    await chunk_owners.note(connection, at.place, count if follows.counts else count - 1, code, message)
                case GiveUp(code=code, message=message):
                    log.error("%s, chunk %s: %s", at.name, at.chunk, message)
                    await runs.give_up(connection, at, code, message, who=self._who, now=self._wall())
                    await chunk_owners.note(connection, at.place, 0, code, message)
                case StopRun(code=code, message=message):
                    log.warning("%s is stopped: %s", at.name, message)
                    await runs.stop(connection, at, Stop(code, message), now=self._wall())
                    await chunk_owners.forget(connection, at.place)
        if not isinstance(follows, TryLater):
            return 0.0
        if follows.code in {"unauthorized", "settings"}:
            await self._tenants.forget(at.tenant)
        return follows.wait


def _check_same_d3(at: ChunkToRun, tenant: Tenant) -> None:
    if at.base_url != tenant.settings.base_url:
        raise SettingsError(
            f"{at.name} was submitted for {at.base_url}, but here profile {tenant.name} speaks to"
            f" {tenant.settings.base_url}.",
            code="other_d3",
        )
