"""Shared limits in PostgreSQL: for the processes of many hosts, by the database's clock alone."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, LiteralString, TypeVar

import psycopg

from d3async.sansio.membership import Member, standing
from d3async.sansio.reservation import BACK, WINDOW
from d3async.shared_limit import statements
from d3async.shared_limit.base import Beat, Reserved, StoreError, Told, to_lesson, to_text

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from typing import Self

    from d3async.limit_url import LimitUrl
    from d3async.sansio.reservation import Wish

    Connection = psycopg.AsyncConnection[tuple[Any, ...]]

T = TypeVar("T")

_ANSWER, _CONNECT = 0.25, 1.5
"""Seconds until a database that says nothing counts as lost: once connected, and while connecting."""


class PostgresStore:
    """Keeps shared limits in the database at *url*, in tables of its own which it makes where they are missing.

    Any number of shares of one event loop may use it: it has one connection, and makes another when that is lost.
    """

    def __init__(self, url: LimitUrl) -> None:
        self.place = f"the limit's database {url}"
        self._url = url
        self._db: Connection | None = None
        self._one = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        db, self._db = self._db, None
        if db is not None:
            await db.close()

    async def reserve(self, key: str, wish: Wish) -> Reserved:
        """See `Store.reserve`. Where there is no connection it does not wait for one: a sign of life makes it."""
        params = {
            "key": key, "slots": wish.slots, "every": wish.every, "late": wish.late, "within": wish.within,
            "epoch": wish.epoch, "rate": wish.rate, "set_back": BACK, "window": WINDOW,
        }  # fmt: skip
        row = await self._in_time(self._row(statements.RESERVE, params), _ANSWER)
        now, first, granted, gate, epoch, rate, lesson, members, silent = row
        return Reserved(now, first, granted, gate, to_lesson(epoch, rate, lesson), members, silent)

    async def beat(self, key: str, name: str, beat: Beat) -> Told:
        """See `Store.beat`."""
        if self._db is None:
            await self._in_time(self._connect(), _CONNECT)
        return await self._in_time(self._told(key, name, beat), _ANSWER)

    async def leave(self, key: str, name: str) -> None:
        """See `Store.leave`."""
        await self._in_time(self._row(statements.LEAVE, {"key": key, "name": name}), _ANSWER)

    async def _told(self, key: str, name: str, beat: Beat) -> Told:
        params = {
            "key": key, "name": name, "promise": beat.promise, "accepted": beat.accepted, "pause": beat.pause,
            "news": beat.lesson is not None, "known": beat.known,
            "epoch": beat.lesson.epoch if beat.lesson else 0,
            "rate": beat.lesson.rate if beat.lesson else 0.0,
            "lesson": to_text(beat.lesson) if beat.lesson else "",
        }  # fmt: skip
        row = await self._row(statements.BEAT, params)
        if not row:
            await self._row(statements.NEW, {"key": key})
            row = await self._row(statements.BEAT, params)
        now, gate, epoch, rate, lesson, others, since, *counted = row
        found = standing((Member(*other) for other in json.loads(others)), name, now, since=since)
        if counted != [found.members, found.silent]:
            count = {"key": key, "members": found.members, "silent": found.silent}
            await self._row(statements.COUNT, count)
        return Told(now, gate, to_lesson(epoch, rate, lesson), found)

    async def _row(self, statement: LiteralString, params: Mapping[str, Any]) -> tuple[Any, ...]:
        """The first row of the answer, () where it has none."""
        async with self._one:
            if self._db is None:
                raise StoreError("it is not connected")
            cursor = await self._db.execute(statement, params)
            return (await cursor.fetchone() or ()) if cursor.description else ()

    async def _connect(self) -> None:
        async with self._one:
            if self._db is not None:
                return
            db = await psycopg.AsyncConnection.connect(
                self._url.reveal(), autocommit=True, application_name="d3async limit"
            )
            try:
                await _prepare(db)
            except BaseException:
                db.pgconn.finish()
                raise
            self._db = db

    async def _in_time(self, asking: Coroutine[Any, Any, T], seconds: float) -> T:
        """What *asking* gives. One that takes longer is left behind with its connection: nobody waits for its end."""
        task = asyncio.ensure_future(asking)
        try:
            await asyncio.wait({task}, timeout=seconds)
            if task.done():
                return task.result()
        except psycopg.Error as error:
            self._drop()
            raise StoreError(_why(error)) from None
        except OSError as error:
            self._drop()
            raise StoreError(error.strerror or type(error).__name__) from None
        else:
            self._drop()
            raise StoreError("it does not answer")
        finally:
            if not task.done():
                # as long as a connection is idle nobody else is told to stop
                self._drop()
                task.add_done_callback(lambda done: done.cancelled() or done.exception())
                task.cancel()

    def _drop(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.pgconn.finish()


async def _prepare(db: Connection) -> None:
    await db.execute(statements.SESSION)
    there = await (await db.execute(statements.THERE)).fetchone()
    if there != (True,):
        async with db.transaction():
            await db.execute(statements.SCHEMA)
    await db.execute(statements.LONG_GONE)


def _why(error: psycopg.Error) -> str:
    """The first line of what it said, which names no secret."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
