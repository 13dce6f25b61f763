"""What became of rows, told from what became of their items."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from d3async.errors import ConservationError
from d3async.sansio.outcome import ItemOutcome, first_trouble, sum_up

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

_AMONG = "in (select value from json_each(?))"


class Standing(NamedTuple):
    """How a row stands: its data row in the file, its outcome so far, and how many items were ok, failed, unknown."""

    row: int
    outcome: str
    code: str
    message: str
    items: tuple[int, int, int]

    @property
    def waits(self) -> bool:
        """Whether some of its items are still to be sent."""
        return self.outcome == "pending"


def standings(db: sqlite3.Connection, jobs: Sequence[int]) -> dict[int, Standing]:
    """Of each of *jobs*; items are counted of those rows alone that have none left to send.

    Raises `ConservationError` when an item of such a row has no outcome.
    """
    told = json.dumps(jobs)
    rows = db.execute(f"select id, row from job where id {_AMONG} order by row", (told,)).fetchall()
    waiting = dict(
        db.execute(f"select job, count(*) from item where todo = 1 and job {_AMONG} group by job", (told,)).fetchall()
    )
    done = [job for job in jobs if job not in waiting]
    counts = _counts(db, done)
    trouble = _trouble(db, [job for job in done if counts[job].keys() - {"ok"}])
    return {
        job: Standing(row, "pending", "", f"{waiting[job]} of its items are not sent yet.", (0, 0, 0))
        if job in waiting
        else _final(row, counts[job], trouble[job])
        for job, row in rows
    }


def item_counts(db: sqlite3.Connection, job: int) -> Mapping[str, int]:
    """How many items of row *job* are in each state."""
    return _counts(db, [job])[job]


def row_of(db: sqlite3.Connection, job: int) -> tuple[str, str, str]:
    """Outcome, code and message of row *job* from its items, each of which has an outcome."""
    return sum_up(item_counts(db, job)), *first_trouble(_trouble(db, [job])[job])


def _counts(db: sqlite3.Connection, jobs: Sequence[int]) -> Mapping[int, Mapping[str, int]]:
    counts: defaultdict[int, dict[str, int]] = defaultdict(dict)
    asked = f"select job, state, count(*) from item where job {_AMONG} group by job, state"
    for job, state, count in db.execute(asked, (json.dumps(jobs),)):
        counts[job][state] = count
    return counts


def _trouble(db: sqlite3.Connection, jobs: Sequence[int]) -> Mapping[int, Sequence[ItemOutcome]]:
    trouble: defaultdict[int, list[ItemOutcome]] = defaultdict(list)
    asked = (
        f"select job, name, state, code, message from item where job {_AMONG} and state in ('failed', 'unknown')"
        " order by job, pos"
    )
    for job, name, state, code, message in db.execute(asked, (json.dumps(jobs),)):
        trouble[job].append(ItemOutcome(name, state, code or "", message or ""))
    return trouble


def _final(row: int, counts: Mapping[str, int], trouble: Sequence[ItemOutcome]) -> Standing:
    items = (counts.get("ok", 0), counts.get("failed", 0), counts.get("unknown", 0))
    if sum(items) != sum(counts.values()):
        raise ConservationError(f"Row {row} has items without an outcome: {dict(counts)}")
    return Standing(row, sum_up(counts), *first_trouble(trouble), items)
