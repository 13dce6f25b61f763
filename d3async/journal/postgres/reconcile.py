"""Rows of a fleet run nobody knows about, and what is known of them after a look into D3: see `journal.reconcile`."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from d3async.errors import FolderHeldError, JournalError
from d3async.journal.pairs import Pair, Source
from d3async.journal.postgres import adopt
from d3async.journal.postgres.marking import salt_of
from d3async.journal.postgres.schema import check_now
from d3async.journal.postgres.scripts import run_all
from d3async.journal.postgres.standing import settle_rows
from d3async.journal.postgres.texts import kept, told
from d3async.journal.postgres.translated import translated
from d3async.journal.reconcile import LOOKED_UP, TaskIncident, sent_task, with_why
from d3async.sansio.marks import mark_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import Self

    from d3async.journal.reconcile import News
    from d3async.sansio.task_search import SentTask

_PAGE = 1000
_KEY = "lower(trim(r.label))"
_ROWS = "from d3async_job j join d3async_row r on r.run = j.run and r.id = j.id where j.run = %s"
_COUNTS = f"select r.command, count(*) {_ROWS} and not j.gone and j.state = 'unknown' group by r.command"
_INCIDENT = (
    f"select {_KEY}, r.username, r.site, r.label {_ROWS} and r.command = 'CreateTask' and j.state = 'unknown'"
    f" and {_KEY} > %s order by 1, j.id limit 1"
)
_TASKS = (
    f"select j.id, r.params, r.identity, r.occurrence, j.sent_at, j.attempts {_ROWS} and r.command = 'CreateTask'"
    f" and {_KEY} = %s and j.state = %s order by j.id"
)
_PAIRS = """
create temp table if not exists d3async_pair(
    id bigint generated always as identity primary key, key text, username text, site text, source text, item bigint,
    job integer, line integer, name text);
truncate d3async_pair;
insert into d3async_pair(key, username, site, source, item, job, line, name)
select r.lane_key, r.username, r.site, r.label, i.id, r.id, r.line, i.name
from d3async_item i join d3async_row r on r.run = i.run and r.id = i.job
where i.run = %(run)s and i.state = 'unknown' order by r.lane_key, r.id, i.pos;
create index if not exists d3async_pair_key on d3async_pair(key, id)"""
_SOURCES = """
select distinct on (key) key, username, site, source from d3async_pair where key > %s order by key limit %s"""
_OF = "select id, item, job, line, name from d3async_pair where key = %s and id > %s order by id limit %s"
_TASK = """
update d3async_job set state = %s, code = %s, message = %s, maybe = false
where run = %s and id = %s and state = 'unknown'"""
# what is still to be sent of the round need not be where it is done
_ITEM = """
update d3async_item set state = %(to)s, code = %(code)s, message = %(message)s, maybe = %(to)s = 'failed',
    todo = todo and %(to)s <> 'ok' where run = %(run)s and job = %(job)s and id = %(item)s and state = %(was)s"""
_NOTE = "update d3async_round set exit_code = %s, facts = %s where run = %s and round = %s"
_FACTS = "select facts from d3async_round where run = %s and round = %s"


class PostgresBook:
    """`journal.book.Book` over the run *name*: what is unknown of it, and the changes that settle it.

    A context manager with a connection of its own, which blocks. No worker may be at the run: what earlier ones left
    in the air is unknown from now on. Raises `JournalError` (`no_run` …), `FolderHeldError` when a worker is at it.
    """

    def __init__(self, conninfo: str, name: str) -> None:
        self.name = name
        with self._translated():
            self._db = psycopg.connect(conninfo, autocommit=True, application_name="d3async reconcile")
        try:
            self._hold()
        except BaseException:
            self._db.close()
            raise

    def _hold(self) -> None:
        with self._translated():
            check_now(self._db)
            asked = "select id, round, tenant from d3async_run where name = %s"
            found = self._db.execute(asked, (self.name,)).fetchone()
        if found is None:
            raise JournalError(f"The database has no run {self.name}.", code="no_run")
        self.id, self.round, self.tenant = found
        with self._changing():
            held = "select chunk, who from d3async_chunk where run = %s and who is not null order by chunk limit 1"
            worker = self._db.execute(held, (self.id,)).fetchone()
            if worker is not None:
                message = f"{self.name} is being sent: {worker[1]} has chunk {worker[0]}. Wait for it, or stop it."
                raise FolderHeldError(message, code="held")
            adopt.settle_leftovers(self._db, self.id)
            self._salt = salt_of(self._db, self.id)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def counts(self) -> tuple[int, int, int]:
        """Unknown rows of the current file: (tasks, rows of links, rows of other commands)."""
        found = dict(self._all(_COUNTS, self.id))
        tasks, links = found.pop("CreateTask", 0), found.pop("RemoveLinkedIncidents", 0)
        return tasks, links, sum(found.values())

    def task_incidents(self) -> Iterator[TaskIncident]:
        """See `Book.task_incidents`."""
        after = ""
        while found := self._all(_INCIDENT, self.id, after):
            after, username, site, label = found[0]
            yield TaskIncident(after, username and told(username), told(site), told(label))

    def unknown_tasks(self, incident: TaskIncident) -> list[SentTask]:
        """See `Book.unknown_tasks`."""
        return self._tasks(incident, "unknown")

    def created_tasks(self, incident: TaskIncident) -> list[SentTask]:
        """See `Book.created_tasks`."""
        return self._tasks(incident, "ok")

    def _tasks(self, incident: TaskIncident, state: str) -> list[SentTask]:
        first = self._all("select coalesce(min(started_at), 0) from d3async_round where run = %s", self.id)[0][0]
        rows = self._all(_TASKS, self.id, incident.key, state)
        return [
            sent_task((job, params, mark_of(self._salt, identity, occurrence), *rest), first=first)
            for job, params, identity, occurrence, *rest in rows
        ]

    def settle_tasks(self, news: Iterable[News]) -> None:
        """See `Book.settle_tasks`."""
        with self._changing():
            for job, _, outcome, code, message in news:
                if outcome:
                    self._db.execute(_TASK, (outcome, code, kept(message), self.id, job))
                else:
                    self._tell_why("d3async_job where run = %s and id = %s", (self.id, job), message)

    def settle_items(self, news: Iterable[News], *, was: str = "unknown") -> None:
        """See `Book.settle_items`."""
        jobs: set[int] = set()
        with self._changing():
            for job, item, outcome, code, message in news:
                jobs.add(job)
                about = {"run": self.id, "job": job, "item": item, "was": was, "to": outcome, "code": code}
                if outcome:
                    self._db.execute(_ITEM, {**about, "message": kept(message)})
                elif was == "unknown" and item is not None:
                    self._tell_why(
                        "d3async_item where run = %s and job = %s and id = %s", (self.id, job, item), message
                    )
            settle_rows(self._db, self.id, sorted(jobs), looked_up=LOOKED_UP)

    def _tell_why(self, where: str, place: Sequence[int], why: str) -> None:
        for (said,) in self._all(f"select coalesce(message, '') from {where} and state = 'unknown'", *place):
            changed = f"update {where.replace(' where', ' set message = %s where')} and state = 'unknown'"
            self._db.execute(changed.encode(), (kept(with_why(told(said), why)), *place))

    def unknown_pairs(self) -> PostgresPairs:
        """Every link nobody knows about, of rows no longer in the file too; one such set at a time."""
        with self._translated():
            return PostgresPairs(self._db, self.id)

    def note(self, *, exit_code: int, told: Mapping[str, Any]) -> None:
        """Add what was found to the facts of the last round, whose exit code is *exit_code* now."""
        with self._changing():
            found = self._all(_FACTS, self.id, self.round)
            facts = {**json.loads(found[0][0] if found else "{}"), **told, "exit_code": exit_code}
            values = (exit_code, json.dumps(facts), self.id, self.round)
            self._db.execute(_NOTE, values)

    def _all(self, question: str, *values: object) -> list[tuple[Any, ...]]:
        with self._translated():
            return self._db.execute(question.encode(), values).fetchall()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """A transaction during which no worker can store anything of the run."""
        with self._translated(), self._db.transaction():
            self._db.execute("select from d3async_chunk where run = %s order by chunk for update", (self.id,))
            yield

    def _translated(self) -> AbstractContextManager[None]:
        return translated(f"{self.name} cannot be reconciled")


class PostgresPairs:
    """`journal.book.LinkPairs` over the links of a run that are unknown."""

    def __init__(self, db: psycopg.Connection[Any], run: int) -> None:
        self._db = db
        run_all(db, _PAIRS, {"run": run})

    def batches(self, most: int) -> Iterator[Sequence[Source]]:
        """See `LinkPairs.batches`."""
        after = ""
        while rows := self._db.execute(_SOURCES, (after, most)).fetchall():
            found = [Source(key, user and told(user), told(site), told(label)) for key, user, site, label in rows]
            batch = [source for source in found if source[1:3] == found[0][1:3]]
            after = batch[-1].key
            yield batch

    def of(self, source: Source) -> Iterator[Sequence[Pair]]:
        """See `LinkPairs.of`."""
        after = 0
        while rows := self._db.execute(_OF, (source.key, after, _PAGE)).fetchall():
            after = rows[-1][0]
            yield [Pair(item, job, line, told(name)) for _, item, job, line, name in rows]

    def close(self) -> None:
        """Forget them."""
        self._db.execute("truncate d3async_pair")
