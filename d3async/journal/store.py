"""The statements behind the SQLite journal: claims, outcomes, what is to be sent. Synchronous; one thread at a time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from d3async.commands import all_commands
from d3async.errors import FencedError
from d3async.journal.base import RowOutcome
from d3async.sansio.call import Call, fold
from d3async.sansio.outcome import ItemOutcome, first_trouble, sum_up

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from d3async.journal.base import Event, Settlement

_CALL = "select id, lane, command, username, site, params, label, maybe from job"


class Store:
    """Every change is made under *epoch*: once a newer owner has raised it, changes raise `FencedError`."""

    def __init__(self, db: sqlite3.Connection, *, epoch: int, serial: bool = False) -> None:
        self._db = db
        self._epoch = epoch
        self._serial = serial
        self._item_commands = {name for name, command in all_commands().items() if command.items}

    def guard(self) -> None:
        """Raise `FencedError` unless this is still the owner; call it inside the transaction."""
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
        return self._with_items(call, most)

    def _with_items(self, call: Call, most: int) -> Call | None:
        items = self._db.execute(
            "select name, fold, max(maybe) from item where lane = ? and todo = 1 and state != 'sent'"
            " group by fold order by min(id) limit ?",
            (call.lane, most),
        ).fetchall()
        if not items:
            return None
        tried = frozenset(folded for _, folded, maybe in items if maybe)
        return Call(
            call.command, call.params, call.username, call.site, call.lane, call.label,
            items=tuple(name for name, _, _ in items), tried=tried,
        )  # fmt: skip

    def claim(self, call: Call, at: float) -> None:
        """Compare and set: every row and item of *call* goes from its state to `sent`, or none does."""
        again = "and (state != 'sent' or (epoch = ? and ?))"
        repeatable = all_commands()[call.command].repeatable
        if call.items:
            self._claim_items(call)
            where, values = self._jobs_of(call)
        else:
            where, values = "id = ?", [call.job]
        changed = self._db.execute(
            "update job set prior = case when state = 'sent' then prior else state end, state = 'sent', epoch = ?,"
            f" attempts = attempts + 1, sent_at = ?, done_at = null where {where} and todo = 1 {again}",
            (self._epoch, at, *values, self._epoch, repeatable),
        ).rowcount
        if not changed:
            raise FencedError(f"Row about {call.label} was claimed by somebody else.", code="fenced")

    def _claim_items(self, call: Call) -> None:
        folds = [fold(item) for item in call.items]
        self._db.execute(
            f"update item set state = 'sent' where lane = ? and todo = 1 and fold in ({_marks(folds)})",
            (call.lane, *folds),
        )

    def _jobs_of(self, call: Call) -> tuple[str, list[Any]]:
        folds = [fold(item) for item in call.items]
        return (
            f"id in (select job from item where lane = ? and todo = 1 and fold in ({_marks(folds)}))",
            [call.lane, *folds],
        )

    def release(self, call: Call, *, sent: bool) -> None:
        """Undo the mark `sent`: it provably did not happen."""
        where, values = self._jobs_of(call) if call.items else ("id = ?", [call.job])
        self._db.execute(
            f"update job set state = prior, attempts = attempts - ? where {where} and state = 'sent' and epoch = ?",
            (0 if sent else 1, *values, self._epoch),
        )
        if call.items:
            folds = [fold(item) for item in call.items]
            self._db.execute(
                "update item set state = case when maybe then 'unknown' else 'pending' end"
                f" where lane = ? and state = 'sent' and fold in ({_marks(folds)})",
                (call.lane, *folds),
            )

    def settle(self, settlement: Settlement) -> list[RowOutcome]:
        """Record what became of a call; the rows that are finished by it."""
        answer = self._answer(settlement.answer)
        if settlement.call.items:
            return self._settle_items(settlement, answer)
        verdict = settlement.verdict
        message = _line(verdict.message, verdict.anomalies)
        self._db.execute(
            "update job set state = ?, code = ?, message = ?, http = ?, done_at = ?, answer = ?, todo = 0, maybe = ?"
            " where id = ? and state = 'sent' and epoch = ?",
            (verdict.outcome, verdict.code, message, verdict.http, settlement.at, answer,
             verdict.outcome == "unknown", settlement.call.job, self._epoch),
        )  # fmt: skip
        row = self._db.execute("select row from job where id = ?", (settlement.call.job,)).fetchone()[0]
        return [RowOutcome(row, verdict.outcome, verdict.code, message)]

    def _answer(self, text: str | None) -> int | None:
        if text is None:
            return None
        return self._db.execute("insert into answer(body) values (?)", (text,)).lastrowid

    def _settle_items(self, settlement: Settlement, answer: int | None) -> list[RowOutcome]:
        call = settlement.call
        where, values = self._jobs_of(call)
        jobs = [
            job
            for (job,) in self._db.execute(f"select id from job where {where} and epoch = ?", (*values, self._epoch))
        ]
        self._db.executemany(
            "update item set state = ?, code = ?, message = ?, maybe = ?, todo = 0"
            " where lane = ? and fold = ? and todo = 1",
            [
                (item.outcome, item.code, item.message, item.outcome == "unknown", call.lane, fold(item.item))
                for item in settlement.verdict.items
            ],
        )
        finished = [self._settle_job(job, settlement, answer) for job in jobs]
        return [row for row in finished if row is not None]

    def _settle_job(self, job: int, settlement: Settlement, answer: int | None) -> RowOutcome | None:
        """Give the row its outcome, or back to waiting while some of its items are still to be sent."""
        counts = dict(self._db.execute("select state, count(*) from item where job = ? group by state", (job,)))
        waiting = self._db.execute("select exists(select 1 from item where job = ? and todo = 1)", (job,)).fetchone()[0]
        outcome = "pending" if waiting else sum_up(counts)
        code, message = first_trouble(self._troubled(job))
        message = _line(message, settlement.verdict.anomalies)
        self._db.execute(
            "update job set state = ?, code = ?, message = ?, http = ?, done_at = ?, answer = ?, todo = ? where id = ?",
            (outcome, code, message, settlement.verdict.http, settlement.at, answer, waiting, job),
        )
        if waiting:
            return None
        row = self._db.execute("select row from job where id = ?", (job,)).fetchone()[0]
        items = (counts.get("ok", 0), counts.get("failed", 0), counts.get("unknown", 0))
        return RowOutcome(row, outcome, code, message, items)

    def _troubled(self, job: int) -> list[ItemOutcome]:
        rows = self._db.execute(
            "select name, state, code, message from item where job = ? and state in ('failed', 'unknown')"
            " order by pos limit 1000",
            (job,),
        )
        return [ItemOutcome(name, state, code or "", message or "") for name, state, code, message in rows]

    def note(self, event: Event) -> None:
        """Record an event of the run."""
        self._db.execute(
            "insert into event values (?, ?, ?, ?, ?)", (self._epoch, event.at, event.kind, event.seconds, event.note)
        )


def _call(row: Sequence[Any]) -> Call:
    job, lane, command, username, site, params, label, _ = row
    return Call(command, json.loads(params), username, site, lane, label, job=job)


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def _line(message: str, anomalies: Sequence[str]) -> str:
    """One line for `_message`, with what was odd about the answer."""
    parts = [message, *(f"[{text}]" for text in anomalies)]
    return " ".join(" ".join(parts).split())
