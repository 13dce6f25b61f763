"""The journal of a run folder in SQLite: who owns it, and how a job file's rows meet the rows it knows."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from d3async.commands import all_commands
from d3async.errors import FolderHeldError, JournalError
from d3async.journal import adopt
from d3async.journal.schema import TABLES, VERSION
from d3async.journal.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = "journal.sqlite"
_LOCK = ".lock"
_OLDEST = (3, 35)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows this run is to send. *retry_unknown* sends `unknown` rows of commands that are not repeatable too."""

    retry_unknown: bool = False
    serial: bool = False


class RunFolder:
    """A run folder held by this process, its journal open for writing.

    Until `commit`, everything is one transaction: `abandon` leaves a folder as it was found.
    """

    def __init__(
        self, folder: Path, lock: FileLock | None, db: sqlite3.Connection, *, created: bool, new: bool
    ) -> None:
        self.folder = folder
        self.db = db
        self.epoch = 0
        self.new = new
        self._lock = lock
        self._created = created

    def meta(self) -> dict[str, str]:
        """What the journal says of itself; empty before the first run."""
        if self.new:
            return {}
        return dict(self.db.execute("select key, value from meta"))

    def stage(self) -> Stage:
        """A stage for a job file's rows, inside this folder's transaction."""
        return Stage(self.db)

    def adopt(self, facts: Mapping[str, str]) -> adopt.Changes:
        """Bring the staged rows in; *facts* are stored as meta. What was found against earlier runs comes back."""
        self._meta(facts)
        return adopt.adopt(self.db)

    def begin(self, selection: Selection, *, now: float, facts: Mapping[str, Any]) -> int:
        """Become the owner: raise the epoch, settle what an earlier owner left in the air, mark what is to be sent.

        Returns the number of rows to send. Nothing of it holds until `commit`.
        """
        self.epoch = int(self.meta_of("epoch") or 0) + 1
        owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": now}
        self._meta({"epoch": str(self.epoch), "owner": json.dumps(owner)})
        self.db.execute(
            "insert into run(epoch, pid, host, started_at, facts) values (?, ?, ?, ?, ?)",
            (self.epoch, owner["pid"], owner["host"], now, json.dumps(dict(facts))),
        )
        repeatable = [name for name, command in all_commands().items() if command.repeatable]
        adopt.settle_leftovers(self.db)
        return adopt.mark_todo(self.db, repeatable, retry_unknown=selection.retry_unknown, serial=selection.serial)

    def commit(self) -> None:
        """Make the folder's new state hold; raises `JournalError` when it cannot be stored."""
        try:
            self.db.execute("commit")
        except sqlite3.Error as error:
            raise JournalError(f"The journal cannot be written: {error}.", code="journal") from error

    def finish(self, *, now: float, exit_code: int, facts: Mapping[str, Any]) -> None:
        """Give the journal up, with what the run was; whatever is still `sent` is unknown from now on."""
        self.db.execute("begin immediate")
        adopt.settle_leftovers(self.db)
        self.db.execute(
            "update run set finished_at = ?, exit_code = ?, facts = ? where epoch = ?",
            (now, exit_code, json.dumps(dict(facts)), self.epoch),
        )
        self.db.execute("delete from meta where key = 'owner'")
        self.commit()

    def abandon(self) -> None:
        """Undo everything since the folder was opened; a folder that was made for it disappears."""
        if self.db.in_transaction:
            self.db.execute("rollback")
        self.db.close()
        if self.new:
            for name in (FILE, f"{FILE}-wal", f"{FILE}-shm", f"{FILE}-journal"):
                (self.folder / name).unlink(missing_ok=True)
        self._let_go()
        if self._created:
            with suppress(OSError):
                self.folder.rmdir()

    def close(self) -> None:
        """Close the journal and let go of the folder."""
        self.db.close()
        self._let_go()

    def _let_go(self) -> None:
        if self._lock is not None:
            with suppress(OSError):
                (self.folder / _LOCK).unlink(missing_ok=True)
            self._lock.release()

    def meta_of(self, key: str) -> str | None:
        """One word of what the journal says of itself."""
        found = self.db.execute("select value from meta where key = ?", (key,)).fetchone()
        return found[0] if found else None

    def _meta(self, facts: Mapping[str, str]) -> None:
        self.db.executemany("insert or replace into meta values (?, ?)", list(facts.items()))


def in_memory() -> RunFolder:
    """A journal that lasts as long as the process: for library calls without a folder."""
    db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    db.execute("begin immediate")
    _create(db)
    return RunFolder(Path(), None, db, created=False, new=True)


def open_folder(folder: Path) -> RunFolder:
    """Hold *folder* and open its journal, making both where they are missing.

    Raises `FolderHeldError` when another process holds it, `JournalError` when it cannot be read or written.
    """
    if sqlite3.sqlite_version_info < _OLDEST:
        raise JournalError(f"SQLite {sqlite3.sqlite_version} is too old: 3.35 or newer is needed.", code="journal")
    created = _make(folder)
    lock = FileLock(folder / _LOCK, blocking=False, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        raise FolderHeldError(_held(folder), code="held") from None
    except OSError as error:
        raise JournalError(f"{folder} cannot be written: {error.strerror}.", code="journal") from error
    try:
        return _open(folder, lock, created=created)
    except BaseException:
        lock.release()
        (folder / _LOCK).unlink(missing_ok=True)
        raise


def _make(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        if not folder.is_dir():
            raise JournalError(
                f"{folder} is a file, not a run folder: give another one with -o.", code="journal"
            ) from None
        return False
    except OSError as error:
        message = f"The run folder {folder} cannot be made: {error.strerror}. Give another one with -o."
        raise JournalError(message, code="journal") from error
    return True


def _open(folder: Path, lock: FileLock, *, created: bool) -> RunFolder:
    path = folder / FILE
    new = not path.exists() or path.stat().st_size == 0
    if new:
        path.touch(mode=0o600)
    try:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
        db.execute("pragma journal_mode = wal")
        db.execute("begin immediate")
        if new:
            _create(db)
        else:
            _check_schema(db, path)
    except sqlite3.Error as error:
        raise JournalError(f"The journal {path} cannot be used: {error}.", code="journal") from error
    return RunFolder(folder, lock, db, created=created, new=new)


def _create(db: sqlite3.Connection) -> None:
    for statement in TABLES.split(";"):
        if statement.strip():
            db.execute(statement)
    db.execute("insert into meta values ('schema', ?), ('created_at', ?)", (str(VERSION), str(time.time())))


def _check_schema(db: sqlite3.Connection, path: Path) -> None:
    found = db.execute("select value from meta where key = 'schema'").fetchone()
    if found is None or int(found[0]) > VERSION:
        db.close()
        message = (
            f"The journal {path} was written by a newer d3async (schema {found and found[0]}; this one knows"
            f" {VERSION}): use that version, or give another folder with -o."
        )
        raise JournalError(message, code="journal_newer")


def _held(folder: Path) -> str:
    owner: dict[str, Any] = {}
    with suppress(sqlite3.Error, ValueError, TypeError):
        db = sqlite3.connect(f"file:{folder / FILE}?mode=ro", uri=True)
        try:
            owner = json.loads(db.execute("select value from meta where key = 'owner'").fetchone()[0])
        finally:
            db.close()
    if not owner:
        return f"Another d3async is just starting in {folder}. Wait for it, or give another folder with -o."
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(owner["since"]))
    return (
        f"{folder} is held by another d3async: pid {owner['pid']} on {owner['host']}, since {since}. "
        "Wait for it or stop it; to look: d3async status " + str(folder)
    )
