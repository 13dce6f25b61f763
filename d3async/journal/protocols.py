"""What the engine and the written files ask of a journal, whichever database keeps it."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from d3async.journal.model import RunRecord, check_items, check_numbers, counted, outcome_of
from d3async.policy.hand_settlement import CODE

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from d3async.d3.call import Call
    from d3async.jobs.feedback_rows import Mark
    from d3async.journal.model import CallResult, Event, FolderOwner, ItemRecord, RowOutcome, RowRecord


class AttemptLog(Protocol):
    """What is written down around each attempt."""

    async def claim(self, call: Call, at: float) -> None:
        """Mark *call* as sent, durably. Raises `FencedError` when another owner has claimed any of it.

        Cancelled, it leaves no mark.
        """
        ...

    def release(self, call: Call, *, sent: bool) -> None:
        """Take the latest mark back: that attempt changed nothing. *sent*: a request left all the same (a 429)."""
        ...


class Journal(AttemptLog, Protocol):
    """Writes go in groups: what was learnt, in the order it was told, then claims. One process owns it at a time.

    A call's claim is waited for before anything else is asked about that call.

    Every method may raise `JournalError`; those that change a row raise `FencedError` once another process has
    taken the journal over.
    """

    async def lanes(self, after: int, most: int) -> Sequence[tuple[int, Call | None]]:
        """The next lanes (> *after*, ascending) with work, each with its call where one is all there is to it."""
        ...

    async def take(self, lane: int, most: int) -> Call | None:
        """The next call of *lane*, with at most *most* items; None when the lane has no more work."""
        ...

    def settle(self, settlement: CallResult) -> Future[list[RowOutcome]]:
        """Record the last word; the future brings the rows that are finished by it."""
        ...

    def note(self, event: Event) -> None:
        """Record *event*."""
        ...

    async def flush(self) -> None:
        """Wait until everything asked for so far is stored."""
        ...


ANSWERED = "done_at >= coalesce(sent_at, done_at)"
"""Rows whose last answer is that of their last sending: after a 401 the answer that counts is an earlier one."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The questions in the words of one database; *mark* is the sign of a value, `{0}` the cases of *latencies*."""

    mark: str
    spans: str
    slowed: str
    answered: str
    throttled: str
    pauses: str
    latencies: str


SQLITE = Figures(
    mark="?",
    spans="select epoch, min(coalesce(sent_at, done_at)), max(done_at) from job"
    f" where row is not null and {ANSWERED} group by epoch",
    slowed="select epoch, min(at) from event where kind = 'throttled' group by epoch",
    answered="select cast((done_at - ?) / ? as int) as at, sum(state = 'ok'), sum(state <> 'ok') from job"
    f" where row is not null and epoch = ? and {ANSWERED} group by at",
    throttled="select cast((at - ?) / ? as int), count(*) from event where epoch = ? and kind = 'throttled' group by 1",
    pauses="select at - case kind when 'pause' then seconds else 0 end, seconds from event"
    " where epoch = ? and kind in ('pause', 'outage') and seconds > 0 order by seconds desc, at limit ?",
    latencies="select case {0} end, count(*) from job"
    f" where row is not null and sent_at is not null and {ANSWERED} group by 1",
)


def spans(reader: RunReader) -> dict[int, tuple[float, float]]:
    """When each run that brought answers sent first and was answered last, in seconds since 1970, by epoch."""
    slowed = dict(reader.query(reader.figures.slowed))
    return {
        epoch: (min(sent, slowed.get(epoch, sent)), done) for epoch, sent, done in reader.query(reader.figures.spans)
    }


def answered(reader: RunReader, epoch: int, start: float, width: float) -> list[tuple[int, int, int]]:
    """Rows answered in each stretch of *width* seconds from *start*: (stretch from 0, ok, not ok)."""
    return reader.query(reader.figures.answered, start, width, epoch)


def throttled(reader: RunReader, epoch: int, start: float, width: float) -> dict[int, int]:
    """429s in each stretch of *width* seconds from *start*."""
    return dict(reader.query(reader.figures.throttled, start, width, epoch))


def pauses(reader: RunReader, epoch: int, most: int) -> list[tuple[float, float]]:
    """The longest pauses and outages, at most *most*: (when it began, seconds). A pause is noted when it ends."""
    return reader.query(reader.figures.pauses, epoch, most)


def latency_counts(reader: RunReader, bounds: Sequence[float]) -> list[int]:
    """Rows answered within each of *bounds* (seconds, ascending) and not within the one before it; then the rest."""
    mark = reader.figures.mark
    cases = " ".join(f"when done_at - sent_at <= {mark} then {at}" for at in range(len(bounds)))
    found = dict(reader.query(reader.figures.latencies.format(f"{cases} else {len(bounds)}"), *bounds))
    return [found.get(at, 0) for at in range(len(bounds) + 1)]


class RunReader(Protocol):
    """One journal at one moment; see `FolderReader`, which says more of each."""

    @property
    def folder(self) -> Path:
        """Where its files are written, and what it is called in what to type next."""
        ...

    @property
    def figures(self) -> Figures:
        """The statements of `journal.protocols` in the words of its database."""
        ...

    @property
    def has_items(self) -> bool:
        """Whether any row has items."""
        ...

    def meta(self) -> dict[str, str]:
        """Everything the journal says about itself and its file."""
        ...

    def owner(self) -> FolderOwner | None:
        """Who works on it."""
        ...

    def counts(self) -> dict[str, int]:
        """Rows of the current file by outcome, all six always."""
        ...

    def counts_by_profile(self) -> dict[str | None, dict[str, int]]:
        """As `counts`, for each profile that rows go to."""
        ...

    def item_counts(self) -> dict[str, int]:
        """Items of the current file's rows by outcome."""
        ...

    def settled_by_hand(self) -> dict[str, int]:
        """Rows of the current file that a user settled, wholly or in some items, by outcome."""
        ...

    def vanished(self) -> int:
        """Rows that were in an earlier state of the file and are no longer."""
        ...

    def in_flight(self) -> int:
        """Rows sent whose answer is not recorded."""
        ...

    def to_send(self) -> int:
        """Rows that are still to be sent."""
        ...

    def done_since(self, at: float) -> int:
        """Rows answered after *at*, in seconds since 1970, UTC."""
        ...

    def rows(self, outcomes: Iterable[str] | None = None, *, full: bool = False) -> Iterator[RowRecord]:
        """Rows of the current file, in its order."""
        ...

    def items(self, outcomes: Iterable[str] | None = None) -> Iterator[ItemRecord]:
        """Items of the current file's rows, in the rows' order."""
        ...

    def marks(self, outcomes: Iterable[str]) -> Iterator[Mark] | None:
        """The mark of each of `rows(outcomes)`; None where its rows have none."""
        ...

    def written(self) -> dict[str, list[str]]:
        """Digests of what was written into files of its folder, by their names."""
        ...

    def answer(self, number: int) -> str | None:
        """D3's answer as text."""
        ...

    def runs(self) -> list[RunRecord]:
        """Every run over it, the first one first."""
        ...

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of one small SQL question, in the words of its database."""
        ...

    def check(self) -> None:
        """Raise `ConservationError` unless every row, and every item of a row that was tried, has one outcome."""
        ...


_STATES = "select state, count(*) from {job} where {here} and {present} group by state"
_ITEM_STATES = """
select i.state, count(*) from (select job, state from {item} where {here}) i
join (select id from {job} where {here} and {present}) j on j.id = i.job group by i.state"""
_BY_HAND = """
select state, count(*) from {job} j where {here} and {present} and (code = :code or exists
    (select 1 from {item} i where {here} and i.job = j.id and i.code = :code)) group by state order by state"""
_NUMBERS = "select count(row), min(row), max(row) from {row} where {here} and row is not null"
# a pending item is one that came with a change of its row: it waits for the next run
_BROKEN = """
select (select r.row from {row} r where {here} and r.id = j.id), j.state
from {job} j join (
    select job, count(*) as items, count(case when state = 'ok' then 1 end) as ok,
        count(case when state = 'failed' then 1 end) as failed,
        count(case when state = 'pending' then 1 end) as pending,
        count(case when state in ('unknown', 'sent') then 1 end) as unknown
    from {item} where {here} group by job
) i on i.job = j.id
where {here} and {present} and not todo and (ok + failed + unknown + pending <> items or not case j.state
    when 'ok' then ok = items
    when 'failed' then ok = 0 and unknown = 0
    when 'partial' then ok > 0 and ok < items and unknown = 0
    when 'unknown' then unknown > 0
    else true end)
limit 1"""
_RUNS = "select {number}, started_at, finished_at, exit_code, facts from {round} where {here} order by 1"


class ReaderBase(ABC):
    """A journal at one moment; *place* is what errors call it."""

    def __init__(self, place: Path | str) -> None:
        self._place = place
        self._states: dict[str, int] | None = None
        self._has_items = False

    @abstractmethod
    def _ask(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        """The rows that *statement* finds. Raises `JournalError`."""

    @abstractmethod
    def meta(self) -> dict[str, str]:
        """Everything the journal says about itself and its file."""

    def _unopened(self) -> int:
        """Rows that are pending and to be sent though no row of `{job}` says so."""
        return 0

    def counts(self) -> dict[str, int]:
        """Rows of the current file by outcome, all six always; a row in flight counts as `unknown`."""
        return counted([*self._by_state().items(), ("pending", self._unopened())], self._place)

    def _by_state(self) -> Mapping[str, int]:
        if self._states is None:
            self._states = dict(self._ask(_STATES))
        return self._states

    def item_counts(self) -> dict[str, int]:
        """Items of the current file's rows by outcome: ok, failed, unknown, unsent, always."""
        counts = counted(self._ask(_ITEM_STATES), self._place)
        return {outcome: counts[outcome] for outcome in ("ok", "failed", "unknown", "unsent")}

    def settled_by_hand(self) -> dict[str, int]:
        """Rows of the current file that a user settled, wholly or in some items, by outcome."""
        if not self._ask("select 1 from {event} where {here} and kind = 'settled' limit 1"):
            return {}
        return {outcome_of(state): count for state, count in self._ask(_BY_HAND, code=CODE)}

    def vanished(self) -> int:
        """Rows that were in an earlier state of the file and are no longer."""
        return self._count("not ({present})")

    def in_flight(self) -> int:
        """Rows sent whose answer is not recorded."""
        return self._by_state().get("sent", 0)

    def to_send(self) -> int:
        """Rows the current run still has to send."""
        return self._count("{to_send} and state <> 'sent'") + self._unopened()

    def done_since(self, at: float) -> int:
        """Rows answered after *at*, in seconds since 1970, UTC."""
        return self._count("{present} and done_at > :at", at=at)

    def _count(self, condition: str, **values: object) -> int:
        return int(self._ask(f"select count(*) from {{job}} j where {{here}} and {condition}", **values)[0][0])

    @property
    def has_items(self) -> bool:
        """Whether any row has items."""
        return self._has_items

    def runs(self) -> list[RunRecord]:
        """Every run over it, the first one first."""
        return [
            RunRecord(number, started, finished, code, json.loads(facts or "{}"))
            for number, started, finished, code, facts in self._ask(_RUNS)
        ]

    def check(self) -> None:
        """Raise `ConservationError` unless every row, and every item of a row that was tried, has one outcome."""
        [(rows, first, last)] = self._ask(_NUMBERS)
        check_numbers(self._place, int(self.meta().get("rows", 0)), (rows, first, last), self.counts())
        check_items(self._place, [(row, state) for row, state in self._ask(_BROKEN)] if self._has_items else [])


class Statements(Protocol):
    """A journal, for statements that have one text for both databases: see `journal.sqlite.session`."""

    @property
    def salt(self) -> str:
        """What makes the marks of this journal's rows other than those of the same rows elsewhere."""
        ...

    def all(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        """The rows that *statement* finds. Raises `JournalError`."""
        ...

    def run(self, statement: str, **values: object) -> None:
        """Execute *statement*. Raises `JournalError`."""
        ...

    def run_many(self, statement: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Execute *statement* with the values of each of *rows*. Raises `JournalError`."""
        ...

    @property
    def uid(self) -> str:
        """What tells this journal from all others; row marks are made of it."""
        ...

    def escape(self, text: str) -> str:
        """*text* as the database can store it."""
        ...

    def unescape(self, text: str) -> str:
        """The text that `escape` made *text* of."""
        ...


class Session(Statements, Protocol):
    """A journal that this process may change."""

    def changing(self) -> AbstractContextManager[None]:
        """A transaction in which nothing else changes the journal: all of it or nothing.

        Raises `FencedError` or `FolderHeldError` when another process owns the journal, `JournalError`.
        """
        ...
