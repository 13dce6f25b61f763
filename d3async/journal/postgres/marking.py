"""`--mark-tasks` in PostgreSQL: see `journal.marking`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from d3async.sansio.marks import mark_of, marked, unmarked

if TYPE_CHECKING:
    from psycopg import Connection

_PAGE = 1000
_TO_MARK = """
select r.id, r.params, r.identity, r.occurrence from d3async_row r
left join d3async_job j on j.run = r.run and j.id = r.id
where r.run = %(run)s and r.id > %(after)s and r.command = 'CreateTask'
and (j.id is null or (j.todo and not j.maybe and j.state in ('pending', 'failed'))) order by r.id limit %(page)s"""
_MARK = b"""
update d3async_row r set params = w.params from unnest(%(ids)s::int[], %(params)s::text[]) w(id, params)
where r.run = %(run)s and r.id = w.id"""


def mark_tasks(db: Connection[Any], run: int, *, on: bool) -> None:
    """Put the mark of each CreateTask row to be sent into what it sends, or take it out again when not *on*."""
    change, salt, after = marked if on else unmarked, salt_of(db, run), 0
    while found := db.execute(_TO_MARK.encode(), {"run": run, "after": after, "page": _PAGE}).fetchall():
        after = found[-1][0]
        changed: dict[int, str] = {}
        for job, params, identity, occurrence in found:
            text = _text(change(json.loads(params), mark_of(salt, identity, occurrence)))
            if text != params:
                changed[job] = text
        if changed:
            db.execute(_MARK, {"run": run, "ids": list(changed), "params": list(changed.values())})


def salt_of(db: Connection[Any], run: int) -> str:
    """What makes the marks of this run's rows other than those of the same rows elsewhere."""
    found = db.execute("select name, created_at from d3async_run where id = %s", (run,)).fetchone()
    return f"{found[0]} {found[1]!r}" if found else ""


def _text(params: dict[str, Any]) -> str:
    return json.dumps(params, ensure_ascii=False, separators=(",", ":"))
