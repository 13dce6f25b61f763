"""Reads D3 back: present links of many sources, logs of incidents; many at a time, under the client's one limit."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio

from d3async.errors import D3Error, NotSentError, RefusedError, ThrottledError, UnauthorizedError, UnknownOutcomeError
from d3async.sansio.call import fold
from d3async.sansio.links import (
    GET_INCIDENTS,
    GET_LINKED,
    CannotTell,
    incidents_query,
    linked_query,
    more_pages,
    periods,
    read_linked,
    read_page,
)
from d3async.sansio.task_search import GET_LOGS, HISTORY, TASKS, logs_query

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

    from d3async.journal.pairs import LinksToLookUp, Source
    from d3async.journal.reconcile import TaskIncident
    from d3async.sansio.links import Period, Reading

T = TypeVar("T")

BATCH = 50
"""Sources that one GetIncidents asks for."""
_AT_ONCE = 8


class Asker(Protocol):
    """What is needed of `D3Client`."""

    async def call(
        self, name: str, params: Mapping[str, Any], *, username: str | None = None, site: str | None = None
    ) -> Any:
        """One D3 command; its answer as JSON."""
        ...


@dataclass(frozen=True, slots=True)
class LinkReader:
    """Reads links by the commands *ways*, the next one where one can't tell. *wall* is seconds since 1970."""

    asker: Asker
    ways: Sequence[str]
    wall: Callable[[], float] = field(default=time.time)

    async def read(self, pairs: LinksToLookUp, found: Callable[[Source, Reading], None]) -> None:
        """Tell *found* what is known of each source of *pairs*, as it becomes known.

        Raises `UnauthorizedError`, `NotSentError` and `ThrottledError`; what was found until then stands.
        """

        async def work(batch: Sequence[Source]) -> None:
            for source, reading in (await self._batch(batch)).items():
                found(source, reading)

        await each(pairs.batches(BATCH if GET_INCIDENTS in self.ways else 1), work)

    async def _batch(self, batch: Sequence[Source]) -> dict[Source, Reading]:
        readings: dict[Source, Reading] = dict.fromkeys(batch, CannotTell("no key for a command that reads links"))
        for way in self.ways:
            left = [source for source, reading in readings.items() if isinstance(reading, CannotTell)]
            if way == GET_INCIDENTS:
                readings |= await self._direct(left) if left else {}
            else:
                readings |= {source: await self._recursive(source) for source in left}
        return readings

    async def _direct(self, batch: Sequence[Source]) -> dict[Source, Reading]:
        wanted = {fold(source.number): source for source in batch}
        readings: dict[str, Reading] = {}
        for period in periods([source.number for source in batch], now=self._now()):
            missing = {number: source for number, source in wanted.items() if number not in readings}
            if missing:
                readings |= await _told(self._pages(missing, period), missing)
        nowhere = CannotTell("D3 lists no such incident; its user may not see it")
        return {source: readings.get(number, nowhere) for number, source in wanted.items()}

    async def _pages(self, missing: Mapping[str, Source], period: Period) -> dict[str, Reading]:
        readings: dict[str, Reading] = {}
        numbers = [source.number for source in missing.values()]
        one = next(iter(missing.values()))
        index, more = 0, True
        while more:
            params = incidents_query(numbers, period, index)
            answer = await self.asker.call(GET_INCIDENTS, params, username=one.username, site=one.site)
            page = read_page(answer, missing)
            readings = page.readings | readings
            more = more_pages(page, index, missing.keys() - readings.keys())
            index += 1
        return readings

    async def _recursive(self, source: Source) -> Reading:
        async def ask() -> dict[str, Reading]:
            params = linked_query(source.number)
            answer = await self.asker.call(GET_LINKED, params, username=source.username, site=source.site)
            return {source.key: read_linked(answer, source.number)}

        return (await _told(ask(), (source.key,)))[source.key]

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.wall(), UTC).replace(tzinfo=None)


async def read_logs(asker: Asker, incident: TaskIncident) -> dict[int, Any] | CannotTell:
    """The answers about ad hoc tasks in the command-centre log of *incident*, by log type."""
    answers: dict[int, Any] = {}
    try:
        for log_type in (HISTORY, TASKS):
            params = logs_query(incident.number, log_type)
            answers[log_type] = await asker.call(GET_LOGS, params, username=incident.username, site=incident.site)
    except (UnauthorizedError, NotSentError, ThrottledError):
        raise
    except (RefusedError, UnknownOutcomeError) as error:
        return CannotTell(f"its incident's log cannot be read: {error.message}")
    return answers


async def _told(asking: Awaitable[dict[str, Reading]], names: Iterable[str]) -> dict[str, Reading]:
    """What *asking* brings; what D3 refuses to say, or says in no readable way, can't be told of any of *names*."""
    try:
        return await asking
    except (UnauthorizedError, NotSentError, ThrottledError):
        raise
    except (RefusedError, UnknownOutcomeError) as error:
        return dict.fromkeys(names, CannotTell(f"D3 says: {error.message}"))


async def each(things: Iterator[T], work: Callable[[T], Awaitable[None]], *, at_once: int = _AT_ONCE) -> None:
    """Do *work* on each of *things*, some at once, fetching them as they are wanted; the first error ends it."""
    failed: list[D3Error] = []

    async def worker() -> None:
        for thing in things:
            try:
                await work(thing)
            except D3Error as error:
                failed.append(error)
            if failed:
                return

    async with anyio.create_task_group() as group:
        for _ in range(at_once):
            group.start_soon(worker)
    if failed:
        raise failed[0]
