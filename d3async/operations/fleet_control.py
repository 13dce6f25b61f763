"""Steer a fleet: serve as a worker until stopped; stop a run, or forget it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from d3async.config.settings import Profiles
from d3async.engine.engine import loop_factory
from d3async.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from d3async.config.database_urls import FleetUrl
    from d3async.config.settings import Settings
    from d3async.engine.engine import StopSource
    from d3async.fleet.worker import ServeOptions
    from d3async.operations.observer import OperationObserver

_LOOK = 0.25
"""Seconds between two looks at whether a run has ended."""
_PATIENCE = 60.0
"""Seconds that `cancel` waits for what is in flight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """The options of `worker`. Durations in seconds."""

    config: Path | None = None
    tenants: Sequence[str] = ()
    concurrency: int = 16
    stalled_after: float = 30.0
    drain_timeout: float = 30.0
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class CancelResult:
    """The rows of a cancelled run by outcome, and whether nothing of it is in flight any more."""

    outcomes: Mapping[str, int]
    is_over: bool


def work(address: FleetUrl, options: WorkerOptions, observer: OperationObserver, *, stops: StopSource) -> int:
    """Work until a user stops it by *stops*; the exit code. Raises `SettingsError` and `JournalError`."""
    from d3async.config.settings import tenant_names  # noqa: PLC0415 - psycopg, for those who have a fleet
    from d3async.fleet.worker import serve  # noqa: PLC0415 - as above

    if options.stalled_after < 1:
        raise SettingsError("--stalled-after is at least 1s: shorter than a hiccup of the network", code="option")
    orders = _orders(tenant_names(Profiles(config=options.config)), options)

    def settings_of(tenant: str) -> Settings:
        # the file is read anew: a key that was changed counts from the next try
        return Profiles(config=options.config).settings(tenant)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(serve(address, orders, settings_of, tell=observer.message, stops=stops))


def _orders(known: Sequence[str], options: WorkerOptions) -> ServeOptions:
    from d3async.fleet.worker import ServeOptions, WorkerPace  # noqa: PLC0415 - as above

    strange = [name for name in options.tenants if name not in known]
    if strange:
        raise SettingsError(f'There is no profile "{strange[0]}" here; there are: {", ".join(known)}', code="tenant")
    if not known:
        message = "config.toml has no profile, so there is no tenant to serve (--config and D3_CONFIG say where it is)"
        raise SettingsError(message, code="tenant")
    return ServeOptions(
        tenants=tuple(dict.fromkeys(options.tenants)) or tuple(known),
        pace=WorkerPace(tenants=options.concurrency, stalled_after=options.stalled_after),
        drain=options.drain_timeout,
        metrics=None if options.metrics_port is None else (options.metrics_host, options.metrics_port),
    )


def cancel(address: FleetUrl, name: str, *, wait: bool) -> CancelResult:
    """Start no further row of the run *name*. With *wait*, return when what is in flight has ended, or after 60 s.

    Raises `JournalError`.
    """
    return asyncio.run(_cancel(address, name, wait=wait))


async def _cancel(address: FleetUrl, name: str, *, wait: bool) -> CancelResult:
    from d3async.journal.postgres import runs  # noqa: PLC0415 - psycopg, for those who have a fleet  # noqa: PLC0415 - as above
    from d3async.journal.postgres.connections import connected  # noqa: PLC0415 - as above

    async with connected(address) as connection:
        run = await runs.find(connection, name)
        await runs.cancel(connection, run.id, now=time.time())
        until = time.monotonic() + (_PATIENCE if wait else 0.0)
        while not (over := await runs.at_rest(connection, run.id)) and time.monotonic() < until:  # noqa: ASYNC110 - the event is in the database
            await asyncio.sleep(_LOOK)
        if over:
            await runs.finish_if_over(connection, run.id, now=time.time())
        [at] = await runs.overview(connection, [name])
        return CancelResult(dict(at.outcomes), over)


def forget(address: FleetUrl, name: str) -> int:
    """Take the run *name* out of the database with everything that is known of it; how many rows it had.

    Raises `JournalError`.
    """
    return asyncio.run(_forget(address, name))


async def _forget(address: FleetUrl, name: str) -> int:
    from d3async.journal.postgres import runs  # noqa: PLC0415 - as above
    from d3async.journal.postgres.chunk_owners import forget_tries  # noqa: PLC0415 - as above
    from d3async.journal.postgres.connections import connected  # noqa: PLC0415 - psycopg, for those who have a fleet

    async with connected(address) as connection:
        run = await runs.find(connection, name)
        await forget_tries(connection, run.id)
        return await runs.drop(connection, run.id)
