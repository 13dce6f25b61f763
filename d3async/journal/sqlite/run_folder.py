"""The journal of a run folder in SQLite: open, commit, finish; rows of a job file brought in."""

from __future__ import annotations

import json
import os
import secrets
import socket
import sqlite3
import tempfile
import time
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d3async.d3.commands import all_commands
from d3async.errors import GONE, FencedError, FolderGoneError, JournalError
from d3async.jobs.identity import VERSION as IDENTITY
from d3async.journal.model import counted
from d3async.journal.sqlite import continue_rows, folder_lock, merge_rows
from d3async.journal.sqlite.folder_lock import FolderLocation
from d3async.journal.sqlite.schema import TABLES, VERSION, add_functions, check_parts, upgrade
from d3async.journal.sqlite.staging import Stage
from d3async.policy.outcome import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from filelock import FileLock

    from d3async.journal.model import Changes, Selection

FILE = folder_lock.JOURNAL
_SPANS = 200
_OLDEST = (3, 34)
"""The SQLite of RHEL 9: statements use `update ... from` (3.33), and nothing that came later than 3.34."""
_MAGIC = b"SQLite format 3\x00"
_CURE = "Take it away (what was done is then forgotten), or give another folder with -o."


class RunFolder:
    """A run folder held by this process, its journal open for writing.

    Until `commit`, everything is one transaction: `abandon` leaves a folder as it was found.
    """

    def __init__(
        self,
        folder: Path,
        lock: FileLock | None,
        db: sqlite3.Connection,
        location: FolderLocation | None = None,
        *,
        created: bool,
        new: bool,
    ) -> None:
        self.folder = folder
        self.db = db
        self.epoch = 0
        self.new = new
        self._lock = lock
        self._location = location
        self._created = created
        self._holds = not new
        """Whether there is something that `abandon` must leave alone."""

    def meta(self) -> dict[str, str]:
        """What the journal says of itself; empty before the first run."""
        if self.new:
            return {}
        return dict(self.db.execute("select key, value from meta"))

    def stage(self) -> Stage:
        """A stage for a job file's rows, inside this folder's transaction."""
        return Stage(self.db)

    def adopt(self, facts: Mapping[str, str]) -> Changes:
        """Bring the staged rows in; *facts* are stored as meta. What was found against earlier runs comes back."""
        with self._written():
            self._meta(facts)
            return merge_rows.merge_rows(self.db, _repeatable())

    def continue_rows(self, facts: Mapping[str, str]) -> Changes:
        """Bring the staged rows of a feedback file in; *facts* are stored as meta. No other row changes."""
        with self._written():
            self._meta(facts)
            return continue_rows.continue_rows(self.db, _repeatable())

    def all_ok(self, rows: int) -> bool:
        """Whether all of the *rows* that this run was to send are `ok`."""
        return continue_rows.all_ok(self.db, self.epoch, rows)

    def begin(self, selection: Selection, *, now: float, facts: Mapping[str, Any]) -> int:
        """Become the owner: raise the epoch, mark what is to be sent.

        Returns the number of rows to send. Nothing of it holds until `commit`.
        """
        with self._written():
            self.epoch = int(self.meta_of("epoch") or 0) + 1
            owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": now}
            self._meta({"epoch": str(self.epoch), "owner": json.dumps(owner)})
            self.db.execute(
                "insert into run(epoch, pid, host, started_at, facts) values (?, ?, ?, ?, ?)",
                (self.epoch, owner["pid"], owner["host"], now, json.dumps(dict(facts))),
            )
            return merge_rows.mark_to_send(
                self.db, _repeatable(), retry_unknown=selection.retry_unknown, serial=selection.serial
            )

    def note(self, key: str, value: str) -> None:
        """Have the journal keep *value*. It does from the next `commit` on."""
        with self._written():
            self._meta({key: value})

    def commit(self) -> None:
        """Make the folder's new state hold; raises `JournalError` when it cannot be stored."""
        with self._written():
            self.db.execute("commit")
        self._holds = True

    def find(self) -> Path | None:
        """Where the folder is now; None once it, or the journal in it, was deleted or replaced."""
        return self.folder if self._location is None else self._location.find()

    def gone(self) -> FolderGoneError | None:
        """Why nothing more may be sent, where the folder is gone; None where it is there."""
        return self._gone_error() if self.find() is None else None

    def _gone_error(self) -> FolderGoneError:
        return FolderGoneError(f"The run folder {self.folder} was deleted or replaced.", code=GONE)

    def follow(self) -> None:
        """Go on under the path that the folder was moved to. No transaction is open. Raises `FolderGoneError`."""
        place = self.find()
        if place is None:
            raise self._gone_error()
        if place != self.folder:
            with self._written():
                # first: else SQLite would go on by the path where its files were, which others may have by now
                self.db.close()
                self.folder, self.db = place, _connected(place / FILE)
                self.db.execute("select 1 from meta").fetchone()

    def save(self) -> FolderGoneError:
        """Go on in a new folder for temporary files, with a copy of the journal, as the run folder is gone.

        What to tell the user comes back. No transaction is open. Raises `FolderGoneError` when it cannot be saved.
        """
        home, sent = self.folder, self.sent_lines()
        gone = f"the run folder {home} was deleted or replaced"
        db = None
        try:
            folder = Path(tempfile.mkdtemp(prefix=f"{home.name}-"))
            (folder / FILE).touch(mode=0o600)
            db = _connected(folder / FILE)
            self.db.backup(db)
        except (OSError, sqlite3.Error) as error:
            if db is not None:
                db.close()
            message = f"{gone}, and nothing could be saved ({error}); keep this: {sent}"
            raise FolderGoneError(message, code=GONE) from error
        # SQLite leaves the files alone that are at the path of a journal which is no longer there
        self.db.close()
        self.folder, self.db = folder, db
        return FolderGoneError(f"{gone}; what it knew was saved in {folder}; {sent}", code=GONE)

    def sent_lines(self) -> str:
        """The lines of the job file whose rows this run has sent, in words."""
        asked = "select line from job where epoch = ? and attempts > 0 and line is not null order by line"
        lines = [line for (line,) in self.db.execute(asked, (self.epoch,))]
        spans = [(span[0], span[-1]) for span in _spans(lines)]
        texts = [str(first) if first == last else f"{first}-{last}" for first, last in spans]
        more = f" and {len(texts) - _SPANS:,} more spans" if len(texts) > _SPANS else ""
        return f"this run has sent lines {', '.join(texts[:_SPANS])}{more}" if texts else "this run has sent nothing"

    def outcomes(self) -> dict[str, int]:
        """Rows of the current file by outcome, all six always. Raises `ConservationError` for an unheard-of state."""
        states = self.db.execute("select state, count(*) from job where row is not null group by state")
        return counted(states, self.folder)

    def count_sent(self) -> int:
        """Rows that were sent, were not refused, and must not be sent twice."""
        found = self.db.execute(
            "select count(*) from job where state in ('sent', 'ok', 'partial', 'unknown')"
            " and command not in (select value from json_each(?))",
            (json.dumps(_repeatable()),),
        )
        return int(found.fetchone()[0])

    def settle_leftovers(self) -> dict[str, int]:
        """Whatever is still `sent` is unknown from now on; what the rows became, as `outcomes` tells it. Commits.

        Raises `FencedError` for a former owner, `ConservationError` when rows are lost or made up.
        """
        with self._owned():
            merge_rows.mark_interrupted(self.db)
            outcomes = self.outcomes()
            rows = self.meta_of("rows")
            if rows is not None:
                check_rows(int(rows), outcomes)
        return outcomes

    def finish(self, *, now: float, exit_code: int, facts: Mapping[str, Any]) -> None:
        """Give the journal up, with what the run was. Commits. Raises `FencedError` for a former owner."""
        with self._owned():
            self.db.execute(
                "update run set finished_at = ?, exit_code = ?, facts = ? where epoch = ?",
                (now, exit_code, json.dumps(dict(facts)), self.epoch),
            )
            self.db.execute("delete from meta where key = 'owner'")
        with self._written():
            self.db.execute("pragma wal_checkpoint(passive)")

    def files_before(self) -> dict[str, Any]:
        """What the run before this one gave to `note_files`; nothing where another one was in between."""
        epoch, files = json.loads(self.meta_of("files") or "[0, {}]")
        return files if epoch == self.epoch - 1 else {}

    def note_files(self, files: Mapping[str, Any]) -> None:
        """Keep what tells the *files* that were written from this journal. Commits. Raises `FencedError`."""
        with self._owned():
            self._meta({"files": json.dumps([self.epoch, files])})

    @contextmanager
    def _owned(self) -> Iterator[None]:
        """A transaction of the present owner: all of it or nothing."""
        with self._written():
            self.db.execute("begin immediate")
            try:
                self._guard()
                yield
            except BaseException:
                self.db.execute("rollback")
                raise
            self.db.execute("commit")

    def _guard(self) -> None:
        if self.meta_of("epoch") != str(self.epoch):
            raise FencedError("Another d3async has taken this run folder over.", code="fenced")

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise JournalError(f"The journal in {self.folder} cannot be written: {error}.", code="journal") from error

    def abandon(self) -> None:
        """Undo everything since the last `commit`; a folder that was made for it disappears."""
        with suppress(sqlite3.Error):
            if self.db.in_transaction:
                self.db.execute("rollback")
        there = self.find() == self.folder
        self.db.close()
        if self._lock is not None and not self._holds and there:
            _remove_journal(self.folder)
        self._let_go(there=there, created=self._created and not self._holds)

    def close(self) -> None:
        """Close the journal and let go of the folder."""
        there = self.find() == self.folder
        self.db.close()
        self._let_go(there=there, created=False)

    def _let_go(self, *, there: bool, created: bool) -> None:
        if self._location is not None:
            self._location.close()
        if self._lock is None:
            return
        if there:
            folder_lock.let_go(self.folder, self._lock, created=created)
        else:
            # what is at that path now belongs to others
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
    add_functions(db)
    return RunFolder(Path(), None, db, created=False, new=True)


def open_folder(folder: Path) -> RunFolder:
    """Hold *folder* and open its journal, making both where they are missing.

    Raises `FolderHeldError` when another process holds it, `JournalError` when it cannot be read or written.
    """
    if sqlite3.sqlite_version_info < _OLDEST:
        raise JournalError(f"SQLite {sqlite3.sqlite_version} is too old: 3.34 or newer is needed.", code="journal")
    created, lock = folder_lock.take(folder)
    try:
        return _open(folder, lock, created=created)
    except BaseException:
        folder_lock.let_go(folder, lock, created=created)
        raise


def _remove_journal(folder: Path) -> None:
    for name in (FILE, f"{FILE}-wal", f"{FILE}-shm", f"{FILE}-journal"):
        with suppress(OSError):
            (folder / name).unlink(missing_ok=True)


def _repeatable() -> list[str]:
    return [name for name, command in all_commands().items() if command.repeatable]


def _open(folder: Path, lock: FileLock, *, created: bool) -> RunFolder:
    path = folder / FILE
    db: sqlite3.Connection | None = None
    new = False
    try:
        new = _look_at(path)
        db = _connected(path)
        check_parts(db, path)
        db.execute("pragma journal_mode = wal")
        db.execute("begin immediate")
        # a process killed before its first commit leaves a database without a table
        new = not db.execute("select exists(select 1 from sqlite_schema)").fetchone()[0]
        if new:
            _create(db)
        else:
            upgrade(db, _version(db, path))
        location = FolderLocation(folder, FILE)
    except BaseException as error:
        if db is not None:
            db.close()
        if new:
            _remove_journal(folder)
        if isinstance(error, sqlite3.Error | OSError):
            message = f"The journal {path} cannot be used: {error}. {_CURE}"
            raise JournalError(message, code="journal") from error
        raise
    return RunFolder(folder, lock, db, location, created=created, new=new)


def _spans(numbers: Iterable[int]) -> Iterator[list[int]]:
    """*numbers*, which ascend, in lists without a gap."""
    for _, span in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        yield [number for _, number in span]


def _connected(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
    add_functions(db)
    return db


def _look_at(path: Path) -> bool:
    """Make the file, for the owner alone, where there is none; whether it was made. Raises `JournalError`."""
    if not path.exists():
        path.touch(mode=0o600)
        return True
    with path.open("rb") as file:
        # SQLite takes a file shorter than its header for an empty one, and overwrites it
        if file.read(len(_MAGIC)) not in {b"", _MAGIC}:
            raise JournalError(f"{path} is no journal of d3async. {_CURE}", code="journal")
    return False


def _create(db: sqlite3.Connection) -> None:
    for statement in TABLES.split(";"):
        if statement.strip():
            db.execute(statement)
    facts = {"schema": VERSION, "identity": IDENTITY, "uid": secrets.token_hex(8), "created_at": time.time()}
    db.executemany("insert into meta values (?, ?)", [(key, str(value)) for key, value in facts.items()])


def _version(db: sqlite3.Connection, path: Path) -> int:
    """The version of the journal's tables. Raises `JournalError` for one this d3async does not know."""
    found = db.execute("select value from meta where key = 'schema'").fetchone()
    version = str(found[0]) if found else ""
    if not version.isdecimal():
        raise JournalError(f"{path} is no journal of d3async. {_CURE}", code="journal")
    if int(version) > VERSION:
        message = (
            f"The journal {path} was written by a newer d3async (schema {version}; this one knows {VERSION}):"
            " use that version, or give another folder with -o."
        )
        raise JournalError(message, code="journal_newer")
    return int(version)
