"""What was written into the files of a run folder that users change: a file that says something else was changed."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

WRITTEN = "written"
"""Where a journal keeps digests of files that were written into its folder, by their names."""
_KEPT = 8
"""Digests of one name: a process may be killed between the note and the file."""
_PATIENCE = 5.0


def note_written(journal: Path, name: str, digest: str) -> None:
    """Note that the file *name* is about to be written with the content of *digest*; also one that may be overwritten.

    Where the journal cannot be written nothing is noted: the file then counts as changed and is never overwritten.
    """
    try:
        place = f"{journal.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(place, uri=True, isolation_level=None, timeout=_PATIENCE)) as db:
            db.execute("begin immediate")
            found = db.execute("select value from meta where key = ?", (WRITTEN,)).fetchone()
            known = json.loads(found[0]) if found else {}
            before = [other for other in known.get(name, []) if other != digest]
            known[name] = [*before, digest][-_KEPT:]
            db.execute("insert or replace into meta values (?, ?)", (WRITTEN, json.dumps(known)))
            db.execute("commit")
    except sqlite3.Error:
        return
