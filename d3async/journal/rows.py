"""What became of rows with items, from what became of their items."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING

from d3async.sansio.outcome import ItemOutcome, row_from_items, row_result

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from d3async.sansio.outcome import RowResult

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
