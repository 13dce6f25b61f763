"""Shared limits in PostgreSQL: for the processes of many hosts, by the database's clock alone."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString
from uuid import uuid4

import psycopg

from d3async.ratelimit.store_protocol import (
    BACK,
    WINDOW,
    Heartbeat,
    HeartbeatAnswer,
    Member,
    Reserved,
    StoreError,
    members,
    to_lesson,
    to_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from d3async.config.database_urls import LimitUrl
    from d3async.ratelimit.store_protocol import SlotRequest

    Connection = psycopg.AsyncConnection[tuple[Any, ...]]

THERE = "select to_regclass('d3async_limit') is not null and to_regclass('d3async_limit_member') is not null"

# many processes may meet an empty database at once, and "if not exists" alone fails then
SCHEMA = (
    "select pg_advisory_lock(6033128874902217)",
    """
    create table if not exists d3async_limit (
        key text primary key, free float8 not null, at float8 not null, gate float8 not null,
        epoch bigint not null default 0, rate float8 not null default 0, lesson text not null default '',
        members int not null default 1, silent int not null default 0
    ) with (fillfactor = 50)
    """,
    """
    create table if not exists d3async_limit_member (
        key text not null, name text not null, pid int not null, due float8 not null, accepted int not null,
        primary key (key, name)
    ) with (fillfactor = 50)
    """,
    "select pg_advisory_unlock(6033128874902217)",
)

# a limit that is a few moments old is good enough after a crash, and no request has to wait for the disk
SESSION = "set synchronous_commit = off"

NEW = """
insert into d3async_limit (key, free, at, gate)
select %(key)s, now, now, now from (select extract(epoch from clock_timestamp())::float8 as now) clock
on conflict do nothing
"""

# the limit, ours until the statement ends, by a clock that may have been set back
_KEPT = """with limits as materialized (
    select free, at, gate from d3async_limit where key = %(key)s for update
), clock as materialized (
    select limits.*, extract(epoch from clock_timestamp())::float8 as now from limits
), kept as materialized (
    select now,
        case when now < at - %(set_back)s::float8 then now + %(window)s::float8 else free end as free,
        case when now < at - %(set_back)s::float8 then now else greatest(at, now) end as at,
        case when now < at - %(set_back)s::float8 then now + greatest(gate - at, 0) else gate end as gate
    from clock
)"""

# as `ratelimit.store_protocol.reserve`, in one statement; the clock is read once the row is ours
RESERVE = f"""
{_KEPT}, got as materialized (
    select *, greatest(free, gate, now - %(late)s::float8) as first,
        greatest(free, gate, now - %(late)s::float8) - now <= %(within)s::float8 as granted
    from kept
)
update d3async_limit as b set
    free = case when got.granted then got.first + %(slots)s::int * %(every)s::float8 else got.free end,
    at = got.at,
    gate = got.gate,
    rate = case when b.epoch = %(epoch)s::bigint then greatest(b.rate, %(rate)s::float8) else b.rate end
from got where b.key = %(key)s
returning got.now, got.first, got.granted, b.gate, b.epoch, b.rate, b.lesson, b.members, b.silent
"""

# as `ratelimit.store_protocol.closed`, and the lesson where no process was quicker
BEAT = f"""
{_KEPT}, mine as (
    insert into d3async_limit_member (key, name, pid, due, accepted)
    select %(key)s, %(name)s, pg_backend_pid(), now + %(promise)s::float8, %(accepted)s::int from clock
    on conflict (key, name) do update set pid = excluded.pid, due = excluded.due, accepted = excluded.accepted
), alive as materialized (
    select array_agg(pid) as pids from pg_stat_activity
), others as (
    select coalesce(json_agg(json_build_array(name, due, accepted, pid = any(pids))), '[]')::text as members
    from d3async_limit_member, alive where key = %(key)s and name <> %(name)s
)
update d3async_limit as b set
    free = kept.free,
    at = kept.at,
    gate = case when %(pause)s::float8 > 0 then greatest(kept.gate, now + %(pause)s::float8) else kept.gate end,
    epoch = case when %(news)s and b.epoch = %(known)s::bigint then %(epoch)s::bigint else b.epoch end,
    rate = case when %(news)s and b.epoch = %(known)s::bigint then %(rate)s::float8 else b.rate end,
    lesson = case when %(news)s and b.epoch = %(known)s::bigint then %(lesson)s else b.lesson end
from kept, others where b.key = %(key)s
returning now, b.gate, b.epoch, b.rate, b.lesson, others.members,
    extract(epoch from pg_postmaster_start_time())::float8, b.members, b.silent
"""

COUNT = "update d3async_limit set members = %(members)s, silent = %(silent)s where key = %(key)s"

LEAVE = "delete from d3async_limit_member where key = %(key)s and name = %(name)s"

LONG_GONE = """
delete from d3async_limit_member
where due not between extract(epoch from clock_timestamp()) - 3600 and extract(epoch from clock_timestamp()) + 3600
"""


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

    async def reserve(self, key: str, wish: SlotRequest) -> Reserved:
        """See `Store.reserve`. Where there is no connection it does not wait for one: a sign of life makes it."""
        params = {
            "key": key, "slots": wish.slots, "every": wish.every, "late": wish.late, "within": wish.within,
            "epoch": wish.epoch, "rate": wish.rate, "set_back": BACK, "window": WINDOW,
        }  # fmt: skip
        row = await self._ask(RESERVE, params)
        if not row:
            raise StoreError("the limit was taken away")
        now, first, granted, gate, epoch, rate, lesson, members, silent = row
        return Reserved(now, first, granted, gate, to_lesson(epoch, rate, lesson), members, silent)

    async def beat(self, key: str, name: str, beat: Heartbeat) -> HeartbeatAnswer:
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
        row = await self._ask(BEAT, params)
        if not row:
            await self._ask(NEW, {"key": key})
            row = await self._ask(BEAT, params)
        now, gate, epoch, rate, lesson, others, since, *counted = row
        found = members((Member(*other) for other in json.loads(others)), name, now, since=since)
        if counted != [found.members, found.silent]:
            await self._ask(COUNT, {"key": key, "members": found.members, "silent": found.silent})
        return HeartbeatAnswer(now, gate, to_lesson(epoch, rate, lesson), found)

    async def leave(self, key: str, name: str) -> None:
        """See `Store.leave`."""
        await self._ask(LEAVE, {"key": key, "name": name})

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
        await self._ask(SESSION, {})
        if await self._ask(THERE, {}) != (True,):
            for statement in SCHEMA:
                await self._ask(statement, {})
        await self._ask(LONG_GONE, {})

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


_QUESTIONS = 5
_CONNECT = 2
"""Seconds; the driver knows no shorter time."""
_FORBIDDEN = {"42501": "forbidden", "25006": "read_only"}


@dataclass(frozen=True, slots=True)
class Trial:
    """A database that can share a limit. *made*: its tables are there.

    *round_trip* is what one reservation takes, *ahead* what its clock is ahead of ours, both in seconds.
    """

    made: bool
    round_trip: float
    ahead: float

    @property
    def too_slow(self) -> bool:
        """Whether it would count as lost."""
        return self.round_trip >= ANSWER


def probe_database(url: LimitUrl, *, clock: Callable[[], float] = time.time) -> Trial:
    """Make the tables if need be, reserve, and take all of it back. *clock* in seconds since 1970.

    Blocks. Raises `StoreError`; its *code* is `forbidden` where the role may not do that, `read_only` where none may.
    """
    try:
        with psycopg.connect(url.reveal(), connect_timeout=_CONNECT, application_name="d3async doctor") as db:
            found = _used(db, clock)
            db.rollback()
            return found
    except (psycopg.Error, OSError) as error:
        code = _FORBIDDEN.get(getattr(error, "sqlstate", None) or "", "error")
        raise StoreError(why(error), code=code) from None


def _used(db: psycopg.Connection[Any], clock: Callable[[], float]) -> Trial:
    params = {
        "key": f"doctor {uuid4().hex}", "name": "doctor", "promise": 0.0, "accepted": 0, "pause": 0.0,
        "news": False, "known": 0, "epoch": 0, "rate": 0.0, "lesson": "", "set_back": BACK, "window": WINDOW,
        "slots": 1, "every": 0.0, "late": 0.0, "within": 0.0,
    }  # fmt: skip
    there = db.execute(THERE).fetchone() == (True,)
    for statement in () if there else SCHEMA:
        db.execute(statement)
    db.execute(NEW, params)
    db.execute(BEAT, params)
    asked = sorted(_reserved(db, params, clock) for _ in range(_QUESTIONS))
    db.execute(LEAVE, params)
    return Trial(there, *asked[_QUESTIONS // 2])


def _reserved(db: psycopg.Connection[Any], params: dict[str, Any], clock: Callable[[], float]) -> tuple[float, float]:
    left = clock()
    [(now, *_)] = db.execute(RESERVE, params).fetchall()
    came = clock()
    return came - left, now - (left + came) / 2
