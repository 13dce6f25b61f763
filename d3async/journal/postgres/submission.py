"""A job file submitted in one transaction: duplicates, re-run or new, lanes, chunks; a run held to be changed."""

from __future__ import annotations

import json
import os
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import psycopg

from d3async.d3.commands import all_commands
from d3async.errors import FolderHeldError, JournalError
from d3async.journal.model import Changes
from d3async.journal.postgres import merge_rows
from d3async.journal.postgres.connections import RunStatements, as_journal_error
from d3async.journal.postgres.merge_rows import mark_interrupted
from d3async.journal.postgres.schema import check_now
from d3async.journal.postgres.staging import PostgresStage
from d3async.journal.reconcile import mark_tasks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from psycopg import Connection

    from d3async.jobs.job import Invalid, Job
    from d3async.journal.model import Selection

CHUNK_ROWS = 500
_LOCK = "select pg_try_advisory_xact_lock(hashtextextended('d3async ' || %s, 0))"
_MIXED = """
insert into d3async_job(run, id, lane, todo, state, code, message)
select r.run, r.id, case when t.todo then r.row end, t.todo,
    case when r.params is null then 'invalid' else 'pending' end, w.code, w.message
from d3async_row r left join d3async_wrong w on w.row = r.row left join d3async_left_out l on l.row = r.row
cross join lateral (select r.params is not null and l.row is null as todo) t where r.run = %(run)s"""


@dataclass(frozen=True, slots=True)
class SubmittedRun:
    """What a submission is to send: *rows*, in *chunks* (their numbers, from 0; each holds about as many rows)."""

    run: int
    round: int
    rows: int
    chunks: range


class Submission:
    """One run being submitted over *connection*, which is in no transaction. Until `commit` nothing of it holds.

    Blocking, as reading a file is: made for one process of several that each read a file. The order is
    `add`*, `duplicates`, `adopt`, `begin`, `mark_tasks` where asked for, `commit`; or `abandon` at any time.
    """

    def __init__(self, db: Connection[Any], name: str, tenant: str, *, now: float, take_over: bool) -> None:
        self.name = name
        self._db = db
        self._now = now
        self._block = db.transaction()
        self._block.__enter__()
        try:
            self._begin(tenant, take_over=take_over)
        except BaseException:
            self.abandon()
            raise

    def _begin(self, tenant: str, *, take_over: bool) -> None:
        check_now(self._db)
        # of rows that have just come there are no statistics: the planner takes the whole table for small
        self._db.execute("set local enable_seqscan = off")
        if not self._one(_LOCK, self.name)[0]:
            raise FolderHeldError(f"{self.name} is being submitted by another process at this moment.", code="held")
        found = self._db.execute(
            "select id, tenant, meta, round, identity from d3async_run where name = %s for update", (self.name,)
        ).fetchone()
        self.new = found is None
        """Whether the run was not known before."""
        if found is None:
            found = self._one(
                "insert into d3async_run(name, tenant, created_at) values (%s, %s, %s)"
                " returning id, tenant, meta, round, identity",
                self.name, tenant, self._now,
            )  # fmt: skip
        self.id, self._tenant, meta, self._round, self._identity = found
        self._meta: dict[str, str] = json.loads(meta)
        if self._tenant != tenant:
            message = f"{self.name} is a run for {self._tenant}: give the one for {tenant} another name with --run."
            raise JournalError(message, code="other_tenant")
        self._fence(take_over=take_over)
        self._incoming = PostgresStage(self._db, self.id, tenant, aside=not self.new)

    def _fence(self, *, take_over: bool) -> None:
        """Lock every chunk: from now on their owners can change nothing."""
        found = self._db.execute(
            "select chunk, who from d3async_chunk where run = %s order by chunk for update", (self.id,)
        ).fetchall()
        held = [(chunk, who) for chunk, who in found if who is not None]
        if held and not take_over:
            chunk, who = held[0]
            message = f"{self.name} is being sent: {who} has chunk {chunk}. Wait for it, or stop it: d3async cancel."
            raise FolderHeldError(message, code="held")

    @property
    def rows(self) -> int:
        """Rows read, valid or not."""
        return self._incoming.rows

    @property
    def jobs(self) -> int:
        """Rows that can be sent."""
        return self._incoming.jobs

    @property
    def invalid(self) -> int:
        """Rows that can not."""
        return self._incoming.invalid

    def meta(self) -> dict[str, str]:
        """What the journal says of the run; empty for a new one."""
        return dict(self._meta)

    def add(self, entries: Iterable[Job | Invalid]) -> None:
        """Store *entries*, reading them as they come. Rows are to be numbered from 1 without a gap."""
        self._incoming.add(entries)

    def duplicates(self, *, allow: bool) -> Iterator[Invalid]:
        """See `Stage.duplicates`: rows that repeat an earlier one, each as the `Invalid` it becomes."""
        return self._incoming.duplicates(allow=allow)

    def facets(self) -> dict[str, int]:
        """See `Stage.facets`; reads every row, so only for a plan that tells it."""
        return self._incoming.facets()

    def adopt(self, facts: Mapping[str, str]) -> Changes:
        """Bring the rows in; *facts* are stored as meta (`RunFolder.adopt` says which). See `adopt.Changes`."""
        self._meta |= facts
        if self.new:
            return Changes(0, self.rows, 0, 0, 0, 0)
        merge_rows.make_ready(self._db, self.id, self._identity)
        return merge_rows.merge_rows(self._db, self.id, _repeatable())

    def begin(
        self, selection: Selection, *, now: float, facts: Mapping[str, Any], chunk_rows: int = CHUNK_ROWS
    ) -> SubmittedRun:
        """Mark what is to be sent, put it into lanes and these into chunks; *facts* are those of the round."""
        self._round += 1
        self._store_round(now, facts, serial=selection.serial)
        come = self._incoming
        plain = self.new and not (come.invalid or come.left_out or come.has_items or selection.serial)
        if plain and self.rows:
            chunks = merge_rows.cut_evenly(self._db, self.id, self._round, chunk_rows, rows=self.rows)
        else:
            self._mark(selection)
            chunks = merge_rows.cut(self._db, self.id, self._round, chunk_rows)
        rows = self._one("select coalesce(sum(rows), 0) from d3async_chunk where run = %s", self.id)[0]
        return SubmittedRun(self.id, self._round, int(rows), range(chunks))

    def _mark(self, selection: Selection) -> None:
        if self.new:
            self._db.execute(_MIXED.encode(), {"run": self.id})
        else:
            merge_rows.mark_to_send(self._db, self.id, _repeatable(), retry_unknown=selection.retry_unknown)
        if selection.serial or self._incoming.has_items or not self.new:
            merge_rows.assign_lanes(self._db, self.id, serial=selection.serial)

    def _store_round(self, now: float, facts: Mapping[str, Any], *, serial: bool) -> None:
        who = f"pid {os.getpid()} on {socket.gethostname()}"
        self._db.execute(
            "insert into d3async_round(run, round, started_at, facts, who) values (%s, %s, %s, %s, %s)",
            (self.id, self._round, now, json.dumps(dict(facts)), who),
        )
        self._db.execute(
            "update d3async_run set round = %s, serial = %s, cancelled_at = null, meta = %s where id = %s",
            (self._round, serial, json.dumps(self._meta), self.id),
        )

    def mark_tasks(self, *, on: bool) -> None:
        """See `journal.reconcile.mark_tasks`."""
        mark_tasks(RunStatements(self._db, self.id, self.name), on=on)

    def commit(self) -> None:
        """Make it hold. Whatever else belongs to the submission (queued chunks) may be in the same transaction."""
        self._block.__exit__(None, None, None)

    def abandon(self) -> None:
        """Undo everything."""
        undo = _Undo()
        self._block.__exit__(_Undo, undo, None)

    def _one(self, question: str, *values: object) -> tuple[Any, ...]:
        found: tuple[Any, ...] | None = self._db.execute(question.encode(), values).fetchone()
        if found is None:
            raise JournalError(f"{self.name} is gone from the database.", code="no_run")
        return found


class _Undo(Exception):  # noqa: N818 - no error: what a transaction is left with that is not to hold
    """Ends a transaction without effect."""


def submission(
    connection: Connection[Any], name: str, tenant: str, *, now: float, take_over: bool = False
) -> Submission:
    """Begin to submit the run *name* for *tenant*, in a transaction that locks the name.

    Raises `JournalError`: `journal_missing` and `journal_newer` (see `schema.check`), `other_tenant` when the run
    belongs to another one; `FolderHeldError` when another process submits it now, or when a worker has a chunk of
    it open. With *take_over* such a worker is fenced instead: what it has in flight becomes `unknown`.
    """
    return Submission(connection, name, tenant, now=now, take_over=take_over)


def _repeatable() -> list[str]:
    return [name for name, command in all_commands().items() if command.repeatable]


_HELD = "select chunk, who from d3async_chunk where run = :run and who is not null order by chunk limit 1"
_EXIT_CODE = "update d3async_round set exit_code = :code, facts = :facts where run = :run and round = :round"
_HOLD_LOCK = "select from d3async_chunk where run = :run order by chunk for update"


class RunSession(RunStatements):
    """`Session` over the run *name*: a context manager with a connection of its own, which blocks.

    What a worker left without an answer is unknown from now on. Raises `JournalError` (`no_run` …), `FolderHeldError`
    when a worker is at it.
    """

    def __init__(self, conninfo: str, name: str) -> None:
        with as_journal_error(f"{name} cannot be changed"):
            db = psycopg.connect(conninfo, autocommit=True, application_name="d3async reconcile")
        try:
            run, round_, self.tenant = _find(db, name)
            super().__init__(db, run, name, round=round_)
            with self.changing():
                mark_interrupted(db, run)
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
            self.all(_HOLD_LOCK)
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
    with as_journal_error(f"{name} cannot be changed"):
        check_now(db)
        found = db.execute("select id, round, tenant from d3async_run where name = %s", (name,)).fetchone()
    if found is None:
        raise JournalError(f"The database has no run {name}.", code="no_run")
    run, round_, tenant = found
    return run, round_, tenant
