"""`--mark-tasks` in PostgreSQL: see `journal.marking`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from d3async.sansio.marks import mark_of, marked, unmarked

if TYPE_CHECKING:
    from psycopg import Connection

_PAGE = 1000
_TO_MARK = """
select r.id, r.params, r.identity, r.occurrence, r.mark from d3async_row r
left join d3async_job j on j.run = r.run and j.id = r.id
where r.run = %(run)s and r.id > %(after)s and r.command = 'CreateTask' and (%(on)s or r.mark is not null)
and (j.id is null or (j.todo and not j.maybe and j.state in ('pending', 'failed'))) order by r.id limit %(page)s"""
_MARK = b"""
update d3async_row r set params = w.params, mark = w.mark
from unnest(%(ids)s::int[], %(params)s::text[], %(marks)s::text[]) w(id, params, mark)
where r.run = %(run)s and r.id = w.id"""


def mark_tasks(db: Connection[Any], run: int, *, on: bool) -> None:
    """Put the mark of each CreateTask row to be sent into what it sends, or take it out again when not *on*."""
    salt, after = salt_of(db, run), 0
    while found := db.execute(_TO_MARK.encode(), {"run": run, "after": after, "page": _PAGE, "on": on}).fetchall():
        after = found[-1][0]
        changed: dict[int, tuple[str, str | None]] = {}
        for job, params, identity, occurrence, known in found:
            mark = known or mark_of(salt, identity, occurrence)
            text = _text((marked if on else unmarked)(json.loads(params), mark))
            if text != params or not (on and known):
                changed[job] = text, mark if on else None
        if changed:
            texts, marks = zip(*changed.values(), strict=True)
            db.execute(_MARK, {"run": run, "ids": list(changed), "params": list(texts), "marks": list(marks)})


def salt_of(db: Connection[Any], run: int) -> str:
    """What makes the marks of this run's rows other than those of the same rows elsewhere."""
    found = db.execute("select name, created_at from d3async_run where id = %s", (run,)).fetchone()
    return f"{found[0]} {found[1]!r}" if found else ""


def with_mark(params: str, mark: str) -> str:
    """What a row sends, with its *mark*."""
    return _text(marked(json.loads(params), mark))


def _text(params: dict[str, Any]) -> str:
    return json.dumps(params, ensure_ascii=False, separators=(",", ":"))
