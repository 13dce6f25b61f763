"""No row is sent that looks like one sent before, here or from elsewhere, unless the user means it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from heapq import nsmallest
from typing import TYPE_CHECKING, Any, TypeVar

from d3async.errors import JournalError, SimilarPair
from d3async.journal.model import NOTHING_SIMILAR, OUTCOME, TOLD, Similar, by_line, row_fields
from d3async.journal.sent_index import (
    MAY_HAVE_HAPPENED,
    IndexedRow,
    SentIndex,
    WantedRow,
    index_file,
    jobs_sent,
    journal_at,
    server_digest,
)
from d3async.policy.look_alikes import Lines, NewRow, SentRow, lines_of, matched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from d3async.journal.sqlite.run_folder import RunFolder

    Tell = Callable[[str], object]

_STATES = ", ".join(f"'{state}'" for state in MAY_HAVE_HAPPENED)
_OF_SERVER = "coalesce(profile, '') in (select value from json_each(:profiles))"
_TO_SEND = "todo = 1"
_CHOSEN = "id in (select job from temp.chosen)"
_LEFT = "row is not null and similar is not null and not meant and state in ('pending', 'failed')"
_GONE = f"row is null and state in ({_STATES}) and {_OF_SERVER}"
_SORTED = "order by similar, coalesce(due, 0), id"


@dataclass(frozen=True, slots=True)
class _Among:
    """Which rows are looked up: those of *which*; with *journal*, among the rows sent from that one alone."""

    which: str
    journal: str = ""

    @property
    def rows(self) -> str:
        return f"{self.which} and similar is not null and state in ('pending', 'failed') and {_OF_SERVER}"

    @property
    def asked(self) -> str:
        return f"{self.rows} and not meant and id not in (select job from temp.similar_pair)"

    @property
    def new(self) -> str:
        # a row that was changed has no epoch until it is sent as it is now
        return f"{self.asked} and (attempts = 0 or epoch is null)"


class SimilarRows:
    """Looks up the rows that the journal *db*, whose uid is *own*, is to send.

    *servers* are D3s by base URL, each with its profiles (""). *index* is None where it cannot be used, and then only
    rows of this journal that are gone from the file are known.
    """

    def __init__(
        self, db: sqlite3.Connection, index: SentIndex | None, own: str, servers: Mapping[str, Sequence[str]]
    ) -> None:
        self._db = db
        self._own = own
        self._servers = servers
        self.index = index
        db.execute("create temp table if not exists similar_pair(job integer primary key, line integer)")
        db.execute("create temp table if not exists other_name(job integer primary key)")
        db.execute("create temp table if not exists chosen(job integer primary key)")

    def find(self) -> Similar:
        """Look up all that are to be sent. May raise `JournalError` for the index."""
        first, other_day = self._look_up(_Among(_TO_SEND))
        (count,) = self._db.execute("select count(*) from temp.similar_pair").fetchone()
        (other_name,) = self._db.execute(
            "select count(*) from temp.other_name where job not in (select job from temp.similar_pair)"
        ).fetchone()
        if not (count or other_day or other_name):
            return NOTHING_SIMILAR
        return Similar(count, tuple(map(self._pair, first)), self._lines(), other_day, other_name)

    def _look_up(self, among: _Among) -> tuple[list[tuple[NewRow, SentRow]], int]:
        """Fill the tables with what the rows *among* others look like; the first pairs, and rows of another day."""
        self._db.execute("delete from temp.similar_pair")
        self._db.execute("delete from temp.other_name")
        first: list[tuple[NewRow, SentRow]] = []
        other_day = 0
        for base_url, profiles in self._servers.items():
            told = {"profiles": json.dumps(list(profiles))}
            for pairs in self._sources(among, server_digest(base_url), told):
                counter = _Counter(self._db)
                first = nsmallest(TOLD, [*first, *nsmallest(TOLD, counter.count(pairs), key=by_line)], key=by_line)
                other_day += counter.other_day
        return first, other_day

    def _sources(
        self, among: _Among, server: int, told: Mapping[str, str]
    ) -> Iterator[Iterator[tuple[NewRow, SentRow | None]]]:
        """Matches with rows gone from the file, then with rows sent from elsewhere."""
        if not among.journal and self._one(
            f"select exists(select 1 from job where {_GONE} and similar is not null)", told
        ):
            yield matched(self._new(among.new, told), self._gone(among, told))
            self._db.execute(
                f"insert or ignore into temp.other_name select id from job where {among.new}"
                f" and (alike, due) in (select alike, due from job where {_GONE})",
                told,
            )
        if self.index is not None and self.index.knows(server):
            self.index.find(server, self._own, self._wanted(among, told), journal=among.journal)
            yield matched(self._new(among.asked, told), self.index.similar())
            self._db.executemany(
                "insert or ignore into temp.other_name values (?)",
                ((job,) for job in self.index.other_names(server, self._own)),
            )

    def _one(self, sql: str, told: Mapping[str, str]) -> Any:
        return self._db.execute(sql, told).fetchone()[0]

    def _new(self, which: str, told: Mapping[str, str]) -> Iterator[NewRow]:
        # read to its end before pairs are stored: they are left out of the next look
        found = self._db.execute(f"select similar, coalesce(due, 0), line, id from job where {which} {_SORTED}", told)
        return map(NewRow._make, found)

    def _gone(self, among: _Among, told: Mapping[str, str]) -> Iterator[SentRow]:
        found = self._db.execute(
            f"select similar, coalesce(due, 0), null, id from job where {_GONE}"
            f" and similar in (select similar from job where {among.new}) {_SORTED}",
            told,
        )
        return map(SentRow._make, found)

    def _wanted(self, among: _Among, told: Mapping[str, str]) -> Iterator[WantedRow]:
        found = self._db.execute(
            f"select similar, alike, coalesce(due, 0), id, attempts = 0 from job where {among.asked} {_SORTED}", told
        )
        return map(WantedRow._make, found)

    def _entries(self, which: str, told: Mapping[str, str]) -> sqlite3.Cursor:
        return self._db.execute(f"select similar, alike, coalesce(due, 0), id from job where {which} {_SORTED}", told)

    def _lines(self) -> Lines:
        ranges = self._db.execute(
            "select min(line), max(line) from (select line, line - dense_rank() over (order by line) as block"
            " from temp.similar_pair where line is not null) group by block"
        )
        return lines_of(ranges)

    def _pair(self, pair: tuple[NewRow, SentRow]) -> SimilarPair:
        new, sent = pair
        now = _fields(self._db, new.job)
        if sent.run is None:
            return _with(new.line, now, _fields(self._db, sent.job), folder="", at=None)
        if self.index is None:
            raise RuntimeError("a row of the index without an index")
        origin = self.index.sent_from(sent.run)
        with journal_at(origin.folder, origin.uid) as journal:
            known = None if journal is None else _fields_if_any(journal, sent.job)
        if known is None:
            due = "" if now.due is None else f"{datetime.fromtimestamp(sent.due, UTC):%Y-%m-%d %H:%M:%S}"
            return SimilarPair(new.line, now.values, None, "unknown", origin.at, due, origin.folder)
        return _with(new.line, now, known, folder=origin.folder, at=origin.at)

    def allow(self, lines: Lines) -> None:
        """Rows of *lines* that look like rows sent before are meant: the journal keeps that until they are sent.

        Rows that this run leaves out, as with `--limit`, are meant as well.
        """
        self._choose("1" if lines.ranges is None else "line between ? and ?", lines.ranges or [()])
        self._allow(_Among(_CHOSEN))

    def allow_rows_of(self, journal: str) -> None:
        """Rows of the file that look like rows sent from the journal with this uid are meant."""
        self._choose("1", [()])
        self._allow(_Among(_CHOSEN, journal))

    def _choose(self, where: str, values: Iterable[Sequence[int]]) -> None:
        self._db.execute("delete from temp.chosen")
        self._db.executemany(f"insert or ignore into temp.chosen select id from job where {_LEFT} and {where}", values)

    def _allow(self, among: _Among) -> None:
        self._look_up(among)
        self.allow_found()

    def allow_found(self) -> None:
        """The rows that `find` found last are meant."""
        self._db.execute("update job set meant = 1 where id in (select job from temp.similar_pair)")

    def enter(self, folder: Path) -> None:
        """Tell the index of the rows that are to be sent, inside `SentIndex.alone`."""
        if self.index is None:
            return
        for base_url, profiles in self._servers.items():
            told = {"profiles": json.dumps(list(profiles))}
            rows = map(IndexedRow._make, self._entries(_Among(_TO_SEND).rows, told))
            self.index.enter(server_digest(base_url), self._own, folder, rows)


class _Counter:
    """Counts what `matched` gives while it passes by, and stores the pairs."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.other_day = 0

    def count(self, pairs: Iterable[tuple[NewRow, SentRow | None]]) -> Iterator[tuple[NewRow, SentRow]]:
        for new, sent in pairs:
            if sent is None:
                self.other_day += 1
                continue
            self._db.execute("insert into temp.similar_pair values (?, ?)", (new.job, new.line))
            yield new, sent


@dataclass(frozen=True, slots=True)
class _Fields:
    """A row of a journal in words."""

    values: Mapping[str, str]
    state: str
    sent_at: float | None
    due: int | None


def _fields(db: sqlite3.Connection, job: int) -> _Fields:
    command, params, state, sent_at, due, mark = db.execute(
        "select command, params, state, sent_at, due, mark from job where id = ?", (job,)
    ).fetchone()
    return _Fields(row_fields(command, params, mark), state, sent_at, due)


def _fields_if_any(journal: sqlite3.Connection, job: int) -> _Fields | None:
    """As `_fields`, of the journal of another run folder; None where it cannot be read."""
    try:
        return _fields(journal, job)
    except (sqlite3.Error, TypeError, KeyError, ValueError):
        return None


def _with(line: int, new: _Fields, sent: _Fields, *, folder: str, at: float | None) -> SimilarPair:
    outcome = OUTCOME.get(sent.state, "unknown")
    return SimilarPair(line, new.values, sent.values, outcome, sent.sent_at or at, "", folder)


T = TypeVar("T")
_INDEX = "index"
_WITHOUT = "rows that were sent from other run folders are not looked for"


class LookAlikeGuard:
    """Looks up the rows that the held *folder* is to send; `commit` takes the folder's word and the index's together.

    *servers* are the D3s of its rows by base URL, each with its profiles ("" for rows without one). *again* is the uid
    of a journal whose rows the user wants to send again, "" for none. An index that cannot be used is said once, to
    *tell*. Without *change* the index stays as it is.
    """

    def __init__(
        self,
        folder: RunFolder,
        servers: Mapping[str, Sequence[str]],
        *,
        tell: Tell,
        again: str = "",
        change: bool = True,
    ) -> None:
        self._folder = folder
        self._tell = tell
        self._uid = folder.meta_of("uid") or ""
        self._place = folder.folder.resolve()
        self._again = again
        self._newest = 0
        index = opened_index(tell)
        self._rows = SimilarRows(folder.db, index, self._uid, servers)
        if index is not None and change and not folder.new:
            self._indexed(lambda: index.correct(self._uid, self._place, partial(jobs_sent, folder.db)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rows.index is not None:
            self._rows.index.close()

    def find(self, allowed: Lines = Lines()) -> Similar:  # noqa: B008 - it is frozen
        """What the rows to be sent look like, but for those on *allowed* lines, which are meant from now on."""
        if self._again:
            self._looked_up(partial(self._rows.allow_rows_of, self._again))
        if allowed:
            self._looked_up(partial(self._rows.allow, allowed))
        if (index := self._rows.index) is not None:
            self._newest = self._indexed(index.newest) or 0
        if self._idle():
            return NOTHING_SIMILAR
        return self._looked_up(self._rows.find)

    def allow(self) -> None:
        """The rows that `find` found are meant."""
        self._rows.allow_found()

    def commit(self) -> None:
        """Commit the folder, once the rows to be sent are entered. Raises `LookAlikeError`, `JournalError`.

        Look-alikes that another process has entered since `find` are found here.
        """
        index = self._rows.index
        if index is None or self._idle():
            self._folder.commit()
            return
        committed = False
        try:
            with index.alone():
                if index.newest() != self._newest and (since := self._rows.find()).count:
                    raise since.error()
                self._folder.commit()
                committed = True
                self._rows.enter(self._place)
        except JournalError as error:
            if not committed and error.code != _INDEX:
                raise
            self._lost(error)
            if not committed:
                self._folder.commit()

    def _idle(self) -> bool:
        """Whether no row is to be sent that must not be sent twice."""
        asked = "select not exists(select 1 from job where todo = 1 and similar is not null)"
        return bool(self._folder.db.execute(asked).fetchone()[0])

    def _looked_up(self, work: Callable[[], T]) -> T:
        """What *work* gives, without the index where that cannot be used (any more)."""
        try:
            return work()
        except JournalError as error:
            self._lost(error)
            return work()

    def _indexed(self, work: Callable[[], T]) -> T | None:
        """What *work* gives; None when the index cannot be used (any more)."""
        try:
            return work()
        except JournalError as error:
            self._lost(error)
            return None

    def _lost(self, error: JournalError) -> None:
        index, self._rows.index = self._rows.index, None
        if index is not None:
            index.close()
        self._tell(f"{error.message}: {_WITHOUT}")


def opened_index(tell: Tell) -> SentIndex | None:
    """This user's index; None when it cannot be used, and then *tell* hears why."""
    try:
        return SentIndex(index_file())
    except JournalError as error:
        tell(f"{error.message}: {_WITHOUT}")
        return None


def knows_rows_of(base_url: str | None, tell: Tell) -> bool:
    """Whether this user's index knows rows that were sent to the D3 at *base_url*; to any D3 where it is None."""
    if not index_file().is_file() or (index := opened_index(tell)) is None:
        return False
    with index:
        try:
            return index.newest() > 0 if base_url is None else index.knows(server_digest(base_url))
        except JournalError as error:
            tell(f"{error.message}: {_WITHOUT}")
            return False


def correct_index(folder: RunFolder, tell: Tell) -> None:
    """Take out of the index what the run of *folder*, which has ended, entered and did not send."""
    if (index := opened_index(tell)) is not None:
        with index:
            try:
                index.correct(folder.meta_of("uid") or "", folder.folder.resolve(), partial(jobs_sent, folder.db))
            except JournalError as error:
                tell(f"{error.message}: it takes rows for sent that were not, until the next run over this folder")


def folder_moved(uid: str, place: Path) -> None:
    """Store in the index where the run folder of the journal *uid* is now, if it can be stored."""
    with suppress(JournalError), SentIndex(index_file()) as index:
        index.moved(uid, place.resolve())
