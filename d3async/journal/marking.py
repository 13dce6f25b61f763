"""`--mark-tasks`: what a row sends gets its mark once the row's identity stands, and keeps it in every later run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from d3async.sansio.marks import MARK_START, mark_of, marked, unmarked

if TYPE_CHECKING:
    import sqlite3


def mark_tasks(db: sqlite3.Connection, *, on: bool) -> None:
    """Put the mark of each CreateTask row that is to be sent into what it sends, or take it out again when not *on*.

    To be called after `RunFolder.begin` and before `commit`. Rows of which nobody knows whether they were created
    keep what was sent. A row's content, by which changes are noticed, stays without the mark.
    """
    change = marked if on else unmarked
    salt = salt_of(db)

    def changed(params: str, identity: bytes, occurrence: int) -> str:
        told = change(json.loads(params), mark_of(salt, identity, occurrence))
        return json.dumps(told, ensure_ascii=False, separators=(",", ":"))

    db.create_function("d3_marked", 3, changed, deterministic=True)
    db.execute(
        "update job set params = d3_marked(params, identity, occurrence)"
        " where todo = 1 and command = 'CreateTask' and state in ('pending', 'failed') and not maybe"
        " and (? or instr(params, ?))",
        (on, MARK_START),
    )


def salt_of(db: sqlite3.Connection) -> str:
    """What makes the marks of this folder's rows other than those of the same rows elsewhere."""
    found = db.execute("select value from meta where key = 'created_at'").fetchone()
    return str(found[0]) if found else ""
