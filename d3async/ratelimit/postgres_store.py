"""Shared limits in PostgreSQL: for the processes of many hosts, by the database's clock alone."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg

from d3async.sansio.membership import Member, standing
from d3async.sansio.reservation import BACK, WINDOW
from d3async.shared_limit import statements
from d3async.shared_limit.base import Beat, Reserved, StoreError, Told, to_lesson, to_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from d3async.limit_url import LimitUrl
    from d3async.sansio.reservation import Wish

    Connection = psycopg.AsyncConnection[tuple[Any, ...]]

ANSWER, CONNECT = 0.25, 1.5
"""Seconds until a database that says nothing counts as lost: once connected, and while connecting."""


class PostgresStore:
    """Keeps shared limits in the database at *url*, in tables of its own which it makes where they are missing.

    Any number of shares of one event loop may use it: it has one connection, and makes another when that is lost.
    """

    def __init__(self, url: LimitUrl) -> None:
        self.place = f"the limit's database {url}"
        self._url = url
        self._db: Connection | None = None
        self._one, self._connecting = asyncio.Lock(), asyncio.Lock()
        self._under_way: set[asyncio.Task[tuple[Any, ...]]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._drop()

    async def reserve(self, key: str, wish: Wish) -> Reserved:
        """See `Store.reserve`. Where there is no connection it does not wait for one: a sign of life makes it."""
        params = {
            "key": key, "slots": wish.slots, "every": wish.every, "late": wish.late, "within": wish.within,
            "epoch": wish.epoch, "rate": wish.rate, "set_back": BACK, "window": WINDOW,
        }  # fmt: skip
        row = await self._ask(statements.RESERVE, params)
        if not row:
            raise StoreError("the limit was taken away")
        now, first, granted, gate, epoch, rate, lesson, members, silent = row
        return Reserved(now, first, granted, gate, to_lesson(epoch, rate, lesson), members, silent)

    async def beat(self, key: str, name: str, beat: Beat) -> Told:
        """See `Store.beat`."""
        async with self._connecting:
            if self._db is None:
                await self._connect()
        params = {
            "key": key, "name": name, "promise": beat.promise, "accepted": beat.accepted, "pause": beat.pause,
            "news": beat.lesson is not None, "known": beat.known,
            "epoch": beat.lesson.epoch if beat.lesson else 0,
            "rate": beat.lesson.rate if beat.lesson else 0.0,
            "lesson": to_text(beat.lesson) if beat.lesson else "", "set_back": BACK, "window": WINDOW,
        }  # fmt: skip
        row = await self._ask(statements.BEAT, params)
        if not row:
            await self._ask(statements.NEW, {"key": key})
            row = await self._ask(statements.BEAT, params)
        now, gate, epoch, rate, lesson, others, since, *counted = row
        found = standing((Member(*other) for other in json.loads(others)), name, now, since=since)
        if counted != [found.members, found.silent]:
            await self._ask(statements.COUNT, {"key": key, "members": found.members, "silent": found.silent})
        return Told(now, gate, to_lesson(epoch, rate, lesson), found)

    async def leave(self, key: str, name: str) -> None:
        """See `Store.leave`."""
        await self._ask(statements.LEAVE, {"key": key, "name": name})

    async def _ask(self, statement: LiteralString, params: Mapping[str, Any]) -> tuple[Any, ...]:
        """The first row of the answer, () where it has none.

        Goes on to its end when the caller is cancelled: psycopg would ask the server to stop, and wait for that.
        """
        task = asyncio.create_task(self._row(statement, params))
        self._under_way.add(task)
        task.add_done_callback(self._over)
        return await asyncio.shield(task)

    def _over(self, task: asyncio.Task[tuple[Any, ...]]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()

    async def _row(self, statement: LiteralString, params: Mapping[str, Any]) -> tuple[Any, ...]:
        async with self._one:
            db = self._db
            if db is None:
                raise StoreError("it is not connected")
            watch = asyncio.get_running_loop().call_later(ANSWER, _hang_up, db)
            try:
                cursor = await db.execute(statement, params)
                return (await cursor.fetchone() or ()) if cursor.description else ()
            except (psycopg.Error, OSError) as error:
                silent = watch.when() <= asyncio.get_running_loop().time()
                await self._drop()
                raise StoreError("it does not answer" if silent else why(error), sent=True) from None
            finally:
                watch.cancel()

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(CONNECT):
                self._db = await psycopg.AsyncConnection.connect(
                    self._url.reveal(), autocommit=True, application_name="d3async limit"
                )
        except TimeoutError:
            raise StoreError("it does not answer") from None
        except (psycopg.Error, OSError) as error:
            raise StoreError(why(error)) from None
        await self._ask(statements.SESSION, {})
        if await self._ask(statements.THERE, {}) != (True,):
            for statement in statements.SCHEMA:
                await self._ask(statement, {})
        await self._ask(statements.LONG_GONE, {})

    async def _drop(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            await db.close()


def _hang_up(db: Connection) -> None:
    """End the connection from this side; who waits for an answer hears of it as of any end.

    Not `close`: its number might be another's connection before the loop has forgotten it.
    """
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(db.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


def why(error: Exception) -> str:
    """The first line of what it said, which names no secret."""
    text = str(getattr(error, "strerror", None) or error).strip()
    return text.splitlines()[0] if text else type(error).__name__
