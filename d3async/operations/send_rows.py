"""The part of `run` that talks to D3: an errand for each server, signals, progress."""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from d3async.cli.errand import Errand, Orders, ServerRan
from d3async.cli.plan import AT_ONCE
from d3async.cli.sight import together
from d3async.ended import GRACE, stop_of
from d3async.errors import D3Error, JournalError, first_failure
from d3async.journal.group import GroupJournal
from d3async.journal.share import Share
from d3async.journal.store import Store
from d3async.network import Network, tls
from d3async.noted import TICK, every
from d3async.program import loop_factory
from d3async.sansio.exit_code import worst
from d3async.sansio.next_step import GONE
from d3async.sansio.retry import Stop
from d3async.shared_limit.opening import limit_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from d3async.cli.servers import Server
    from d3async.journal.base import Journal
    from d3async.journal.sqlite import RunFolder
    from d3async.limiter import Limiter, LimiterNumbers
    from d3async.operations.observer import Progress, StopSource
    from d3async.settings import Settings

__all__ = ["Orders", "Ran", "check_files", "send"]

_IN_FLIGHT = 512
"""Requests in flight at most, of all servers together: a process may usually have 1,024 files open."""
_OF_ALL = frozenset({"interrupted", "terminated", "journal", "fenced", GONE})
_PAGE = 6400
"""Lanes that all servers together keep ready."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How it went at all servers together. *requests* counts those that really left, *elapsed* is in seconds."""

    stop: Stop | None
    requests: int
    elapsed: float
    numbers: LimiterNumbers | None
    servers: tuple[ServerRan, ...]


def check_files(settings: Settings) -> None:
    """Raise `SettingsError` when a file that TLS needs cannot be used: before anything is sent, not after."""
    if settings.ca_bundle or settings.client_cert:
        files = {name: getattr(settings, name) for name in ("ca_bundle", "client_cert", "client_key")}
        tls(Network(settings.base_url, **files))


def send(
    folder: RunFolder, servers: Sequence[Server], orders: Orders, progress: Progress, stops: StopSource | None = None
) -> Ran:
    """Send what the journal of *folder* holds to be sent. Blocks until it is done, or a user stops it by *stops*."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_send(folder, servers, orders, progress, stops))


async def _send(
    folder: RunFolder, servers: Sequence[Server], orders: Orders, progress: Progress, stops: StopSource | None
) -> Ran:
    store = Store(folder.db, epoch=folder.epoch, serial=orders.serial)
    journal = GroupJournal(folder.db, store, patience=orders.drain, gone=folder.gone)
    crew = _Crew(journal, servers, orders, progress, folder)
    started = time.monotonic()
    with stops(_ending(crew, progress)) if stops else nullcontext():
        lost = await crew.run()
    if orders.verify:
        await _verify(folder, crew, progress)
    crew.tick()
    ended = tuple(errand.ended() for errand in crew.errands)
    numbers = together([limiter.numbers for limiter in crew.limiters.values()])
    stop = worst([lost, *map(_stopped_by, ended)]) if len(ended) > 1 else lost or ended[0].stop
    return Ran(stop, sum(ran.requests for ran in ended), time.monotonic() - started, numbers, ended)


def _stopped_by(ran: ServerRan) -> Stop | None:
    """Why rows of one server of several were not sent: a halt rule reached by the last one has stopped nothing."""
    if ran.stop is None or ran.stop.code in _OF_ALL:
        return ran.stop
    if ran.stop.code == "halt" and not ran.left:
        return None
    return replace(ran.stop, message=f"{ran.server.name}: {ran.stop.message}")


async def _verify(folder: RunFolder, crew: _Crew, progress: Progress) -> None:
    """Read back what was removed, one server after the other: it is written down without waiting for anybody."""
    from d3async.cli.against import verify_run  # noqa: PLC0415 - the client, for this option only

    for errand in crew.errands:
        if errand.stop_reason is not None or errand.limiter is None:
            continue
        try:
            await verify_run(folder, errand.server, errand.limiter, only=crew.only, tell=progress.tell)
        except D3Error as error:
            if crew.only:
                raise
            progress.tell(f"{errand.server.name}: could not be read back: {error.message}")


class _Crew:
    """An errand for each server, `AT_ONCE` of them at a time, over one journal."""

    def __init__(
        self,
        journal: GroupJournal,
        servers: Sequence[Server],
        orders: Orders,
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

    def _errand(self, server: Server, orders: Orders) -> Errand:
        workers = server.settings.concurrency
        journal: Journal = self._journal
        if not self.only or server.profile is not None:
            workers = min(workers, max(1, max(_IN_FLIGHT, workers) // self._active))
            journal = Share(self._journal, server.profile, page=max(workers, _PAGE // self._active))
        return Errand(
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
        ticking = asyncio.create_task(every(TICK, self.tick))
        turns = asyncio.Semaphore(self._active)

        async def take_turn(errand: Errand) -> None:
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


def _ending(crew: _Crew, progress: Progress) -> Callable[[Stop], None]:
    """What a signal does: the first drains, the second drops what is in flight."""

    def received(reason: Stop) -> None:
        if crew.stopping:
            crew.cancel()
        else:
            progress.tell("finishing what is in flight (again to cancel it) …")
            crew.stop(reason)

    return received
