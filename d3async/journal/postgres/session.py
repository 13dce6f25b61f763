"""`journal.session.Session` over a run of the fleet."""

from __future__ import annotations

import json
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import psycopg

from d3async.errors import FolderHeldError, JournalError
from d3async.journal.postgres.adopt import settle_leftovers
from d3async.journal.postgres.dialect import RunStatements
from d3async.journal.postgres.schema import check_now
from d3async.journal.postgres.translated import translated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from psycopg import Connection

_HELD = "select chunk, who from d3async_chunk where run = :run and who is not null order by chunk limit 1"
_EXIT_CODE = "update d3async_round set exit_code = :code, facts = :facts where run = :run and round = :round"
_LOCK = "select from d3async_chunk where run = :run order by chunk for update"


class RunSession(RunStatements):
    """`Session` over the run *name*: a context manager with a connection of its own, which blocks.

    What a worker left without an answer is unknown from now on. Raises `JournalError` (`no_run` …), `FolderHeldError`
    when a worker is at it.
    """

    def __init__(self, conninfo: str, name: str) -> None:
        with translated(f"{name} cannot be changed"):
            db = psycopg.connect(conninfo, autocommit=True, application_name="d3async reconcile")
        try:
            run, round_, self.tenant = _find(db, name)
            super().__init__(db, run, name, round=round_)
            with self.changing():
                settle_leftovers(db, run)
        except BaseException:
            db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """See `Session.changing`."""
        with self._translated(), self._db.transaction():
            self.all(_LOCK)
            for chunk, who in self.all(_HELD):
                message = f"{self.name} is being sent: {who} has chunk {chunk}. Wait for it, or stop it."
                raise FolderHeldError(message, code="held")
            yield

    def set_exit_code(self, code: int, facts: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Keep *code* as the exit code of the last round, and add *facts* to what it wrote about itself."""
        with self.changing():
            for (known,) in self.all("select facts from d3async_round where run = :run and round = :round"):
                merged = json.dumps({**json.loads(known), **facts, "exit_code": code})
                self.run(_EXIT_CODE, code=code, facts=merged)


def _find(db: Connection[Any], name: str) -> tuple[int, int, str]:
    """The number of the run *name*, that of its last round, and its tenant. Raises `JournalError`."""
    with translated(f"{name} cannot be changed"):
        check_now(db)
        found = db.execute("select id, round, tenant from d3async_run where name = %s", (name,)).fetchone()
    if found is None:
        raise JournalError(f"The database has no run {name}.", code="no_run")
    run, round_, tenant = found
    return run, round_, tenant
