"""All servers of a run at once: connection, limiter, engine and halt rules of each; progress, stop."""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from d3async.engine.delivery import connect, host_limiter
from d3async.engine.engine import Engine, loop_factory
from d3async.engine.observers import TICK, EventRecorder, ServerProgress, call_every, log_line, together
from d3async.errors import GONE, D3Error, JournalError, first_failure
from d3async.journal.sqlite.group_commit import GroupCommitJournal, ProfileJournal
from d3async.journal.sqlite.row_claims import RowStore
from d3async.policy.halt_and_exit_codes import GRACE, Stop, stop_of, worst
from d3async.ratelimit.choose_store import limit_key
from d3async.transport.http import HttpSettings, tls

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from d3async.config.settings import Settings
    from d3async.engine.delivery import Attempt
    from d3async.engine.engine import StopSource
    from d3async.journal.model import RowOutcome
    from d3async.journal.protocols import Journal
    from d3async.journal.sqlite.run_folder import RunFolder
    from d3async.operations.observer import Progress
    from d3async.operations.server_settings import Server
    from d3async.policy.halt_and_exit_codes import Halt
    from d3async.ratelimit.limiter import Limiter, LimiterNumbers


@dataclass(frozen=True, slots=True)
class SendOptions:
    """How a run is to go; *drain* in seconds."""

    halts: Sequence[Halt]
    links_per_call: int
    drain: float
    serial: bool
    verbose: bool = False
    verify: bool = False


@dataclass(frozen=True, slots=True)
class ServerResult:
    """How it went at one D3. *requests* counts those that really left, *left* the rows without an outcome.

    *elapsed* is in seconds; *numbers* are None where nothing was begun.
    """

    server: Server
    stop: Stop | None
    requests: int
    left: int
    elapsed: float
    numbers: LimiterNumbers | None


class ServerRun:
    """Brings one D3 what it is to be sent. *tell* says something to the user; nothing is opened before `run`.

    The *only* one of a run raises what goes wrong with its D3; one of several keeps it to itself. *limiters* are those
    of the run by `limit_key`: one D3 and one key have one limit, by whatever profiles they are called.
    """

    def __init__(
        self,
        server: Server,
        journal: Journal,
        orders: SendOptions,
        *,
        workers: int,
        only: bool,
        limiters: dict[str, Limiter],
        on_row: Callable[[RowOutcome], None],
        tell: Callable[[str], None],
    ) -> None:
        self.server = server
        self.limiter: Limiter | None = None
        self.stop_reason: Stop | None = None
        self._requests = 0
        self._elapsed = 0.0
        self._journal = journal
        self._orders = orders
        self._only = only
        self._limiters = limiters
        self._on_row = on_row
        self._tell = tell
        self._noted = EventRecorder(journal)
        self._workers = workers
        self._engine: Engine | None = None
        self._over = False

    async def run(self) -> None:
        """Send the rows. Raises what is no word of D3's."""
        if self.stop_reason is not None:
            return
        settings, key = self.server.settings, limit_key(self.server.settings)
        self.limiter = self._limiters[key] = self._limiters.get(key) or host_limiter(settings, self._say)
        parts = connect(settings, limiter=self.limiter, on_attempt=self._attempt, tell=self._say)
        engine = self._engine = Engine(
            carrier=parts.delivery,
            journal=self._journal,
            rows=self.server.rows,
            workers=self._workers,
            halts=self._orders.halts,
            links_per_call=self._orders.links_per_call,
            drain=self._orders.drain,
            on_row=self._on_row,
        )
        started = time.monotonic()
        try:
            async with parts.open():
                self.stop_reason = await engine.run()
        except JournalError as error:
            self.stop_reason = stop_of(error)
        except D3Error as error:
            if self._only:
                raise
            self.stop_reason = Stop(error.code, error.message)
        finally:
            self._over = True
            self._elapsed = time.monotonic() - started
            self.look()

    def stop(self, reason: Stop) -> None:
        """Start nothing new; what is in flight may finish."""
        if self._engine is not None:
            self._engine.stop(reason)
        else:
            self.stop_reason = self.stop_reason or reason

    def cancel(self) -> None:
        """Drop what is in flight."""
        if self._engine is not None:
            self._engine.cancel()

    def look(self) -> None:
        """Note what the limiter goes through."""
        if self.limiter is not None:
            self._noted.look(self.limiter.numbers)

    @property
    def begun(self) -> bool:
        """Whether its turn has come."""
        return self._engine is not None

    @property
    def over(self) -> bool:
        """Whether nothing more is sent, and nothing is in flight."""
        return self._over or self.stop_reason is not None

    @property
    def stopping(self) -> bool:
        """Whether nothing new is begun."""
        return self.over or (self._engine is not None and self._engine.stopper.reason is not None)

    def sight(self) -> ServerProgress | None:
        """This D3 at this moment; None before it is begun and after it is over."""
        if self.limiter is None or self._engine is None or self.over:
            return None
        name = "" if self._only else self.server.name
        return ServerProgress(name, self.server.rows, self._engine.counts.total(), self.limiter.numbers)

    def ended(self) -> ServerResult:
        """How it went."""
        done = self._engine.counts.total() if self._engine else 0
        numbers = self.limiter.numbers if self.limiter else None
        left = self.server.rows - done
        return ServerResult(self.server, self.stop_reason, self._requests, left, self._elapsed, numbers)

    def _attempt(self, attempt: Attempt) -> None:
        self._requests += 1
        if self._orders.verbose:
            self._say(log_line(attempt))
        self._noted.attempt(attempt)

    def _say(self, text: str) -> None:
        self._tell(text if self._only else f"{self.server.name}: {text}")


AT_ONCE = 32
"""Servers that are worked on at the same time; the others wait for one of them to be done."""


_IN_FLIGHT = 512
"""Requests in flight at most, of all servers together: a process may usually have 1,024 files open."""
_OF_ALL = frozenset({"interrupted", "terminated", "journal", "fenced", GONE})
_PAGE = 6400
"""Lanes that all servers together keep ready."""


@dataclass(frozen=True, slots=True)
class SendResult:
    """How it went at all servers together. *requests* counts those that really left, *elapsed* is in seconds."""

    stop: Stop | None
    requests: int
    elapsed: float
    numbers: LimiterNumbers | None
    servers: tuple[ServerResult, ...]


def check_files(settings: Settings) -> None:
    """Raise `SettingsError` when a file that TLS needs cannot be used: before anything is sent, not after."""
    if settings.ca_bundle or settings.client_cert:
        files = {name: getattr(settings, name) for name in ("ca_bundle", "client_cert", "client_key")}
        tls(HttpSettings(settings.base_url, **files))


def send(
    folder: RunFolder,
    servers: Sequence[Server],
    orders: SendOptions,
    progress: Progress,
    stops: StopSource | None = None,
) -> SendResult:
    """Send what the journal of *folder* holds to be sent. Blocks until it is done, or a user stops it by *stops*."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_send(folder, servers, orders, progress, stops))


async def _send(
    folder: RunFolder, servers: Sequence[Server], orders: SendOptions, progress: Progress, stops: StopSource | None
) -> SendResult:
    store = RowStore(folder.db, epoch=folder.epoch, serial=orders.serial)
    journal = GroupCommitJournal(folder.db, store, patience=orders.drain, gone=folder.gone)
    crew = _ServerRuns(journal, servers, orders, progress, folder)
    started = time.monotonic()
    with stops(_ending(crew, progress)) if stops else nullcontext():
        lost = await crew.run()
    if orders.verify:
        await _verify(folder, crew, progress)
    crew.tick()
    ended = tuple(errand.ended() for errand in crew.errands)
    numbers = together([limiter.numbers for limiter in crew.limiters.values()])
    stop = worst([lost, *map(_stopped_by, ended)]) if len(ended) > 1 else lost or ended[0].stop
    return SendResult(stop, sum(ran.requests for ran in ended), time.monotonic() - started, numbers, ended)


def _stopped_by(ran: ServerResult) -> Stop | None:
    """Why rows of one server of several were not sent: a halt rule reached by the last one has stopped nothing."""
    if ran.stop is None or ran.stop.code in _OF_ALL:
        return ran.stop
    if ran.stop.code == "halt" and not ran.left:
        return None
    return replace(ran.stop, message=f"{ran.server.name}: {ran.stop.message}")


async def _verify(folder: RunFolder, crew: _ServerRuns, progress: Progress) -> None:
    """Read back what was removed, one server after the other: it is written down without waiting for anybody."""
    from d3async.operations.check import verify_run  # noqa: PLC0415 - the client, for this option only

    for errand in crew.errands:
        if errand.stop_reason is not None or errand.limiter is None:
            continue
        try:
            await verify_run(folder, errand.server, errand.limiter, only=crew.only, tell=progress.tell)
        except D3Error as error:
            if crew.only:
                raise
            progress.tell(f"{errand.server.name}: could not be read back: {error.message}")


class _ServerRuns:
    """An errand for each server, `AT_ONCE` of them at a time, over one journal."""

    def __init__(
        self,
        journal: GroupCommitJournal,
        servers: Sequence[Server],
        orders: SendOptions,
        progress: Progress,
        folder: RunFolder,
    ) -> None:
        self.only = len(servers) == 1
        self.limiters: dict[str, Limiter] = {}
        self._journal = journal
        self._progress = progress
        self._folder = folder
        self._place: Path | None = folder.folder
        self._active = min(len(servers), AT_ONCE)
        self.errands = [self._errand(server, orders) for server in one_limit_each(servers)]

    def _errand(self, server: Server, orders: SendOptions) -> ServerRun:
        workers = server.settings.concurrency
        journal: Journal = self._journal
        if not self.only or server.profile is not None:
            workers = min(workers, max(1, max(_IN_FLIGHT, workers) // self._active))
            journal = ProfileJournal(self._journal, server.profile, page=max(workers, _PAGE // self._active))
        return ServerRun(
            server,
            journal,
            orders,
            workers=workers,
            only=self.only,
            limiters=self.limiters,
            on_row=self._progress.row,
            tell=self._progress.tell,
        )

    async def run(self) -> Stop | None:
        """Run every errand to its end; why the journal could not be kept, or None."""
        ticking = asyncio.create_task(call_every(TICK, self.tick))
        turns = asyncio.Semaphore(self._active)

        async def take_turn(errand: ServerRun) -> None:
            async with turns:
                await errand.run()

        try:
            async with asyncio.TaskGroup() as everybody:
                for errand in self.errands:
                    everybody.create_task(take_turn(errand))
            await self._journal.aclose()
        except JournalError as error:
            return stop_of(error)
        except BaseExceptionGroup as group:
            raise first_failure(group) from None
        finally:
            ticking.cancel()
        return None

    def tick(self) -> None:
        """Some time has passed."""
        self._look_for_folder()
        for errand in self.errands:
            if errand.begun and not errand.over:
                errand.look()
        sights = [sight for errand in self.errands if (sight := errand.sight())]
        waiting = sum(errand.server.rows for errand in self.errands if not (errand.begun or errand.over))
        self._progress.tick(sights, waiting)

    def _look_for_folder(self) -> None:
        """Say where the run folder was moved to; stop once it is gone: nothing that is learnt then would be kept."""
        place = self._folder.find()
        if place == self._place:
            return
        self._place = place
        if place is not None:
            self._progress.tell(f"the run folder is now {place}; the run goes on there")
        elif (error := self._folder.gone()) is not None:
            self._progress.tell(f"{error.message} Nothing more is sent.")
            self.stop(Stop(error.code, error.message))
            asyncio.get_running_loop().call_later(GRACE, self.cancel)

    @property
    def stopping(self) -> bool:
        """Whether nothing new is begun anywhere."""
        return all(errand.stopping for errand in self.errands)

    def stop(self, reason: Stop) -> None:
        """Start nothing new anywhere; what is in flight may finish."""
        for errand in self.errands:
            errand.stop(reason)

    def cancel(self) -> None:
        """Drop what is in flight everywhere."""
        for errand in self.errands:
            errand.cancel()


def one_limit_each(servers: Sequence[Server]) -> list[Server]:
    """*servers*, those with the same D3 and the same key with the lowest rate that is set for any of them."""
    alike: dict[str, list[Server]] = {}
    for server in servers:
        alike.setdefault(limit_key(server.settings), []).append(server)
    lowest = {
        key: min((one.settings.rate for one in same if one.settings.rate), default=None) for key, same in alike.items()
    }
    return [
        server if len(same) == 1 else replace(server, settings=replace(server.settings, rate=lowest[key]))
        for key, same in alike.items()
        for server in same
    ]


def _ending(crew: _ServerRuns, progress: Progress) -> Callable[[Stop], None]:
    """What a signal does: the first drains, the second drops what is in flight."""

    def received(reason: Stop) -> None:
        if crew.stopping:
            crew.cancel()
        else:
            progress.tell("finishing what is in flight (again to cancel it) …")
            crew.stop(reason)

    return received
