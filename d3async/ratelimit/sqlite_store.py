"""Shared limits in a small SQLite file: for the processes of one user on one host, whose monotonic clock is one."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import platformdirs

from d3async.ratelimit.shared_rate_controller import LearnedRate
from d3async.ratelimit.store_protocol import (
    Bucket,
    Heartbeat,
    HeartbeatAnswer,
    Member,
    Reserved,
    SlotRequest,
    StoreError,
    closed,
    members,
    reserve,
    to_lesson,
    to_text,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Self

T = TypeVar("T")

_SCHEMA = """
create table if not exists limits (
    key text primary key, free real not null, at real not null, gate real not null,
    epoch integer not null, rate real not null, lesson text not null
) without rowid;
create table if not exists members (
    key text not null, name text not null, due real not null, accepted integer not null, primary key (key, name)
) without rowid;
"""
_KEPT = 86_400.0
_PATIENCE, _STEP = 0.25, 0.001
"""Seconds until a file that is held counts as lost, and between two tries: the holder may be frozen."""


class SqliteStore:
    """Keeps shared limits in the file *path*. Raises `StoreError` where that cannot be used, and holds nothing yet."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.place = str(path)
        self._path, self._clock, self._sleep = path, clock, sleep
        self._db: sqlite3.Connection | None = None
        self._opened().close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _opened(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.touch(mode=0o600)
            db = _connected(self._path)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(_why(error)) from error
        with suppress(sqlite3.Error):
            db.execute("delete from limits where at < ?", (self._clock() - _KEPT,))
            db.execute("delete from members where due < ?", (self._clock() - _KEPT,))
        return db

    async def reserve(self, key: str, wish: SlotRequest) -> Reserved:
        """See `Store.reserve`."""
        return await self._alone(lambda db: self._reserve(db, key, wish))

    async def beat(self, key: str, name: str, beat: Heartbeat) -> HeartbeatAnswer:
        """See `Store.beat`."""
        return await self._alone(lambda db: self._beat(db, key, name, beat))

    async def leave(self, key: str, name: str) -> None:
        """See `Store.leave`."""
        await self._alone(lambda db: db.execute("delete from members where key = ? and name = ?", (key, name)))

    async def _alone(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """*work* as the only writer. What is done in between takes no time, so the loop may wait for it."""
        db = self._db = self._db or self._opened()
        await self._begin(db)
        try:
            done = work(db)
            db.execute("commit")
        except sqlite3.Error as error:
            raise StoreError(_why(error)) from error
        finally:
            if db.in_transaction:
                with suppress(sqlite3.Error):
                    db.execute("rollback")
        return done

    async def _begin(self, db: sqlite3.Connection) -> None:
        patience = self._clock() + _PATIENCE
        while True:
            try:
                db.execute("begin immediate")
            except sqlite3.Error as error:
                if not _busy(error) or self._clock() >= patience:
                    raise StoreError(_why(error)) from error
            else:
                return
            await self._sleep(_STEP)

    def _reserve(self, db: sqlite3.Connection, key: str, wish: SlotRequest) -> Reserved:
        now = self._clock()
        bucket, lesson = _limit(db, key, now)
        bucket, first, granted = reserve(bucket, now, wish)
        rate = max(lesson.rate, wish.rate) if wish.epoch == lesson.epoch else lesson.rate
        db.execute(
            "update limits set free = ?, at = ?, gate = ?, rate = ? where key = ?",
            (bucket.free, bucket.at, bucket.gate, rate, key),
        )
        members = db.execute("select count(*) from members where key = ? and due >= ?", (key, now)).fetchone()[0]
        # no process of one host is cut off from it: a silent process sends nothing
        return Reserved(now, first, granted, bucket.gate, lesson, max(members, 1), 0)

    def _beat(self, db: sqlite3.Connection, key: str, name: str, beat: Heartbeat) -> HeartbeatAnswer:
        now = self._clock()
        bucket, lesson = _limit(db, key, now)
        bucket = closed(bucket, now, beat.pause)
        if beat.lesson and beat.known == lesson.epoch:
            lesson = beat.lesson
        db.execute(
            "update limits set free = ?, at = ?, gate = ?, epoch = ?, rate = ?, lesson = ? where key = ?",
            (bucket.free, bucket.at, bucket.gate, lesson.epoch, lesson.rate, to_text(lesson), key),
        )
        db.execute("replace into members values (?, ?, ?, ?)", (key, name, now + beat.promise, beat.accepted))
        others = db.execute("select name, due, accepted from members where key = ? and name <> ?", (key, name))
        alive = [Member(*other) for other in others if other[1] >= now]
        return HeartbeatAnswer(now, bucket.gate, lesson, members(alive, name, now))


def _limit(db: sqlite3.Connection, key: str, now: float) -> tuple[Bucket, LearnedRate]:
    row = db.execute("select free, at, gate, epoch, rate, lesson from limits where key = ?", (key,)).fetchone()
    if row is None:
        db.execute("insert into limits values (?, ?, ?, ?, 0, 0, '')", (key, now, now, now))
        return Bucket(now, now, now), LearnedRate()
    return Bucket(*row[:3]), to_lesson(*row[3:])


def _connected(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=0.0, isolation_level=None)
    try:
        db.execute("pragma busy_timeout = 1000")
        db.execute("pragma journal_mode = wal")
        # a limit is worth nothing after a power cut
        db.execute("pragma synchronous = off")
        db.executescript(_SCHEMA)
        db.execute("pragma busy_timeout = 0")
    except BaseException:
        db.close()
        raise
    return db


def _busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _why(error: OSError | sqlite3.Error) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "another process holds it" if _busy(error) else str(error)


_NETWORK = frozenset({"9p", "afs", "ceph", "cifs", "fuse.sshfs", "glusterfs", "ncpfs", "nfs", "nfs4", "smb3", "smbfs"})
_MOUNTS = Path("/proc/self/mountinfo")


def host_file() -> Path:
    """The file, in the user's state folder; it need not be there."""
    return platformdirs.user_state_path("d3async", appauthor=False) / "limits.sqlite"


def on_network(path: Path, mounts: str | None = None) -> bool:
    """Whether *path* is on another machine, as far as the system shows it: locks and clocks differ there."""
    if os.name == "nt":
        return str(path).startswith("\\\\")
    if mounts is None:
        try:
            mounts = _MOUNTS.read_text("utf-8", errors="replace")
        except OSError:
            return False
    real = os.path.realpath(path)
    best, kind = "", ""
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        point = _unescaped(fields.split(" ")[4])
        if len(point) >= len(best) and (real == point or real.startswith(point.rstrip("/") + "/")):
            best, kind = point, rest.split(" ")[0]
    return kind in _NETWORK


def _unescaped(point: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), point)
