"""Statements with one text for both databases, in PostgreSQL: see `journal.dialect`."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from d3async.journal.postgres.texts import kept, told
from d3async.journal.postgres.translated import translated

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from psycopg import Connection

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
    """`journal.session.Statements` over the run of number *run*, on the connection *db*. *name* is for errors."""

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
        return kept(text)

    def unescape(self, text: str) -> str:
        """See `escape`."""
        return told(text)

    def _translated(self) -> AbstractContextManager[None]:
        return translated(f"{self.name} cannot be changed")
