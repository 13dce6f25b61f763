"""Rows claimed, released and brought to their outcomes, what to send next; rows as an app gets them."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from d3async.d3.call import Call, JsonObject, normalize_number
from d3async.d3.commands import all_commands
from d3async.errors import ConservationError, FencedError
from d3async.journal.model import INTERRUPTED, JobItem, JobOutcome, RowOutcome, outcome_of
from d3async.policy.outcome import ItemOutcome, row_from_items, row_result

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from d3async.d3.commands import Command
    from d3async.journal.model import CallResult, Event
    from d3async.policy.outcome import RowResult

_AMONG = "in (select value from json_each(?))"


def row_results(db: sqlite3.Connection, jobs: Sequence[int]) -> dict[int, RowResult]:
    """The result of each of *jobs*. Items are counted only of rows that have none left to send.

    Raises `ConservationError` when an item of such a row has no outcome.
    """
    among = (json.dumps(jobs),)
    rows = db.execute(f"select id, row from job where id {_AMONG} order by row", among).fetchall()
    waiting = dict(
        db.execute(f"select job, count(*) from item where todo = 1 and job {_AMONG} group by job", among).fetchall()
    )
    done = [job for job in jobs if job not in waiting]
    counts = _counts(db, done)
    trouble = _trouble(db, [job for job in done if counts[job].keys() - {"ok"}])
    return {job: row_result(row, waiting.get(job, 0), counts[job], trouble[job]) for job, row in rows}


def outcome_from_items(db: sqlite3.Connection, job: int) -> tuple[str, str | None, str | None]:
    """State, code and message of row *job* from its items: see `row_from_items`."""
    return row_from_items(_counts(db, [job])[job], _trouble(db, [job])[job])


def _counts(db: sqlite3.Connection, jobs: Sequence[int]) -> Mapping[int, Mapping[str, int]]:
    counts: defaultdict[int, dict[str, int]] = defaultdict(dict)
    question = f"select job, state, count(*) from item where job {_AMONG} group by job, state"
    for job, state, count in db.execute(question, (json.dumps(jobs),)):
        counts[job][state] = count
    return counts


def _trouble(db: sqlite3.Connection, jobs: Sequence[int]) -> Mapping[int, Sequence[ItemOutcome]]:
    trouble: defaultdict[int, list[ItemOutcome]] = defaultdict(list)
    question = (
        f"select job, name, state, code, message from item where job {_AMONG} and state in ('failed', 'unknown')"
        " order by job, pos"
    )
    for job, name, state, code, message in db.execute(question, (json.dumps(jobs),)):
        trouble[job].append(ItemOutcome(name, state, code or "", message or ""))
    return trouble


_CALL = "select id, lane, command, username, site, params, label, maybe, row from job"
_TWINS = "item indexed by item_twin"
# a link found not to be removed is not in doubt, but if it is gone later, our removal may have come late
_SAME_LINK = (
    "select distinct f.value, t.maybe and t.state != 'failed', t.state = 'ok' or (t.maybe and t.state = 'failed')"
    " from json_each(?) f cross join source s"
    " cross join item t on t.source = s.id where"
)
_MOST_ITEMS = 10_000
"""SQLite takes 32,766 parameters in one statement."""


class RowStore:
    """Every change is made under *epoch*: once a newer owner has raised it, changes raise `FencedError`."""

    def __init__(self, db: sqlite3.Connection, *, epoch: int, serial: bool = False) -> None:
        self._db = db
        self._epoch = epoch
        self._pid = os.getpid()
        self._serial = serial
        self._item_commands = {name for name, command in all_commands().items() if command.items}
        self._repeatable = {name for name, command in all_commands().items() if command.repeatable}

    def guard(self) -> None:
        """Raise `FencedError` unless this is still the owner; call it inside the transaction."""
        if os.getpid() != self._pid:
            raise FencedError(
                "This is a copy of the d3async that holds the run folder; it sends nothing.", code="fenced"
            )
        found = self._db.execute("select value from meta where key = 'epoch'").fetchone()
        if found is None or int(found[0]) != self._epoch:
            raise FencedError("Another d3async has taken this run folder over; this one stops.", code="fenced")

    def lanes(self, after: int, most: int, profile: str | None = None) -> list[tuple[int, Call | None]]:
        """See `Journal.lanes`; those of *profile*, None those of rows without one."""
        whose, named = ("profile is null", ()) if profile is None else ("profile = ?", (profile,))
        rows = self._db.execute(
            f"{_CALL} where todo = 1 and {whose} and lane > ? order by lane, id limit ?", (*named, after, most)
        )
        found: dict[int, Call | None] = {}
        for row in rows:
            lane = row[1]
            found[lane] = None if lane in found or self._serial or row[2] in self._item_commands else _call(row)
        return list(found.items())

    def take(self, lane: int, most: int) -> Call | None:
        """See `Journal.take`."""
        row = self._db.execute(
            f"{_CALL} where todo = 1 and lane = ? and state != 'sent' order by id limit 1", (lane,)
        ).fetchone()
        if row is None:
            return None
        call = _call(row)
        if row[2] not in self._item_commands:
            return call
        return self._with_items(call, min(most, _MOST_ITEMS))

    def _with_items(self, call: Call, most: int) -> Call | None:
        """*call* with the next items of the source that its row asks about, each number once."""
        found = self._db.execute(
            "select s.id, s.fold, s.site from item i join source s on s.id = i.source"
            " where i.job = ? and i.todo = 1 and i.state != 'sent' limit 1",
            (call.job,),
        ).fetchone()
        if found is None:
            return None
        source, subject, site = found
        items = self._db.execute(
            "select name, fold from item i where source = ? and todo = 1 and state != 'sent' and not exists (select 1"
            " from item e where e.source = i.source and e.fold = i.fold and e.todo = 1 and e.id < i.id)"
            " order by id limit ?",
            (source, most),
        ).fetchall()
        tried, gone = self._known(subject, site, [folded for _, folded in items])
        return call._replace(
            job=0,
            maybe=False,
            source=source,
            items=tuple(name for name, _ in items),
            tried=tried,
            gone=gone,
        )

    def _known(self, subject: str, site: str, folds: Sequence[str]) -> tuple[frozenset[str], frozenset[str]]:
        """The links that a row of ours may have removed, and those whose absence is our doing; from either end."""
        told = json.dumps(folds)
        found = self._db.execute(
            f"{_SAME_LINK} s.fold = ? and s.site = ? and t.fold = f.value"
            f" union all {_SAME_LINK} s.fold = f.value and s.site = ? and t.fold = ?",
            (told, subject, site, told, site, subject),
        ).fetchall()
        return frozenset(link for link, maybe, _ in found if maybe), frozenset(link for link, _, ours in found if ours)

    def claim(self, call: Call, at: float) -> None:
        """See `claim_all`."""
        self.claim_all([(call, at)])

    def claim_all(self, claims: Sequence[tuple[Call, float]]) -> None:
        """Compare and set: every row and item of each call goes from its state to `sent`, or none of them does.

        What is `sent` already may be claimed again only by its own owner, and only where twice is the same as once.
        """
        for call, at in claims:
            if call.items:
                self._claim_items(call)
                where, values = self._jobs_of(call)
                self._claim(where, [(call, at, values)], self._count(where, values))
        whole = [(call, at, [call.job]) for call, at in claims if not call.items]
        if whole:
            self._claim("id = ?", whole, len(whole))

    def _claim(self, where: str, calls: Sequence[tuple[Call, float, Sequence[Any]]], wanted: int) -> None:
        claimed = self._db.executemany(
            "update job set prior = state, state = 'sent', epoch = ?, attempts = attempts + 1, sent_at = ?"
            f" where {where} and todo = 1 and (state != 'sent' or (epoch = ? and ?))",
            [(self._epoch, at, *values, self._epoch, call.command in self._repeatable) for call, at, values in calls],
        ).rowcount
        if not claimed or claimed != wanted:
            labels = ", ".join(call.label for call, _, __ in calls)
            raise FencedError(f"A row about {labels} was claimed by another process.", code="fenced")

    def _count(self, where: str, values: Sequence[Any]) -> int:
        return int(self._db.execute(f"select count(*) from job where {where}", values).fetchone()[0])

    def _claim_items(self, call: Call) -> None:
        folds = _folds(call)
        self._db.execute(
            f"update {_TWINS} set maybe = maybe or state = 'sent', prior = state, state = 'sent'"
            f" where source = ? and todo = 1 and fold in ({_marks(folds)})",
            (call.source, *folds),
        )

    def _jobs_of(self, call: Call) -> tuple[str, list[Any]]:
        if not call.items:
            return "id = ?", [call.job]
        folds = _folds(call)
        return (
            f"id in (select job from {_TWINS} where source = ? and todo = 1 and fold in ({_marks(folds)}))",
            [call.source, *folds],
        )

    def release(self, call: Call, *, sent: bool) -> None:
        """Undo the latest claim: that attempt provably changed nothing. An earlier one in doubt stays `sent`."""
        where, values = self._jobs_of(call)
        taken = 0 if sent else 1
        self._db.execute(
            "update job set state = prior, attempts = attempts - ?, sent_at = iif(attempts = ?, null, sent_at)"
            f" where {where} and state = 'sent' and epoch = ?",
            (taken, taken, *values, self._epoch),
        )
        if call.items:
            folds = _folds(call)
            self._db.execute(
                f"update {_TWINS} set state = prior where source = ? and state = 'sent' and fold in ({_marks(folds)})",
                (call.source, *folds),
            )

    def settle(self, settlement: CallResult) -> list[RowOutcome]:
        """See `settle_all`."""
        return self.settle_all([settlement])[0]

    def settle_all(self, settlements: Sequence[CallResult]) -> list[list[RowOutcome]]:
        """Record what became of each call; the rows that are finished by it."""
        answers = self._answers([settlement.answer for settlement in settlements])
        pairs = list(zip(settlements, answers, strict=True))
        whole = [pair for pair in pairs if not pair[0].call.items]
        if len(whole) == len(pairs):
            return self._settle_whole(whole)
        told = iter(self._settle_whole(whole))
        return [self._settle_items(done, answer) if done.call.items else next(told) for done, answer in pairs]

    def _settle_whole(self, settled: Sequence[tuple[CallResult, int | None]]) -> list[list[RowOutcome]]:
        rows, told = [], []
        for (call, (outcome, code, message, http, _, anomalies), _, at), answer in settled:
            line = _line(message, anomalies)
            rows.append((outcome, code, line, http, at, answer, outcome == "unknown", call.job, self._epoch))
            told.append([RowOutcome(call.row or 0, outcome, code, line)])
        count = self._db.executemany(
            "update job set state = ?, code = ?, message = ?, http = ?, done_at = ?, answer = ?, todo = 0, maybe = ?"
            " where id = ? and state = 'sent' and epoch = ?",
            rows,
        ).rowcount
        if settled and count != len(settled):
            labels = ", ".join(done.call.label for done, _ in settled)
            raise ConservationError(f"An answer came for a row about {labels}, which was not sent.")
        return told

    def _answers(self, texts: Sequence[str | None]) -> list[int | None]:
        """Keep *texts*; the numbers they are kept under."""
        (last,) = self._db.execute("select coalesce(max(id), 0) from answer").fetchone()
        numbers = [None if text is None else number for number, text in enumerate(texts, last + 1)]
        kept = [pair for pair in zip(numbers, texts, strict=True) if pair[0] is not None]
        self._db.executemany("insert into answer(id, body) values (?, ?)", kept)
        return numbers

    def _settle_items(self, settlement: CallResult, answer: int | None) -> list[RowOutcome]:
        call = settlement.call
        where, values = self._jobs_of(call)
        sent = "state = 'sent' and epoch = ?"
        jobs = self._db.execute(f"select id from job where {where} and {sent}", (*values, self._epoch)).fetchall()
        settled = sum(self._settle_alike(call, alike) for alike in _alike(settlement.verdict.items).items())
        if not jobs or settled < len(call.items):
            raise ConservationError(f"An answer came for {len(call.items)} items of {call.label}, {settled} were sent.")
        return self._settle_rows([job for (job,) in jobs], settlement, answer)

    def _settle_alike(self, call: Call, alike: tuple[tuple[str, str, str], list[str]]) -> int:
        (outcome, code, message), folds = alike
        return self._db.execute(
            f"update {_TWINS} set state = ?, code = ?, message = ?, maybe = ?, todo = 0"
            f" where source = ? and fold in ({_marks(folds)}) and todo = 1 and state = 'sent'",
            (outcome, code, message, outcome == "unknown", call.source, *folds),
        ).rowcount

    def _settle_rows(self, jobs: Sequence[int], settlement: CallResult, answer: int | None) -> list[RowOutcome]:
        """Give rows their outcome, or back to waiting while some of their items are still to be sent."""
        verdict = settlement.verdict
        found = row_results(self._db, jobs)
        self._db.executemany(
            "update job set state = ?, code = ?, message = ?, http = ?, done_at = ?, answer = ?, todo = ? where id = ?",
            [
                (now.outcome, now.code, _line(now.message, verdict.anomalies), verdict.http, settlement.at, answer,
                 now.incomplete, job)
                for job, now in found.items()
            ],
        )  # fmt: skip
        return [
            RowOutcome(now.row, now.outcome, now.code, _line(now.message, verdict.anomalies), now.items)
            for now in found.values()
            if not now.incomplete
        ]

    def note(self, event: Event) -> None:
        """Record an event of the run."""
        self._db.execute(
            "insert into event values (?, ?, ?, ?, ?)", (self._epoch, event.at, event.kind, event.seconds, event.note)
        )


def _call(row: Sequence[Any]) -> Call:
    job, _, command, username, site, params, label, maybe, at = row
    return Call(command, JsonObject(params), username, site, 0, label, job=job, maybe=bool(maybe), row=at)


def _alike(items: Sequence[ItemOutcome]) -> dict[tuple[str, str, str], list[str]]:
    """The numbers of *items*, together where the same became of them."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for item in items:
        found.setdefault((item.outcome, item.code, item.message), []).append(normalize_number(item.item))
    return found


def _folds(call: Call) -> list[str]:
    return [normalize_number(item) for item in call.items]


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def _line(message: str, anomalies: Sequence[str]) -> str:
    """One line for `_message`, with what was odd about the answer."""
    if not message and not anomalies:
        return ""
    parts = [message, *(f"[{text}]" for text in anomalies)]
    return " ".join(" ".join(parts).split())


_ROWS = "select id, row, state, code, message, command, params, username, site, http, attempts from job"


class RowStoreWithOutcomes(RowStore):
    """A `Store` whose finished rows come with their outcomes."""

    def __init__(self, db: sqlite3.Connection, *, epoch: int) -> None:
        super().__init__(db, epoch=epoch)
        self._all = db

    def settle_all(self, settlements: Sequence[CallResult]) -> list[list[RowOutcome]]:
        """See `Store.settle_all`."""
        return [[self._finished(row) for row in rows] for rows in super().settle_all(settlements)]

    def _finished(self, row: RowOutcome) -> RowOutcome:
        found = self._all.execute(f"{_ROWS} where row = ?", (row.row,)).fetchone()
        return row._replace(told=_told(self._all, found, earlier=False))


def rows_told(db: sqlite3.Connection, *, todo: bool, after: int, most: int) -> list[JobOutcome]:
    """The next *most* rows after row *after*: those this run is still to send, or those it has nothing to do with."""
    found = db.execute(
        f"{_ROWS} where row is not null and todo = ? and row > ? order by row limit ?", (todo, after, most)
    ).fetchall()
    return [_told(db, row, earlier=not todo) for row in found]


def _told(db: sqlite3.Connection, found: Sequence[Any], *, earlier: bool) -> JobOutcome:
    job, row, state, code, message, name, params, username, site, http, attempts = found
    items = tuple(
        JobItem(item, outcome_of(became), why or "", text or "")
        for item, became, why, text in db.execute(
            "select name, state, code, message from item where job = ? order by pos", (job,)
        )
    )
    sent = state == "sent"
    return JobOutcome(
        row=row,
        outcome=outcome_of(state),
        code=("interrupted" if sent else code) or "",
        message=(INTERRUPTED if sent else message) or "",
        command=_command(name, params, items),
        username=username,
        site=site or "",
        items=items,
        http=http,
        attempts=attempts,
        earlier=earlier,
    )


def _command(name: str | None, params: str | None, items: Sequence[JobItem]) -> Command | None:
    kind = all_commands().get(name or "")
    if kind is None or params is None:
        return None
    given = json.loads(params)
    if kind.items:
        given[kind.parameter(kind.items)] = [item.item for item in items]
    try:
        return kind.model_validate(given)
    except ValidationError:
        return None
