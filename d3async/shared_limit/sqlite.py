"""Shared limits in a small SQLite file: for the processes of one user on one host, whose monotonic clock is one."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from d3async.sansio.lesson import Lesson
from d3async.sansio.membership import Member, standing
from d3async.sansio.reservation import Bucket, Wish, reserve
from d3async.shared_limit.base import Beat, Reserved, StoreError, Told, to_lesson, to_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path
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
_PATIENCE, _STEP = 0.05, 0.001
"""Seconds until a file that is held counts as lost, and between two tries: the holder may be frozen."""


class SqliteStore:
    """Keeps shared limits in the file *path*, which is opened here. Raises `StoreError` where it cannot be used."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.place = str(path)
        self._clock, self._sleep = clock, sleep
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            self._db = _opened(path)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(_why(error)) from error
        with suppress(sqlite3.Error):
            self._db.execute("delete from limits where at < ?", (clock() - _KEPT,))
            self._db.execute("delete from members where due < ?", (clock() - _KEPT,))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._db.close()

    async def reserve(self, key: str, wish: Wish) -> Reserved:
        """See `Store.reserve`."""
        return await self._alone(lambda: self._reserve(key, wish))

    async def beat(self, key: str, name: str, beat: Beat) -> Told:
        """See `Store.beat`."""
        return await self._alone(lambda: self._beat(key, name, beat))

    async def leave(self, key: str, name: str) -> None:
        """See `Store.leave`."""
        await self._alone(lambda: self._db.execute("delete from members where key = ? and name = ?", (key, name)))

    async def _alone(self, work: Callable[[], T]) -> T:
        """*work* as the only writer. What is done in between takes no time, so the loop may wait for it."""
        patience = self._clock() + _PATIENCE
        while True:
            try:
                self._db.execute("begin immediate")
                break
            except sqlite3.Error as error:
                if not _busy(error) or self._clock() >= patience:
                    raise StoreError(_why(error)) from error
            await self._sleep(_STEP)
        try:
            done = work()
            self._db.execute("commit")
        except sqlite3.Error as error:
            raise StoreError(_why(error)) from error
        finally:
            if self._db.in_transaction:
                with suppress(sqlite3.Error):
                    self._db.execute("rollback")
        return done

    def _reserve(self, key: str, wish: Wish) -> Reserved:
        now = self._clock()
        bucket, lesson = self._limit(key, now)
        bucket, first, granted = reserve(bucket, now, wish)
        rate = max(lesson.rate, wish.rate) if wish.epoch == lesson.epoch else lesson.rate
        self._db.execute(
            "update limits set free = ?, at = ?, gate = ?, rate = ? where key = ?",
            (bucket.free, bucket.at, bucket.gate, rate, key),
        )
        members = self._db.execute("select count(*) from members where key = ? and due >= ?", (key, now)).fetchone()[0]
        # nobody on one host is cut off from it: a silent process sends nothing
        return Reserved(now, first, granted, bucket.gate, lesson, max(members, 1), 0)

    def _beat(self, key: str, name: str, beat: Beat) -> Told:
        now = self._clock()
        bucket, lesson = self._limit(key, now)
        gate = max(bucket.gate, now + beat.pause) if beat.pause else bucket.gate
        if beat.lesson and beat.known == lesson.epoch:
            lesson = beat.lesson
        self._db.execute(
            "update limits set gate = ?, epoch = ?, rate = ?, lesson = ? where key = ?",
            (gate, lesson.epoch, lesson.rate, to_text(lesson), key),
        )
        self._db.execute("replace into members values (?, ?, ?, ?)", (key, name, now + beat.promise, beat.accepted))
        others = self._db.execute("select name, due, accepted from members where key = ? and name <> ?", (key, name))
        alive = [Member(*other) for other in others if other[1] >= now]
        return Told(now, gate, lesson, standing(alive, name, now))

    def _limit(self, key: str, now: float) -> tuple[Bucket, Lesson]:
        row = self._db.execute(
            "select free, at, gate, epoch, rate, lesson from limits where key = ?", (key,)
        ).fetchone()  # fmt: skip
        if row is None:
            self._db.execute("insert into limits values (?, ?, ?, ?, 0, 0, '')", (key, now, now, now))
            return Bucket(now, now, now), Lesson()
        return Bucket(*row[:3]), to_lesson(*row[3:])


def _opened(path: Path) -> sqlite3.Connection:
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
    return error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _why(error: OSError | sqlite3.Error) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "another process holds it" if getattr(error, "sqlite_errorcode", 0) and _busy(error) else str(error)
