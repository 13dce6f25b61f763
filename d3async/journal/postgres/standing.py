"""What became of rows with items, from their items: `journal.rows` in PostgreSQL's words."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from d3async.sansio.outcome import ItemOutcome, row_from_items, row_result

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from psycopg import Connection

    from d3async.sansio.outcome import RowResult

COUNTED = b"""
select t.job, r.row, count(*) filter (where t.todo), count(*) filter (where t.state = 'ok'),
    count(*) filter (where t.state = 'failed'), count(*) filter (where t.state = 'unknown'), count(*)
from d3async_item t join d3async_row r on r.run = t.run and r.id = t.job
where t.run = %(run)s and t.job = any(%(jobs)s) group by t.job, r.row order by r.row, t.job"""
TROUBLE = b"""
select job, name, state, code, message from d3async_item
where run = %(run)s and job = any(%(jobs)s) and state in ('failed', 'unknown') order by job, pos, id"""
_TAKE = b"""
update d3async_job j set state = w.state, code = w.code, message = w.message, todo = j.todo and w.todo
from unnest(%(jobs)s::int[], %(states)s::text[], %(codes)s::text[], %(messages)s::text[], %(todo)s::bool[])
    w(id, state, code, message, todo)
where j.run = %(run)s and j.id = w.id and j.state <> 'sent'"""


class Counts(NamedTuple):
    """The items of row *job*: how many are still to be sent, have each outcome, and how many there are."""

    job: int
    row: int | None
    waiting: int
    ok: int
    failed: int
    unknown: int
    items: int

    @property
    def by_state(self) -> dict[str, int]:
        """For `row_result` and `row_from_items`; what has no outcome is pending."""
        pending = self.items - self.ok - self.failed - self.unknown
        return {"ok": self.ok, "failed": self.failed, "unknown": self.unknown, "pending": pending}


Trouble = dict[int, list[ItemOutcome]]


def troubles(found: Iterable[Sequence[Any]]) -> Trouble:
    """What `TROUBLE` found, by row."""
    trouble: Trouble = defaultdict(list)
    for job, name, state, code, message in found:
        trouble[job].append(ItemOutcome(name, state, code or "", message or ""))
    return trouble


def result(counts: Counts, trouble: Trouble) -> RowResult:
    """The result of a row after a call with items of it. Raises `ConservationError`."""
    return row_result(counts.row or 0, counts.waiting, counts.by_state, trouble.get(counts.job, ()))


def settle_rows(db: Connection[Any], run: int, jobs: Sequence[int]) -> None:
    """Give *jobs* the outcome that follows from their items, none of them in flight: see `row_from_items`."""
    asked: dict[str, object] = {"run": run, "jobs": list(jobs)}
    counted = [Counts._make(found) for found in db.execute(COUNTED, asked).fetchall()]
    trouble = troubles(db.execute(TROUBLE, asked).fetchall())
    became = [row_from_items(counts.by_state, trouble.get(counts.job, ())) for counts in counted]
    if became:
        states, codes, messages = (list(column) for column in zip(*became, strict=True))
        asked |= {"jobs": [counts.job for counts in counted], "todo": [counts.waiting > 0 for counts in counted]}
        db.execute(_TAKE, {**asked, "states": states, "codes": codes, "messages": messages})
