"""`journal.session.Session` over a run of the fleet."""

from __future__ import annotations

import json
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import psycopg

from d3async.errors import FolderHeldError, JournalError
from d3async.journal.postgres.adopt import settle_leftovers
from d3async.journal.postgres.dialect import statement_text
from d3async.journal.postgres.marking import salt_of
from d3async.journal.postgres.schema import check_now
from d3async.journal.postgres.texts import kept, told
from d3async.journal.postgres.translated import translated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

_HELD = "select chunk, who from d3async_chunk where run = :run and who is not null order by chunk limit 1"
_EXIT_CODE = "update d3async_round set exit_code = :code, facts = :facts where run = :run and round = :round"
_LOCK = "select from d3async_chunk where run = :run order by chunk for update"


class RunSession:
    """`Session` over the run *name*: a context manager with a connection of its own, which blocks.

    What a worker left without an answer is unknown from now on. Raises `JournalError` (`no_run` …), `FolderHeldError`
    when a worker is at it.
    """

    def __init__(self, conninfo: str, name: str) -> None:
        self.name = name
        self._values: dict[str, object] = {}
        with self._translated():
            self._db = psycopg.connect(conninfo, autocommit=True, application_name="d3async reconcile")
        try:
            self._find()
        except BaseException:
            self._db.close()
            raise

    def _find(self) -> None:
        with self._translated():
            check_now(self._db)
            found = self._db.execute(
                "select id, round, tenant from d3async_run where name = %s", (self.name,)
            ).fetchone()
        if found is None:
            raise JournalError(f"The database has no run {self.name}.", code="no_run")
        self._run, round_, self.tenant = found
        self._values = {"run": self._run, "round": round_}
        with self.changing():
            settle_leftovers(self._db, self._run)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def all(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        """See `Session.all`."""
        with self._translated():
            return self._db.execute(statement_text(statement), {**self._values, **values}).fetchall()

    def run(self, statement: str, **values: object) -> None:
        """See `Session.run`."""
        with self._translated():
            self._db.execute(statement_text(statement), {**self._values, **values})

    @contextmanager
    def changing(self) -> Iterator[None]:
        """See `Session.changing`."""
        with self._translated(), self._db.transaction():
            self.all(_LOCK)
            for chunk, who in self.all(_HELD):
                message = f"{self.name} is being sent: {who} has chunk {chunk}. Wait for it, or stop it."
                raise FolderHeldError(message, code="held")
            yield

    def escape(self, text: str) -> str:
        """PostgreSQL stores no NUL and no half of a surrogate pair."""
        return kept(text)

    def unescape(self, text: str) -> str:
        """See `escape`."""
        return told(text)

    @property
    def salt(self) -> str:
        """See `Session.salt`."""
        return salt_of(self._db, self._run)

    def set_exit_code(self, code: int, facts: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Keep *code* as the exit code of the last round, and add *facts* to what it wrote about itself."""
        with self.changing():
            for (known,) in self.all("select facts from d3async_round where run = :run and round = :round"):
                merged = json.dumps({**json.loads(known), **facts, "exit_code": code})
                self.run(_EXIT_CODE, code=code, facts=merged)

    def _translated(self) -> AbstractContextManager[None]:
        return translated(f"{self.name} cannot be changed")
