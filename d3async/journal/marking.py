"""`--mark-tasks`: what a row sends gets its mark once the row's identity stands, and keeps it in every later run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from d3async.sansio.marks import mark_of

if TYPE_CHECKING:
    import sqlite3

_MARKABLE = "todo = 1 and command = 'CreateTask' and state in ('pending', 'failed') and not maybe"


def mark_tasks(db: sqlite3.Connection, *, on: bool) -> None:
    """Put the mark of each CreateTask row that is to be sent into what it sends, or take it out again when not *on*.

    To be called after `RunFolder.begin` and before `commit`. Rows of which nobody knows whether they were created
    keep what was sent. A row's content, by which changes are noticed, stays without the mark.
    """
    salt = salt_of(db)
    if on:

        def mark(known: str | None, identity: bytes, occurrence: int) -> str:
            return known or mark_of(salt, identity, occurrence)

        db.create_function("d3_mark", 3, mark, deterministic=True)
        db.execute(f"update job set mark = d3_mark(mark, identity, occurrence) where {_MARKABLE}")
        db.execute(f"update job set params = d3_marked(params, mark) where {_MARKABLE}")
    else:
        db.execute(
            f"update job set params = d3_unmarked(params, mark), mark = null where {_MARKABLE} and mark not null"
        )


def salt_of(db: sqlite3.Connection) -> str:
    """What makes the marks of this folder's rows other than those of the same rows elsewhere."""
    found = db.execute("select value from meta where key = 'created_at'").fetchone()
    return str(found[0]) if found else ""
