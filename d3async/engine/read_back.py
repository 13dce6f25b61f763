"""What reading D3 back settles: rows nobody knows about, links said to be removed, pairs that need not be sent."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from d3async.journal.pairs import LinksToLookUp
from d3async.journal.reconcile import News, UnknownRows
from d3async.lookup import LinkReader, each, read_logs
from d3async.sansio.links import CannotTell, judge
from d3async.sansio.task_search import Finding, search

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from d3async.journal.pairs import Pair, Source
    from d3async.journal.reconcile import TaskIncident
    from d3async.journal.session import Session
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
    asker: Asker, rows: UnknownRows, ways: Sequence[str], *, wall: Callable[[], float] = time.time
) -> LinkCounts:
    """Settle unknown links: one that is gone is `ok`, one that is there `failed` with `still_linked`.

    *ways* are commands to read with, `GetIncidents` or `GetLinkedIncidentsOfAnIncident`, the first that can tell.
    Raises `UnauthorizedError`, `NotSentError`, `ThrottledError` and `JournalError`; what was settled stands.
    """
    pairs = rows.links()
    words: Counter[str] = Counter()

    def found(source: Source, reading: Reading) -> None:
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

    def found(source: Source, reading: Reading) -> None:
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
    not_linked: Callable[[Source, Pair], None],
    profile: str | None = None,
    wall: Callable[[], float] = time.time,
) -> LinkCounts:
    """Compare the pairs of *profile* staged in *session* with D3; *not_linked* hears of each that need not be sent.

    Raises `UnauthorizedError`, `NotSentError` and `ThrottledError`.
    """
    words: Counter[str] = Counter()

    def found(source: Source, reading: Reading) -> None:
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
) -> dict[int, Finding]:
    if isinstance(logs, CannotTell):
        return {task.job: Finding("not_proven", logs.why) for task in unknown}
    return search(unknown, rows.created_tasks(incident), logs, now=now)


def _task_news(job: int, finding: Finding, *, not_found_is_failed: bool) -> News:
    if finding.word == "proven":
        return News(job, None, "ok", "found", f"Looked up in D3: {finding.why}.")
    if finding.word == "absent" and not_found_is_failed:
        return News(job, None, "failed", "not_found", f"Looked up in D3: {finding.why}.")
    advice = "; --not-found-is-failed takes that for a no" if finding.word == "absent" else ""
    return News(job, None, "", "", finding.why + advice)
