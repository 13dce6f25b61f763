"""A session over a run folder: statements of one text for both databases, in SQLite."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from d3async.errors import JournalError
from d3async.journal.sqlite.merge_rows import mark_interrupted
from d3async.journal.sqlite.row_claims import RowStore
from d3async.journal.sqlite.run_folder import FILE, open_folder
from d3async.journal.sqlite.staging import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from d3async.journal.sqlite.run_folder import RunFolder

NAMES = {
    "rows": "job r join job j on j.id = r.id where 1 = 1",
    "job": "job",
    "item": "item",
    "event": "event",
    "round": "run",
    "here": "1 = 1",
    "owner": "epoch",
    "owned": ":epoch",
    "mark": "r.mark",
    "at_profile": "r.profile is :profile",
    "row": "job",
    "present": "row is not null",
    "to_send": "j.todo = 1",
    "number": "epoch",
}
"""SQLite keeps what the file says (r) and what became of it (j) in one table."""


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


class SqliteSession:
    """`Session` over a SQLite database, whose owner is that of *epoch*."""

    def __init__(self, db: sqlite3.Connection, *, epoch: int = 0) -> None:
        self._db = db
        self._store = RowStore(db, epoch=epoch)
        self._values = {"epoch": epoch}

    @property
    def salt(self) -> str:
        """See `Session.salt`."""
        found = self._db.execute("select value from meta where key = 'created_at'").fetchone()
        return str(found[0]) if found else ""

    @property
    def uid(self) -> str:
        """See `Statements.uid`."""
        return str(self._db.execute("select value from meta where key = 'uid'").fetchone()[0])

    def all(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        """See `Session.all`."""
        with _as_journal_error():
            return self._db.execute(statement.format_map(NAMES), {**self._values, **values}).fetchall()

    def run(self, statement: str, **values: object) -> None:
        """See `Session.run`."""
        with _as_journal_error():
            self._db.execute(statement.format_map(NAMES), {**self._values, **values})

    def run_many(self, statement: str, rows: Sequence[Mapping[str, object]]) -> None:
        """See `Session.run_many`."""
        with _as_journal_error():
            self._db.executemany(statement.format_map(NAMES), rows)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """See `Session.changing`."""
        try:
            with _as_journal_error():
                self._db.execute("begin immediate")
                self._store.guard()
            yield
            with _as_journal_error():
                self._db.execute("commit")
        finally:
            if self._db.in_transaction:
                self._db.execute("rollback")

    def escape(self, text: str) -> str:
        """SQLite stores any text."""
        return text

    def unescape(self, text: str) -> str:
        """See `escape`."""
        return text


class FolderSession(SqliteSession):
    """`Session` over a run folder that this process holds."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(folder.db, epoch=folder.epoch)


@contextmanager
def scratch() -> Iterator[tuple[Stage, SqliteSession]]:
    """A stage in a database of its own, and a session over it, gone with the block; it keeps what finds duplicates."""
    with closing(sqlite3.connect("", isolation_level=None)) as db:
        stage = Stage(db, keep=False)
        db.execute("begin")
        yield stage, SqliteSession(db)


@contextmanager
def _as_journal_error() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise JournalError(f"The journal cannot be written: {error}.", code="journal") from error


def hold(path: Path, *, now: float) -> RunFolder:
    """Hold the run folder *path* and become its owner: what an earlier owner left in the air is unknown from now on.

    Raises `JournalError` when there is no journal, `FolderHeldError` when another process holds it.
    """
    if not (path / FILE).is_file():
        raise JournalError(f"{path} is no run folder: it has no {FILE}.", code="no_run_folder")
    folder = open_folder(path)
    try:
        folder.epoch = int(folder.meta_of("epoch") or 0) + 1
        owner = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": now})
        facts = (("epoch", str(folder.epoch)), ("owner", owner))
        folder.db.executemany("insert or replace into meta values (?, ?)", facts)
        mark_interrupted(folder.db)
        folder.commit()
    except BaseException:
        folder.abandon()
        raise
    return folder


def let_go(folder: RunFolder, *, now: float, exit_code: int, told: Mapping[str, Any]) -> None:
    """Give the folder up. *told* is added to the facts of its last run, whose exit code is now *exit_code*."""
    last = folder.db.execute("select epoch, facts from run order by epoch desc limit 1").fetchone()
    if last is not None:
        facts = {**json.loads(last[1] or "{}"), **told, "exit_code": exit_code}
        values = (exit_code, json.dumps(facts), last[0])
        folder.db.execute("update run set exit_code = ?, facts = ? where epoch = ?", values)
    folder.finish(now=now, exit_code=exit_code, facts={})
