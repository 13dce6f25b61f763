"""Look links and tasks up in D3: by which commands, what the answers prove, which rows they settle."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio

from d3async.d3.call import normalize_number
from d3async.d3.linked_incidents import (
    GET_INCIDENTS,
    GET_LINKED,
    CannotTell,
    incidents_query,
    judge,
    linked_query,
    more_pages,
    periods,
    read_linked,
    read_page,
)
from d3async.d3.task_search import GET_LOGS, HISTORY, TASKS, TaskMatch, logs_query, search
from d3async.errors import (
    D3Error,
    NotSentError,
    RefusedError,
    ThrottledError,
    UnauthorizedError,
    UnknownOutcomeError,
)
from d3async.journal.reconcile import LinksToLookUp, LookupResult, UnknownRows

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

    from d3async.d3.linked_incidents import Period, Reading
    from d3async.d3.task_search import SentTask
    from d3async.journal.protocols import Session
    from d3async.journal.reconcile import Link, SourceIncident, TaskIncident

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

    async def read(self, pairs: LinksToLookUp, found: Callable[[SourceIncident, Reading], None]) -> None:
        """Tell *found* what is known of each source of *pairs*, as it becomes known.

        Raises `UnauthorizedError`, `NotSentError` and `ThrottledError`; what was found until then is kept.
        """

        async def work(batch: Sequence[SourceIncident]) -> None:
            for source, reading in (await self._batch(batch)).items():
                found(source, reading)

        await each(pairs.batches(BATCH if GET_INCIDENTS in self.ways else 1), work)

    async def _batch(self, batch: Sequence[SourceIncident]) -> dict[SourceIncident, Reading]:
        readings: dict[SourceIncident, Reading] = dict.fromkeys(
            batch, CannotTell("no key for a command that reads links")
        )
        for way in self.ways:
            left = [source for source, reading in readings.items() if isinstance(reading, CannotTell)]
            if way == GET_INCIDENTS:
                readings |= await self._direct(left) if left else {}
            else:
                readings |= {source: await self._recursive(source) for source in left}
        return readings

    async def _direct(self, batch: Sequence[SourceIncident]) -> dict[SourceIncident, Reading]:
        wanted = {normalize_number(source.number): source for source in batch}
        readings: dict[str, Reading] = {}
        for period in periods([source.number for source in batch], now=self._now()):
            missing = {number: source for number, source in wanted.items() if number not in readings}
            if missing:
                readings |= await _told(self._pages(missing, period), missing)
        nowhere = CannotTell("D3 lists no such incident; its user may not see it")
        return {source: readings.get(number, nowhere) for number, source in wanted.items()}

    async def _pages(self, missing: Mapping[str, SourceIncident], period: Period) -> dict[str, Reading]:
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

    async def _recursive(self, source: SourceIncident) -> Reading:
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
    """What *asking* brings; what D3 refuses to say, or says in no readable way, is not known of any of *names*."""
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


_GONE = ("ok", "removed", "Read back from D3: no longer linked.")
_NOT_HAPPENED = ("failed", "still_linked", "Read back from D3: still linked.")
_NOT_REMOVED = ("failed", "still_linked", "D3 said it was removed, yet lists it as linked when read back.")


@dataclass(frozen=True, slots=True)
class LinkCounts:
    """Links by what was read: *gone*, still *linked*, and those of which D3's answer can't tell."""

    gone: int
    linked: int
    cannot_tell: int

    @classmethod
    def of(cls, words: Counter[str]) -> LinkCounts:
        """From the words `judge` gave."""
        return cls(words["gone"], words["linked"], words["cannot_tell"])

    def __add__(self, other: LinkCounts) -> LinkCounts:
        return LinkCounts(self.gone + other.gone, self.linked + other.linked, self.cannot_tell + other.cannot_tell)


@dataclass(frozen=True, slots=True)
class TaskCounts:
    """Tasks by what was found: *found* in the log, surely *absent*, *open* as before."""

    found: int
    absent: int
    open: int

    def __add__(self, other: TaskCounts) -> TaskCounts:
        return TaskCounts(self.found + other.found, self.absent + other.absent, self.open + other.open)


async def reconcile_links(
    asker: Asker, rows: UnknownRows, ways: Sequence[str], *, wall: Callable[[], float] = time.time
) -> LinkCounts:
    """Settle unknown links: one that is gone is `ok`, one that is there `failed` with `still_linked`.

    *ways* are commands to read with, `GetIncidents` or `GetLinkedIncidentsOfAnIncident`, the first that can tell.
    Raises `UnauthorizedError`, `NotSentError`, `ThrottledError` and `JournalError`; what was settled is kept.
    """
    pairs = rows.links()
    words: Counter[str] = Counter()

    def found(source: SourceIncident, reading: Reading) -> None:
        rows.settle_items(_news(chain.from_iterable(pairs.of(source)), reading, words, gone=_GONE, there=_NOT_HAPPENED))

    await LinkReader(asker, ways, wall).read(pairs, found)
    pairs.close()
    return LinkCounts.of(words)


async def verify(
    asker: Asker,
    session: Session,
    ways: Sequence[str],
    *,
    profile: str | None = None,
    wall: Callable[[], float] = time.time,
) -> LinkCounts:
    """Read back the links of the rows of *profile* this run has sent: what D3 still lists is `failed`, `still_linked`.

    To be called when the engine has ended and its journal is flushed, before the outcomes are counted. Only
    `GetIncidents` can find such a link. Raises as `reconcile_links` does.
    """
    rows = UnknownRows(session, profile)
    words: Counter[str] = Counter()

    def found(source: SourceIncident, reading: Reading) -> None:
        news = _news(chain.from_iterable(pairs.of(source)), reading, words, gone=None, there=_NOT_REMOVED)
        rows.settle_items((one for one in news if one.outcome), was="ok")

    pairs = LinksToLookUp.removed(session, profile)
    await LinkReader(asker, ways, wall).read(pairs, found)
    pairs.close()
    return LinkCounts.of(words)


async def against(
    asker: Asker,
    session: Session,
    ways: Sequence[str],
    *,
    not_linked: Callable[[SourceIncident, Link], None],
    profile: str | None = None,
    wall: Callable[[], float] = time.time,
) -> LinkCounts:
    """Compare the pairs of *profile* staged in *session* with D3; *not_linked* hears of each that need not be sent.

    Raises `UnauthorizedError`, `NotSentError` and `ThrottledError`.
    """
    words: Counter[str] = Counter()

    def found(source: SourceIncident, reading: Reading) -> None:
        for pair in chain.from_iterable(pairs.of(source)):
            word, _ = judge(pair.name, reading)
            words[word] += 1
            if word == "gone":
                not_linked(source, pair)

    pairs = LinksToLookUp.staged(session, profile)
    await LinkReader(asker, ways, wall).read(pairs, found)
    pairs.close()
    return LinkCounts.of(words)


def _news(
    pairs: Iterator[Link],
    reading: Reading,
    words: Counter[str],
    *,
    gone: tuple[str, str, str] | None,
    there: tuple[str, str, str],
) -> Iterator[LookupResult]:
    for pair in pairs:
        word, why = judge(pair.name, reading)
        words[word] += 1
        outcome = {"gone": gone, "linked": there, "cannot_tell": None}[word] or ("", "", why)
        yield LookupResult(pair.job, pair.item, *outcome)


async def reconcile_tasks(
    asker: Asker, rows: UnknownRows, *, not_found_is_failed: bool = False, wall: Callable[[], float] = time.time
) -> TaskCounts:
    """Settle unknown tasks by their incidents' logs: one that is found there is `ok`.

    With *not_found_is_failed* a marked task that a log surely lacks is `failed` and sent again by the next run.
    Raises as `reconcile_links` does.
    """
    words: Counter[str] = Counter()

    async def work(incident: TaskIncident) -> None:
        logs = await read_logs(asker, incident)
        unknown = rows.unknown_tasks(incident)
        findings = _findings(unknown, rows, incident, logs, now=wall())
        words.update(finding.word for finding in findings.values())
        rows.settle_tasks(
            _task_news(job, finding, not_found_is_failed=not_found_is_failed) for job, finding in findings.items()
        )

    await each(rows.task_incidents(), work)
    return TaskCounts(words["proven"], words["absent"], words["ambiguous"] + words["not_proven"])


def _findings(
    unknown: Sequence[SentTask],
    rows: UnknownRows,
    incident: TaskIncident,
    logs: Mapping[int, object] | CannotTell,
    *,
    now: float,
) -> dict[int, TaskMatch]:
    if isinstance(logs, CannotTell):
        return {task.job: TaskMatch("not_proven", logs.why) for task in unknown}
    return search(unknown, rows.created_tasks(incident), logs, now=now)


def _task_news(job: int, finding: TaskMatch, *, not_found_is_failed: bool) -> LookupResult:
    if finding.word == "proven":
        return LookupResult(job, None, "ok", "found", f"Looked up in D3: {finding.why}.")
    if finding.word == "absent" and not_found_is_failed:
        return LookupResult(job, None, "failed", "not_found", f"Looked up in D3: {finding.why}.")
    advice = "; --not-found-is-failed takes that for a no" if finding.word == "absent" else ""
    return LookupResult(job, None, "", "", finding.why + advice)
