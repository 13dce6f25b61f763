"""The statements behind the SQLite journal: claims, outcomes, what is to be sent. Synchronous; one thread at a time."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from d3async.commands import all_commands
from d3async.errors import ConservationError, FencedError
from d3async.journal.base import RowOutcome
from d3async.sansio.call import Call, fold
from d3async.sansio.outcome import ItemOutcome, first_trouble, sum_up

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from d3async.journal.base import Event, Settlement

_CALL = "select id, lane, command, username, site, params, label, maybe from job"
_TWINS = "item indexed by item_twin"
_SAME_LINK = (
    "select t.maybe, t.state = 'ok' as gone from source s cross join item t on t.source = s.id"
    " where s.fold = ? and s.site = ? and t.fold = ?"
)
_MOST_ITEMS = 10_000
"""SQLite takes 32,766 parameters in one statement."""


class Store:
    """Every change is made under *epoch*: once a newer owner has raised it, changes raise `FencedError`."""

    def __init__(self, db: sqlite3.Connection, *, epoch: int, serial: bool = False) -> None:
        self._db = db
        self._epoch = epoch
        self._pid = os.getpid()
        self._serial = serial
        self._item_commands = {name for name, command in all_commands().items() if command.items}

    def guard(self) -> None:
        """Raise `FencedError` unless this is still the owner; call it inside the transaction."""
        if os.getpid() != self._pid:
            raise FencedError(
                "This is a copy of the d3async that holds the run folder; it sends nothing.", code="fenced"
            )
        found = self._db.execute("select value from meta where key = 'epoch'").fetchone()
        if found is None or int(found[0]) != self._epoch:
            raise FencedError("Another d3async has taken this run folder over; this one stops.", code="fenced")

    def lanes(self, after: int, most: int) -> list[tuple[int, Call | None]]:
        """See `Journal.lanes`."""
        rows = self._db.execute(f"{_CALL} where todo = 1 and lane > ? order by lane, id limit ?", (after, most))
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
        known = {folded: self._known(subject, folded, site) for _, folded in items}
        return replace(
            call,
            job=0,
            maybe=False,
            source=source,
            items=tuple(name for name, _ in items),
            tried=frozenset(folded for folded, (maybe, _) in known.items() if maybe),
            gone=frozenset(folded for folded, (_, gone) in known.items() if gone),
        )

    def _known(self, subject: str, folded: str, site: str) -> tuple[bool, bool]:
        """Whether any row of ours, from either end of the link, may have removed it, and whether one has."""
        maybe, gone = self._db.execute(
            f"select max(maybe), max(gone) from ({_SAME_LINK} union all {_SAME_LINK})",
            (subject, site, folded, folded, site, subject),
        ).fetchone()
        return bool(maybe), bool(gone)

    def claim(self, call: Call, at: float) -> None:
        """Compare and set: every row and item of *call* goes from its state to `sent`, or none does.

        What is `sent` already may be claimed again only by its own owner, and only where twice is the same as once.
        """
        repeatable = all_commands()[call.command].repeatable
        where, values = self._jobs_of(call)
        if call.items:
            self._claim_items(call)
        wanted = self._db.execute(f"select count(*) from job where {where}", values).fetchone()[0]
        claimed = self._db.execute(
            "update job set prior = state, state = 'sent', epoch = ?, attempts = attempts + 1, sent_at = ?"
            f" where {where} and todo = 1 and (state != 'sent' or (epoch = ? and ?))",
            (self._epoch, at, *values, self._epoch, repeatable),
        ).rowcount
        if not claimed or claimed != wanted:
            raise FencedError(f"Row about {call.label} was claimed by somebody else.", code="fenced")

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

    def settle(self, settlement: Settlement) -> list[RowOutcome]:
        """Record what became of a call; the rows that are finished by it."""
        answer = self._answer(settlement.answer)
        if settlement.call.items:
            return self._settle_items(settlement, answer)
        verdict = settlement.verdict
        message = _line(verdict.message, verdict.anomalies)
        found = self._db.execute(
            "update job set state = ?, code = ?, message = ?, http = ?, done_at = ?, answer = ?, todo = 0, maybe = ?"
            " where id = ? and state = 'sent' and epoch = ? returning row",
            (verdict.outcome, verdict.code, message, verdict.http, settlement.at, answer,
             verdict.outcome == "unknown", settlement.call.job, self._epoch),
        ).fetchone()  # fmt: skip
        if found is None:
            raise ConservationError(f"An answer came for the row about {settlement.call.label}, which was not sent.")
        return [RowOutcome(found[0], verdict.outcome, verdict.code, message)]

    def _answer(self, text: str | None) -> int | None:
        if text is None:
            return None
        return self._db.execute("insert into answer(body) values (?)", (text,)).lastrowid

    def _settle_items(self, settlement: Settlement, answer: int | None) -> list[RowOutcome]:
        call = settlement.call
        where, values = self._jobs_of(call)
        sent = "state = 'sent' and epoch = ?"
        jobs = self._db.execute(f"select id from job where {where} and {sent}", (*values, self._epoch)).fetchall()
        settled = self._db.executemany(
            f"update {_TWINS} set state = ?, code = ?, message = ?, maybe = ?, todo = 0"
            " where source = ? and fold = ? and todo = 1 and state = 'sent'",
            [
                (item.outcome, item.code, item.message, item.outcome == "unknown", call.source, fold(item.item))
                for item in settlement.verdict.items
            ],
        ).rowcount
        if not jobs or settled < len(call.items):
            raise ConservationError(f"An answer came for {len(call.items)} items of {call.label}, {settled} were sent.")
        finished = [self._settle_job(job, settlement, answer) for (job,) in jobs]
        return [row for row in finished if row is not None]

    def _settle_job(self, job: int, settlement: Settlement, answer: int | None) -> RowOutcome | None:
        """Give the row its outcome, or back to waiting while some of its items are still to be sent."""
        waiting = self._db.execute("select count(*) from item where job = ? and todo = 1", (job,)).fetchone()[0]
        outcome, code, message = (
            ("pending", "", f"{waiting} of its items are not sent yet.") if waiting else row_of(self._db, job)
        )
        message = _line(message, settlement.verdict.anomalies)
        row = self._db.execute(
            "update job set state = ?, code = ?, message = ?, http = ?, done_at = ?, answer = ?, todo = ? where id = ?"
            " returning row",
            (outcome, code, message, settlement.verdict.http, settlement.at, answer, waiting > 0, job),
        ).fetchone()[0]
        if waiting:
            return None
        counts = item_counts(self._db, job)
        items = (counts.get("ok", 0), counts.get("failed", 0), counts.get("unknown", 0))
        if sum(items) != sum(counts.values()):
            raise ConservationError(f"Row {row} has items without an outcome: {counts}")
        return RowOutcome(row, outcome, code, message, items)

    def note(self, event: Event) -> None:
        """Record an event of the run."""
        self._db.execute(
            "insert into event values (?, ?, ?, ?, ?)", (self._epoch, event.at, event.kind, event.seconds, event.note)
        )


def item_counts(db: sqlite3.Connection, job: int) -> dict[str, int]:
    """How many items of row *job* are in each state."""
    return dict(db.execute("select state, count(*) from item where job = ? group by state", (job,)).fetchall())


def row_of(db: sqlite3.Connection, job: int) -> tuple[str, str, str]:
    """Outcome, code and message of row *job* from its items, each of which has an outcome."""
    counts = item_counts(db, job)
    trouble = db.execute(
        "select name, state, code, message from item where job = ? and state in ('failed', 'unknown') order by pos",
        (job,),
    )
    items = [ItemOutcome(name, state, code or "", message or "") for name, state, code, message in trouble]
    return sum_up(counts), *first_trouble(items)


def _call(row: Sequence[Any]) -> Call:
    job, _, command, username, site, params, label, maybe = row
    return Call(command, json.loads(params), username, site, 0, label, job=job, maybe=bool(maybe))


def _folds(call: Call) -> list[str]:
    return [fold(item) for item in call.items]


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def _line(message: str, anomalies: Sequence[str]) -> str:
    """One line for `_message`, with what was odd about the answer."""
    parts = [message, *(f"[{text}]" for text in anomalies)]
    return " ".join(" ".join(parts).split())
