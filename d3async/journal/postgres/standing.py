"""What became of rows with items, told from their items: `journal.rows` in PostgreSQL's words."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from d3async.errors import ConservationError
from d3async.journal.rows import Standing
from d3async.sansio.outcome import ItemOutcome, first_trouble, sum_up

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from psycopg import Connection

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
    def open(self) -> int:
        """Items without an outcome."""
        return self.items - self.ok - self.failed - self.unknown

    @property
    def outcomes(self) -> dict[str, int]:
        """For `sum_up`."""
        return {"ok": self.ok, "failed": self.failed, "unknown": self.unknown}


Trouble = dict[int, list[ItemOutcome]]


def troubles(found: Iterable[Sequence[Any]]) -> Trouble:
    """What `TROUBLE` found, by row."""
    trouble: Trouble = defaultdict(list)
    for job, name, state, code, message in found:
        trouble[job].append(ItemOutcome(name, state, code or "", message or ""))
    return trouble


def standing(counts: Counts, trouble: Trouble) -> Standing:
    """How a row stands once a call that carried items of it is settled. Raises `ConservationError`."""
    row = counts.row or 0
    if counts.waiting:
        return Standing(row, "pending", "", f"{counts.waiting} of its items are not sent yet.", (0, 0, 0))
    if counts.open:
        raise ConservationError(f"Row {row} has {counts.open} items without an outcome: {counts.outcomes}")
    words = first_trouble(trouble.get(counts.job, ()))
    return Standing(row, sum_up(counts.outcomes), *words, (counts.ok, counts.failed, counts.unknown))


def settle_rows(db: Connection[Any], run: int, jobs: Sequence[int], *, read_back: bool = True) -> None:
    """Give *jobs* the outcome that follows from their items, which were looked at anew; none of them in flight."""
    asked: dict[str, object] = {"run": run, "jobs": list(jobs)}
    counted = [Counts._make(found) for found in db.execute(COUNTED, asked).fetchall()]
    trouble = troubles(db.execute(TROUBLE, asked).fetchall())
    became = [(counts, *_outcome(counts, trouble, read_back=read_back)) for counts in counted]
    if became:
        _, states, codes, messages = (list(column) for column in zip(*became, strict=True))
        asked |= {"jobs": [counts.job for counts in counted], "todo": [counts.waiting > 0 for counts in counted]}
        db.execute(_TAKE, {**asked, "states": states, "codes": codes, "messages": messages})


def _outcome(counts: Counts, trouble: Trouble, *, read_back: bool) -> tuple[str, str | None, str | None]:
    words = first_trouble(trouble.get(counts.job, ()))
    if counts.open and not counts.unknown:
        # some items were never sent: the row waits with them
        return ("pending", *words) if read_back else ("pending", None, None)
    outcome = sum_up(counts.outcomes)
    if outcome == "ok" and read_back:
        return outcome, "removed", "Read back from D3: no longer linked."
    return (outcome, *words)
