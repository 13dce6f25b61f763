"""Connections to PostgreSQL: errors in words, texts it cannot store, statements of one text for both databases."""

from __future__ import annotations

import re
import time
from contextlib import asynccontextmanager, contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import psycopg

from d3async.errors import JournalError
from d3async.journal.postgres import schema

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from psycopg import Connection

    from d3async.config.database_urls import FleetUrl


@asynccontextmanager
async def connected(address: FleetUrl) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """Each statement holds at once. Raises `JournalError` where the database cannot be reached, or is no fleet's."""
    with translated(address):
        async with await psycopg.AsyncConnection.connect(address.conninfo, autocommit=True) as connection:
            await schema.check(connection)
            yield connection


@contextmanager
def connected_now(address: FleetUrl) -> Iterator[psycopg.Connection[Any]]:
    """The same, blocking."""
    with translated(address), psycopg.connect(address.conninfo, autocommit=True) as connection:
        schema.check_now(connection)
        yield connection


@contextmanager
def translated(address: FleetUrl) -> Iterator[None]:
    """A block whose database errors become a `JournalError` in words, without the password."""
    try:
        yield
    except psycopg.OperationalError as error:
        raise unreachable(address, error) from None
    except psycopg.Error as error:
        raise JournalError(f"The fleet's database {address} refuses: {_reason(address, error)}", code="fleet") from None


def unreachable(address: FleetUrl, error: BaseException) -> JournalError:
    """What is said of a database that does not answer."""
    return JournalError(f"The fleet's database {address} cannot be reached: {_reason(address, error)}", code="fleet")


def _reason(address: FleetUrl, error: BaseException) -> str:
    return address.mask(" ".join(str(error).split()))


def round_trip(address: FleetUrl) -> float:
    """Seconds that a question takes. Raises as `connected_now` does."""
    with connected_now(address) as connection:
        asked = time.monotonic()
        connection.execute("select 1").fetchone()
        return time.monotonic() - asked


def update_statistics(address: FleetUrl) -> None:
    """Let the database know how many rows there are now: until it does, `status` takes twice as long.

    A small sample will do until it takes a large one by itself. Raises as `connected_now` does.
    """
    with connected_now(address) as connection:
        connection.execute("set default_statistics_target = 10")
        connection.execute("analyze d3async_row(run, id), d3async_job(run, id, state, todo), d3async_chunk")


MARK = "\x1a"
"""Stands before what was changed."""
_TROUBLE = re.compile("[\x00\x1a\ud800-\udfff]")
_WRITTEN = re.compile("\x1a([0-9a-f]{4})")


def escape(text: str) -> str:
    """*text* as it is stored: what cannot be, and the mark itself, as the mark and four hexadecimal digits."""
    if text.isprintable():
        return text
    return _TROUBLE.sub(lambda found: f"{MARK}{ord(found[0]):04x}", text)


def unescape(text: str) -> str:
    """The text that `kept` made *text* of."""
    if MARK not in text:
        return text
    return _WRITTEN.sub(lambda found: chr(int(found[1], 16)), text)


def message_line(message: str, anomalies: Sequence[str]) -> str:
    """One line for `_message`, with what was odd about the answer."""
    parts = [message, *(f"[{text}]" for text in anomalies)]
    return " ".join(" ".join(parts).split())


@contextmanager
def as_journal_error(failed: str) -> Iterator[None]:
    """A block whose database errors become a `JournalError`: that it *failed*, and what the database said."""
    try:
        yield
    except psycopg.Error as error:
        said = " ".join(str(error).split())
        raise JournalError(f"{failed}: {said}", code="journal") from error


_NAMES = {
    "rows": "d3async_row r left join d3async_job j on j.run = r.run and j.id = r.id where r.run = :run",
    "job": "d3async_job",
    "item": "d3async_item",
    "event": "d3async_event",
    "round": "d3async_round",
    "here": "run = :run",
    "owner": "run, round",
    "owned": ":run, :round",
    "mark": "r.mark",
    "at_profile": "true",
    "row": "d3async_row",
    "present": "not gone",
    "to_send": "(j.id is null or j.todo)",
    "number": "round",
}
_VALUE = re.compile(r":(\w+)")


@lru_cache
def statement_text(statement: str) -> bytes:
    """*statement* in PostgreSQL's words."""
    return _VALUE.sub(r"%(\1)s", statement.format_map(_NAMES)).encode()


class RunStatements:
    """`journal.protocols.Statements` over the run of number *run*, on the connection *db*. *name* is for errors."""

    def __init__(self, db: Connection[Any], run: int, name: str, **values: object) -> None:
        self._db = db
        self.name = name
        self._values = {"run": run, **values}

    @property
    def salt(self) -> str:
        """See `Statements.salt`."""
        [(name, created_at)] = self.all("select name, created_at from d3async_run where id = :run")
        return f"{name} {created_at!r}"

    @property
    def uid(self) -> str:
        """See `Statements.uid`."""
        return str(self.all("select uid from d3async_run where id = :run")[0][0])

    def all(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        """See `Session.all`."""
        with self._translated():
            return self._db.execute(statement_text(statement), {**self._values, **values}).fetchall()

    def run(self, statement: str, **values: object) -> None:
        """See `Session.run`."""
        with self._translated():
            self._db.execute(statement_text(statement), {**self._values, **values})

    def run_many(self, statement: str, rows: Sequence[Mapping[str, object]]) -> None:
        """See `Statements.run_many`."""
        with self._translated(), self._db.cursor() as cursor:
            cursor.executemany(statement_text(statement), [{**self._values, **row} for row in rows])

    def escape(self, text: str) -> str:
        """PostgreSQL stores no NUL and no half of a surrogate pair."""
        return escape(text)

    def unescape(self, text: str) -> str:
        """See `escape`."""
        return unescape(text)

    def _translated(self) -> AbstractContextManager[None]:
        return as_journal_error(f"{self.name} cannot be changed")


def run_all(db: Connection[Any], script: str, asked: Mapping[str, object] | None = None) -> None:
    """Execute the statements of *script*, which stand between `;`."""
    for statement in script.split(";"):
        db.execute(statement.encode(), asked)
