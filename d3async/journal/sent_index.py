"""This user's index of rows sent from any run folder: digests only, in the state folder, for 180 days.

It may name rows that were never sent (a run was killed), but leaves out none that was. The journal of the folder that
a row was sent from, where it is still there, decides.
"""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import contextmanager, suppress
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import platformdirs

from d3async.errors import JournalError
from d3async.journal.sqlite.folder_lock import JOURNAL, is_held
from d3async.journal.sqlite.schema import check_parts
from d3async.policy.look_alikes import SentRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

VERSION = 1
KEPT = 180 * 86_400.0
"""Seconds after which an entry is dropped."""
MAY_HAVE_HAPPENED = ("sent", "ok", "partial", "unknown")
"""States of a row that was sent and was not refused."""
_WAIT = 20.0
_CHUNK = 500
_UPGRADES = (
    """
    create table run(id integer primary key, server integer not null, uid text not null, folder text not null,
        at real not null);
    create index run_uid on run(uid);
    create table sent(similar integer not null, run integer not null, job integer not null, due integer not null,
        alike integer, open integer not null default 1, primary key (similar, run, job)) without rowid;
    create index sent_alike on sent(alike, due);
    create index sent_open on sent(run, job) where open = 1;
    """,
)
"""What makes an index of version 0 (an empty file), 1, … one of the next version."""
_TEMPORARY = """
    create temp table wanted(similar integer, alike integer, due integer, job integer, first integer);
    create temp table found(similar integer, due integer, run integer, job integer, primary key (run, job))
        without rowid;
"""
# run.at     when its rows were entered, seconds since 1970; run.server a digest of D3's base URL
# sent.open  1 until the run that sent it has ended and said what became of it


class IndexedRow(NamedTuple):
    """A row about to be sent, as the index keeps it. *job* is its number in the journal of its run folder."""

    similar: int
    alike: int | None
    due: int
    job: int


class WantedRow(NamedTuple):
    """A row to be looked up, as `IndexedRow`. *first* says that its journal has never sent it."""

    similar: int
    alike: int | None
    due: int
    job: int
    first: int


class SentFrom(NamedTuple):
    """Where and when the rows of one run were sent from; *at* in seconds since 1970."""

    folder: str
    uid: str
    at: float


def index_file() -> Path:
    """The file, in the user's state folder; it need not be there."""
    return platformdirs.user_state_path("d3async", appauthor=False) / "sent.sqlite"


def server_digest(base_url: str) -> int:
    """A digest of the D3 at *base_url*: a signed 64-bit number."""
    return int.from_bytes(blake2b(base_url.casefold().encode(), digest_size=8).digest(), signed=True)


class SentIndex:
    """The open index. Every method may raise `JournalError`: what is wrong with the file, in a few words."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._path = path
        with _as_journal_error(path):
            try:
                self._db = _opened(path)
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                _set_damaged_file_apart(path)
                self._db = _opened(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def knows(self, server: int) -> bool:
        """Whether rows were sent to *server* from any run folder."""
        with _as_journal_error(self._path):
            asked = "select exists(select 1 from run where server = ? and at > ?)"
            return bool(self._db.execute(asked, (server, self._oldest)).fetchone()[0])

    def newest(self) -> int:
        """A number that grows whenever rows are entered."""
        with _as_journal_error(self._path):
            return int(self._db.execute("select coalesce(max(id), 0) from run").fetchone()[0])

    def find(self, server: int, own: str, rows: Iterable[WantedRow], *, journal: str = "") -> None:
        """Look for rows sent to *server* that *rows* of the journal *own* (a uid) look like; `similar` gives them.

        With *journal* only rows sent from that one are looked for. A row of this very journal is found too where only
        another copy of the journal can have sent it.
        """
        with _as_journal_error(self._path):
            for table in ("wanted", "found"):
                self._db.execute(f"delete from temp.{table}")
            self._db.executemany("insert into temp.wanted values (?, ?, ?, ?, ?)", rows)
            self._db.execute(
                "insert or ignore into temp.found select s.similar, s.due, s.run, s.job"
                " from (select distinct similar from temp.wanted) w cross join sent s on s.similar = w.similar"
                " join run on run.id = s.run where run.server = ? and run.at > ?"
                f" and run.uid {'=' if journal else '!='} ?",
                (server, self._oldest, journal or own),
            )
            self._drop_refused()
            if journal:
                return
            self._db.execute(
                "insert or ignore into temp.found select s.similar, s.due, s.run, s.job from run"
                " cross join temp.wanted w join sent s on s.similar = w.similar and s.run = run.id and s.job = w.job"
                " where run.uid = ? and run.server = ? and s.open = 0 and w.first",
                (own, server),
            )

    def similar(self) -> Iterator[SentRow]:
        """What `find` found, sorted by digest and due date."""
        with _as_journal_error(self._path):
            yield from map(
                SentRow._make, self._db.execute("select similar, due, run, job from temp.found order by 1, 2, 3, 4")
            )

    def other_names(self, server: int, own: str) -> Iterator[int]:
        """Of the rows of `find`, the jobs with incident, assignee and due date of a row sent under another name."""
        with _as_journal_error(self._path):
            yield from (
                job
                for (job,) in self._db.execute(
                    "select w.job from temp.wanted w where exists (select 1 from sent s join run on run.id = s.run"
                    " where s.alike = w.alike and s.due = w.due and s.similar != w.similar"
                    " and run.server = ? and run.at > ? and run.uid != ?)",
                    (server, self._oldest, own),
                )
            )

    def sent_from(self, run: int) -> SentFrom:
        """Where the rows of *run* were sent from."""
        with _as_journal_error(self._path):
            found = self._db.execute("select folder, uid, at from run where id = ?", (run,)).fetchone()
        return SentFrom._make(found)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No other process enters rows meanwhile; what is entered is on disk at the end, or nothing is."""
        with _as_journal_error(self._path):
            self._db.execute("begin immediate")
        try:
            yield
        except BaseException:
            with suppress(sqlite3.Error):
                self._db.execute("rollback")
            raise
        with _as_journal_error(self._path):
            self._db.execute("commit")

    def enter(self, server: int, uid: str, folder: Path, rows: Iterable[IndexedRow]) -> None:
        """Keep *rows*, which may be sent to *server* from *folder* from now on, whose journal is *uid*."""
        rows = iter(rows)
        first = next(rows, None)
        if first is None:
            return
        with _as_journal_error(self._path):
            if self._db.execute("select exists(select 1 from run where at <= ?)", (self._oldest,)).fetchone()[0]:
                self._db.execute("delete from sent where run in (select id from run where at <= ?)", (self._oldest,))
                self._db.execute("delete from run where at <= ?", (self._oldest,))
            run = self._db.execute(
                "insert into run(server, uid, folder, at) values (?, ?, ?, ?)",
                (server, uid, str(folder), self._clock()),
            ).lastrowid
            self._db.executemany(
                "insert or replace into sent(similar, alike, due, job, run) values (?, ?, ?, ?, ?)",
                ((*row, run) for row in chain([first], rows)),
            )

    def correct(self, uid: str, folder: Path, sent: Callable[[Sequence[int]], Iterable[int]]) -> None:
        """Take out what the journal *uid*, now in *folder*, entered and did not send. *sent* picks those jobs it did.

        A journal that is still where it was is asked there: the one in *folder* is a copy of it.
        """
        with _as_journal_error(self._path):
            runs = self._db.execute(
                "select id, folder from run where uid = ? and (folder != ?"
                " or exists (select 1 from sent where sent.run = run.id and open = 1))",
                (uid, str(folder)),
            ).fetchall()
            if not runs:
                return
            self._db.execute("begin immediate")
            try:
                for run, place in runs:
                    if place != str(folder):
                        with journal_at(place, uid) as journal:
                            if journal is not None:
                                continue
                        self._db.execute("update run set folder = ? where id = ?", (str(folder), run))
                    self._correct(run, sent)
            except BaseException:
                self._db.execute("rollback")
                raise
            self._db.execute("commit")

    def moved(self, uid: str, folder: Path) -> None:
        """The run folder of the journal *uid* is now *folder*."""
        with _as_journal_error(self._path):
            self._db.execute("update run set folder = ? where uid = ?", (str(folder), uid))

    def _correct(self, run: int, sent: Callable[[Sequence[int]], Iterable[int]]) -> None:
        after = -1
        while rows := self._db.execute(
            "select job, similar from sent where run = ? and open = 1 and job > ? order by job limit ?",
            (run, after, _CHUNK),
        ).fetchall():
            after = rows[-1][0]
            happened = set(sent([job for job, _ in rows]))
            for statement, wanted in (
                ("delete from sent where similar = ? and run = ? and job = ?", False),
                ("update sent set open = 0 where similar = ? and run = ? and job = ?", True),
            ):
                chosen = [(similar, run, job) for job, similar in rows if (job in happened) is wanted]
                self._db.executemany(statement, chosen)

    def _drop_refused(self) -> None:
        """Of what was found, forget rows that the journal they were sent from knows not to have happened."""
        runs = self._db.execute("select distinct run.id, folder, uid from temp.found f join run on run.id = f.run")
        for run, folder, uid in runs.fetchall():
            with journal_at(folder, uid) as journal:
                if journal is not None:
                    self._drop(run, journal, goes_on=_goes_on(journal, folder))

    def _drop(self, run: int, journal: sqlite3.Connection, *, goes_on: bool) -> None:
        after = -1
        while rows := self._db.execute(
            "select job, similar from temp.found where run = ? and job > ? order by job limit ?", (run, after, _CHUNK)
        ).fetchall():
            after = rows[-1][0]
            try:
                happened = _may_have_happened(journal, rows, goes_on=goes_on)
            except sqlite3.Error:  # that journal is damaged: the index is all that is known
                return
            refused = [(run, job) for job, _ in rows if job not in happened]
            self._db.executemany("delete from temp.found where run = ? and job = ?", refused)

    @property
    def _oldest(self) -> float:
        return self._clock() - KEPT


def jobs_sent(journal: sqlite3.Connection, jobs: Sequence[int]) -> list[int]:
    """Of *jobs* of *journal*, those that were sent and not refused."""
    marks = ",".join("?" * len(MAY_HAVE_HAPPENED))
    return [
        job
        for (job,) in journal.execute(
            f"select id from job where id in (select value from json_each(?)) and state in ({marks})",
            (json.dumps(jobs), *MAY_HAVE_HAPPENED),
        )
    ]


def _goes_on(journal: sqlite3.Connection, folder: str) -> bool:
    """Whether a run may be sending from *folder*; one that was killed has left its name in the journal, and no lock."""
    try:
        owner = journal.execute("select exists(select 1 from meta where key = 'owner')").fetchone()[0]
    except sqlite3.Error:
        return True
    return bool(owner) and is_held(Path(folder)) is not False


def _may_have_happened(journal: sqlite3.Connection, rows: Sequence[tuple[int, int]], *, goes_on: bool) -> set[int]:
    """Of *rows* (job, digest), the jobs that were sent, or that a run that *goes_on* is about to send."""
    marks = ",".join("?" * len(MAY_HAVE_HAPPENED))
    found = journal.execute(
        "select id, similar from job where id in (select value from json_each(?))"
        f" and (state in ({marks}) or (? and todo = 1))",
        (json.dumps([job for job, _ in rows]), *MAY_HAVE_HAPPENED, goes_on),
    )
    return {job for job, _ in set(found.fetchall()) & set(rows)}


@contextmanager
def journal_at(folder: str, uid: str) -> Iterator[sqlite3.Connection | None]:
    """The journal *uid* of the run folder *folder*, to be read; None where it is not there or is another one."""
    path = Path(folder) / JOURNAL
    journal = None
    try:
        if path.is_file():
            journal = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1.0)
            check_parts(journal, path)
            there = journal.execute("select value from meta where key = 'uid'").fetchone() == (uid,)
        else:
            there = False
    except (OSError, sqlite3.Error, JournalError):
        there = False
    try:
        yield journal if there else None
    finally:
        if journal is not None:
            journal.close()


def _opened(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    db = sqlite3.connect(path, timeout=_WAIT, isolation_level=None, check_same_thread=False)
    try:
        # no -wal beside it: a home folder may be on another machine
        db.execute("pragma journal_mode = delete")
        db.execute("pragma synchronous = full")
        if _version(db, path) < VERSION:
            db.execute("begin immediate")
            # another process may have been quicker
            statements = [one for older in _UPGRADES[_version(db, path) :] for one in older.split(";") if one.strip()]
            for statement in statements:
                db.execute(statement)
            db.execute(f"pragma user_version = {VERSION}")
            db.execute("commit")
        db.executescript(_TEMPORARY)
    except BaseException:
        db.close()
        raise
    return db


def _version(db: sqlite3.Connection, path: Path) -> int:
    version = int(db.execute("pragma user_version").fetchone()[0])
    if version > VERSION:
        raise JournalError(f"{path}: it is of a newer d3async", code="index_newer")
    return version


def _set_damaged_file_apart(path: Path) -> None:
    for name in (path, path.with_name(f"{path.name}-journal")):
        with suppress(FileNotFoundError):
            name.replace(name.with_name(f"{name.name}.damaged"))


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}


@contextmanager
def _as_journal_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise JournalError(f"{path}: {error.strerror or error}", code="index") from error
    except sqlite3.Error as error:
        busy = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
        raise JournalError(f"{path}: {'another process holds it' if busy else error}", code="index") from error
