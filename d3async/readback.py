"""What reading D3 back settles: rows nobody knows about, links said to be removed, pairs that need not be sent."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from d3async.journal.pairs import Pairs
from d3async.journal.reconcile import News, Reconciling
from d3async.lookup import LinkReader, each, read_logs
from d3async.sansio.links import CannotTell, judge
from d3async.sansio.task_search import Finding, search

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from d3async.journal.book import Book, LinkPairs
    from d3async.journal.pairs import Pair, Source
    from d3async.journal.reconcile import TaskIncident
    from d3async.journal.sqlite import RunFolder
    from d3async.lookup import Asker
    from d3async.sansio.links import Reading
    from d3async.sansio.task_search import SentTask

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
    asker: Asker,
    folder: RunFolder,
    ways: Sequence[str],
    *,
    profile: str | None = None,
    wall: Callable[[], float] = time.time,
) -> LinkCounts:
    """Settle the links nobody knows about: one that is gone is `ok`, one that is there `failed` with `still_linked`.

    *ways* are commands to read with, `GetIncidents` or `GetLinkedIncidentsOfAnIncident`, the first that can tell.
    Only rows of *profile* are looked at, whose D3 *asker* asks. Raises `UnauthorizedError`, `NotSentError`,
    `ThrottledError` and `JournalError`; what was settled stands.
    """
    return await settle_links(asker, Reconciling(folder, profile), Pairs.unknown(folder.db, profile), ways, wall=wall)


async def settle_links(
    asker: Asker, book: Book, pairs: LinkPairs, ways: Sequence[str], *, wall: Callable[[], float] = time.time
) -> LinkCounts:
    """`reconcile_links` over any journal: settle *pairs*, which are unknown in *book*."""
    words: Counter[str] = Counter()

    def found(source: Source, reading: Reading) -> None:
        book.settle_items(_news(chain.from_iterable(pairs.of(source)), reading, words, gone=_GONE, there=_NOT_HAPPENED))

    await LinkReader(asker, ways, wall).read(pairs, found)
    pairs.close()
    return LinkCounts.of(words)


async def verify(
    asker: Asker,
    folder: RunFolder,
    ways: Sequence[str],
    *,
    profile: str | None = None,
    wall: Callable[[], float] = time.time,
) -> LinkCounts:
    """Read back the links of the rows of *profile* this run has sent: what D3 still lists is `failed`, `still_linked`.

    To be called when the engine has ended and its journal is flushed, before the outcomes are counted. Only
    `GetIncidents` can find such a link. Raises as `reconcile_links` does.
    """
    book = Reconciling(folder, profile)
    words: Counter[str] = Counter()

    def found(source: Source, reading: Reading) -> None:
        news = _news(chain.from_iterable(pairs.of(source)), reading, words, gone=None, there=_NOT_REMOVED)
        book.settle_items((one for one in news if one.outcome), was="ok")

    pairs = Pairs.removed(folder.db, folder.epoch, profile)
    await LinkReader(asker, ways, wall).read(pairs, found)
    pairs.close()
    return LinkCounts.of(words)


async def against(
    asker: Asker,
    db: sqlite3.Connection,
    ways: Sequence[str],
    *,
    not_linked: Callable[[Source, Pair], None],
    profile: str | None = None,
    wall: Callable[[], float] = time.time,
) -> LinkCounts:
    """Compare the pairs of *profile* staged in *db* with D3; *not_linked* hears of each that need not be sent.

    Raises `UnauthorizedError`, `NotSentError` and `ThrottledError`.
    """
    words: Counter[str] = Counter()

    def found(source: Source, reading: Reading) -> None:
        for pair in chain.from_iterable(pairs.of(source)):
            word, _ = judge(pair.name, reading)
            words[word] += 1
            if word == "gone":
                not_linked(source, pair)

    pairs = Pairs.staged(db, profile)
    await LinkReader(asker, ways, wall).read(pairs, found)
    pairs.close()
    return LinkCounts.of(words)


def _news(
    pairs: Iterator[Pair],
    reading: Reading,
    words: Counter[str],
    *,
    gone: tuple[str, str, str] | None,
    there: tuple[str, str, str],
) -> Iterator[News]:
    for pair in pairs:
        word, why = judge(pair.name, reading)
        words[word] += 1
        outcome = {"gone": gone, "linked": there, "cannot_tell": None}[word] or ("", "", why)
        yield News(pair.job, pair.item, *outcome)


async def reconcile_tasks(
    asker: Asker,
    folder: RunFolder,
    *,
    not_found_is_failed: bool = False,
    profile: str | None = None,
    wall: Callable[[], float] = time.time,
) -> TaskCounts:
    """Settle the tasks of *profile* nobody knows about by their incidents' logs: one that is found there is `ok`.

    With *not_found_is_failed* a marked task that a log surely lacks is `failed` and sent again by the next run.
    Raises as `reconcile_links` does.
    """
    return await settle_tasks(asker, Reconciling(folder, profile), not_found_is_failed=not_found_is_failed, wall=wall)


async def settle_tasks(
    asker: Asker, book: Book, *, not_found_is_failed: bool = False, wall: Callable[[], float] = time.time
) -> TaskCounts:
    """`reconcile_tasks` over any journal: settle the tasks that are unknown in *book*."""
    words: Counter[str] = Counter()

    async def work(incident: TaskIncident) -> None:
        logs = await read_logs(asker, incident)
        unknown = book.unknown_tasks(incident)
        findings = _findings(unknown, book, incident, logs, now=wall())
        words.update(finding.word for finding in findings.values())
        book.settle_tasks(
            _task_news(job, finding, not_found_is_failed=not_found_is_failed) for job, finding in findings.items()
        )

    await each(book.task_incidents(), work)
    return TaskCounts(words["proven"], words["absent"], words["ambiguous"] + words["not_proven"])


def _findings(
    unknown: Sequence[SentTask],
    book: Book,
    incident: TaskIncident,
    logs: Mapping[int, object] | CannotTell,
    *,
    now: float,
) -> dict[int, Finding]:
    if isinstance(logs, CannotTell):
        return {task.job: Finding("not_proven", logs.why) for task in unknown}
    return search(unknown, book.created_tasks(incident), logs, now=now)


def _task_news(job: int, finding: Finding, *, not_found_is_failed: bool) -> News:
    if finding.word == "proven":
        return News(job, None, "ok", "found", f"Looked up in D3: {finding.why}.")
    if finding.word == "absent" and not_found_is_failed:
        return News(job, None, "failed", "not_found", f"Looked up in D3: {finding.why}.")
    advice = "; --not-found-is-failed takes that for a no" if finding.word == "absent" else ""
    return News(job, None, "", "", finding.why + advice)
