"""The part of `run` that talks to D3: engine, signals, progress, and what the limiter went through."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from d3async.cli.against import verify_run
from d3async.connect import connect
from d3async.engine import Engine
from d3async.errors import JournalError
from d3async.journal.base import Event
from d3async.journal.group import GroupJournal
from d3async.journal.store import Store
from d3async.observe import said
from d3async.sansio.protocol import Throttled
from d3async.sansio.retry import Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from d3async.cli.progress import Progress
    from d3async.delivery import Attempt
    from d3async.journal.sqlite import RunFolder
    from d3async.limiter import LimiterNumbers
    from d3async.sansio.halt import Halt
    from d3async.settings import Settings

_TICK = 0.25


@dataclass(frozen=True, slots=True)
class Orders:
    """How a run is to go."""

    rows: int
    halts: Sequence[Halt]
    links_per_call: int
    drain: float
    serial: bool
    verbose: bool = False
    verify: bool = False


@dataclass(frozen=True, slots=True)
class Ran:
    """How it went. *requests* counts those that really left, *elapsed* is in seconds."""

    stop: Stop | None
    requests: int
    elapsed: float
    numbers: LimiterNumbers


class _Watch:
    """Counts requests, notes in the journal what the limiter went through, and tells of attempts where asked to."""

    def __init__(self, journal: GroupJournal, tell: Callable[[str], None] | None) -> None:
        self.requests = 0
        self._journal = journal
        self._tell = tell
        self._paused = 0.0
        self._learnt: float | None = None
        self._outages = 0

    def attempt(self, attempt: Attempt) -> None:
        self.requests += 1
        if self._tell:
            self._tell(said(attempt))
        if isinstance(attempt.answer, Throttled):
            self._journal.note(Event(attempt.at, "throttled", attempt.answer.retry_after, attempt.answer.message))

    def tick(self, numbers: LimiterNumbers) -> None:
        if numbers.paused_s - self._paused >= _TICK:
            self._journal.note(Event(time.time(), "pause", numbers.paused_s - self._paused))
            self._paused = numbers.paused_s
        if numbers.learnt is not None and numbers.learnt != self._learnt:
            self._journal.note(Event(time.time(), "rate", numbers.learnt))
        self._learnt = numbers.learnt
        if numbers.outages > self._outages:
            self._journal.note(Event(time.time(), "outage", numbers.opens_in))
        self._outages = numbers.outages


def send(folder: RunFolder, settings: Settings, orders: Orders, progress: Progress) -> Ran:
    """Send what the journal of *folder* holds to be sent. Blocks until it is done or stopped."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_send(folder, settings, orders, progress))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Uvloop where it is installed (extra `fast`)."""
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _send(folder: RunFolder, settings: Settings, orders: Orders, progress: Progress) -> Ran:
    journal = GroupJournal(folder.db, Store(folder.db, epoch=folder.epoch, serial=orders.serial), patience=orders.drain)
    watch = _Watch(journal, progress.tell if orders.verbose else None)
    parts = connect(settings, on_attempt=watch.attempt)
    engine = Engine(
        carrier=parts.delivery,
        journal=journal,
        rows=orders.rows,
        workers=settings.concurrency,
        halts=orders.halts,
        links_per_call=orders.links_per_call,
        drain=orders.drain,
        on_row=progress.row,
    )
    started = time.monotonic()
    async with parts.transport:
        with _signals(engine, progress):
            stop = await _run(engine, journal, lambda: _tick(parts.limiter.numbers, progress, watch))
        if orders.verify and stop is None:
            await verify_run(folder, settings, parts.limiter)
    progress.tick(parts.limiter.numbers)
    return Ran(stop, watch.requests, time.monotonic() - started, parts.limiter.numbers)


async def _run(engine: Engine, journal: GroupJournal, tick: Callable[[], None]) -> Stop | None:
    ticking = asyncio.create_task(_every(_TICK, tick))
    try:
        stop = await engine.run()
        await journal.aclose()
    except JournalError as error:
        return Stop("journal", error.message)
    finally:
        ticking.cancel()
    return stop


async def _every(seconds: float, tick: Callable[[], None]) -> None:
    while True:
        tick()
        await asyncio.sleep(seconds)


def _tick(numbers: LimiterNumbers, progress: Progress, watch: _Watch) -> None:
    progress.tick(numbers)
    watch.tick(numbers)


@contextmanager
def _signals(engine: Engine, progress: Progress) -> Iterator[None]:
    """Ctrl-C and SIGTERM: the first drains, the second drops what is in flight."""
    loop = asyncio.get_running_loop()
    kinds = {signal.SIGINT: Stop("interrupted", "Ctrl-C"), signal.SIGTERM: Stop("terminated", "SIGTERM")}

    def received(reason: Stop) -> None:
        if engine.stopper.reason is None:
            progress.tell("finishing what is in flight (again to cancel it) …")
            engine.stop(reason)
        else:
            engine.cancel()

    before = {number: signal.getsignal(number) for number in kinds}
    for number, reason in kinds.items():
        # not add_signal_handler: Windows has none
        signal.signal(number, lambda *_, reason=reason: loop.call_soon_threadsafe(received, reason))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
