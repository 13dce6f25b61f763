"""Rows nobody knows about: what they sent, and what is known of them after a look into D3."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from d3async.errors import JournalError
from d3async.journal.adopt import settle_leftovers
from d3async.journal.rows import outcome_from_items
from d3async.journal.sqlite import FILE, open_folder
from d3async.journal.store import Store
from d3async.sansio.marks import mark_in
from d3async.sansio.task_search import SentTask

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from d3async.journal.sqlite import RunFolder

LOOKED_UP = "removed", "Read back from D3: no longer linked."
"""Code and message of a row of links all of which are gone."""
_LOOKED = "; looked up in D3: "
_TASK = "id, params, mark, sent_at, attempts"
_SAME_INCIDENT = "command = 'CreateTask' and lower(trim(label)) = ?"


class News(NamedTuple):
    """What a look into D3 says of one task, or of one item of a row. *outcome* "" leaves it, *message* says why."""

    job: int
    item: int | None
    outcome: str
    code: str
    message: str


class TaskIncident(NamedTuple):
    """An incident with tasks nobody knows about. *username* None is the account's own."""

    key: str
    username: str | None
    site: str
    number: str


def hold(path: Path, *, now: float) -> RunFolder:
    """Hold the run folder *path* and become its owner: what an earlier owner left in the air is unknown from now on.

    Raises `JournalError` when there is no journal, `FolderHeldError` when somebody else holds it.
    """
    if not (path / FILE).is_file():
        raise JournalError(f"{path} is no run folder: it has no {FILE}.", code="no_run_folder")
    folder = open_folder(path)
    try:
        folder.epoch = int(folder.meta_of("epoch") or 0) + 1
        owner = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": now})
        facts = (("epoch", str(folder.epoch)), ("owner", owner))
        folder.db.executemany("insert or replace into meta values (?, ?)", facts)
        settle_leftovers(folder.db)
        folder.commit()
    except BaseException:
        folder.abandon()
        raise
    return folder


def let_go(folder: RunFolder, *, now: float, exit_code: int, told: Mapping[str, Any]) -> None:
    """Give the folder up. *told* is added to the facts of its last run, whose exit code is now *exit_code*."""
    last = folder.db.execute("select epoch, facts from run order by epoch desc limit 1").fetchone()
    if last is not None:
        facts = {**json.loads(last[1] or "{}"), **told, "exit_code": exit_code}
        values = (exit_code, json.dumps(facts), last[0])
        folder.db.execute("update run set exit_code = ?, facts = ? where epoch = ?", values)
    folder.finish(now=now, exit_code=exit_code, facts={})


class Reconciling:
    """What is unknown of *profile* in a journal that this process owns, and the changes that settle it.

    Changes raise `FencedError` once a newer owner has the folder, `JournalError` when they can't be stored.
    """

    def __init__(self, folder: RunFolder, profile: str | None = None) -> None:
        self.db = folder.db
        self._profile = profile
        self._store = Store(folder.db, epoch=folder.epoch)

    def counts(self) -> tuple[int, int, int]:
        """Unknown rows of the current file: (tasks, rows of links, rows of other commands)."""
        told = self.db.execute(
            "select sum(command = 'CreateTask'), sum(command = 'RemoveLinkedIncidents'), count(*) from job"
            " where row is not null and state = 'unknown' and profile is ?",
            (self._profile,),
        ).fetchone()
        tasks, links, rows = (int(number or 0) for number in told)
        return tasks, links, rows - tasks - links

    def task_incidents(self) -> Iterator[TaskIncident]:
        """Incidents with unknown tasks, read as they are wanted."""
        after = ""
        while True:
            row = self.db.execute(
                "select lower(trim(label)) as key, username, site, label from job where command = 'CreateTask'"
                " and state = 'unknown' and lower(trim(label)) > ? and profile is ? order by key, id limit 1",
                (after, self._profile),
            ).fetchone()
            if row is None:
                return
            after = row[0]
            yield TaskIncident._make(row)

    def unknown_tasks(self, incident: TaskIncident) -> list[SentTask]:
        """The tasks of *incident* nobody knows about, oldest row first; those no longer in the file too."""
        return self._tasks(incident, "state = 'unknown'")

    def created_tasks(self, incident: TaskIncident) -> list[SentTask]:
        """The tasks of *incident* that D3 said it created."""
        return self._tasks(incident, "state = 'ok'")

    def _tasks(self, incident: TaskIncident, state: str) -> list[SentTask]:
        first = self.db.execute("select min(started_at) from run").fetchone()[0]
        question = f"select {_TASK} from job where {_SAME_INCIDENT} and {state} and profile is ? order by id"
        rows = self.db.execute(question, (incident.key, self._profile)).fetchall()
        return [sent_task(row, first=first or 0.0) for row in rows]

    def settle_tasks(self, news: Iterable[News]) -> None:
        """Record what is known of tasks now."""
        with self._changing():
            for job, _, outcome, code, message in news:
                if outcome:
                    self.db.execute(
                        "update job set state = ?, code = ?, message = ?, maybe = 0 where id = ? and state = 'unknown'",
                        (outcome, code, message, job),
                    )
                else:
                    self._tell_why("job", job, message)

    def settle_items(self, news: Iterable[News], *, was: str = "unknown") -> None:
        """Record what is known of items that were in the state *was*, and what follows for their rows.

        An item that failed keeps the word that an attempt of ours may have reached D3: it may still come true.
        """
        jobs = set()
        with self._changing():
            for job, item, outcome, code, message in news:
                jobs.add(job)
                if outcome:
                    self.db.execute(
                        "update item set state = ?, code = ?, message = ?, maybe = ? where id = ? and state = ?",
                        (outcome, code, message, outcome == "failed", item, was),
                    )
                elif was == "unknown" and item is not None:
                    self._tell_why("item", item, message)
            for job in jobs:
                self._sum_up(job)

    def _tell_why(self, table: str, place: int, why: str) -> None:
        said = self.db.execute(f"select message from {table} where id = ?", (place,)).fetchone()[0] or ""
        asked = f"update {table} set message = ? where id = ? and state = 'unknown'"
        self.db.execute(asked, (with_why(said, why), place))

    def _sum_up(self, job: int) -> None:
        outcome, code, message = outcome_from_items(self.db, job, looked_up=LOOKED_UP)
        self.db.execute("update job set state = ?, code = ?, message = ? where id = ?", (outcome, code, message, job))

    @contextmanager
    def _changing(self) -> Iterator[None]:
        try:
            self.db.execute("begin immediate")
            self._store.guard()
            yield
            self.db.execute("commit")
        except sqlite3.Error as error:
            raise JournalError(f"The journal cannot be written: {error}.", code="journal") from error
        finally:
            if self.db.in_transaction:
                self.db.execute("rollback")


def sent_task(row: Sequence[Any], *, first: float) -> SentTask:
    """What a row sent, from its id, params, the mark it may have been sent with, `sent_at`, attempts.

    *first* is when the journal's first run began: an attempt before the last may be as old.
    """
    job, told, mark, sent_at, attempts = row
    params = json.loads(told)
    last = sent_at or 0.0
    return SentTask(
        job,
        name=params["Task Name"],
        description=params["Task Description"],
        assignee=params["Assignee"],
        due=params["Due Date"],
        since=last if attempts <= 1 else min(last, first),
        last=last,
        mark=mark if mark is not None and mark_in(params, mark) else None,
    )


def with_why(said: str, why: str) -> str:
    """The message *said*, with *why* it is still unknown after a look into D3."""
    return said.partition(_LOOKED)[0].rstrip(".") + _LOOKED + why
