"""Rows nobody knows about: what they sent, and what is known of them after a look into D3."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

from d3async.errors import JournalError
from d3async.journal.adopt import settle_leftovers
from d3async.journal.pairs import LinksToLookUp
from d3async.journal.sqlite import FILE, open_folder
from d3async.sansio.marks import mark_in, mark_of
from d3async.sansio.outcome import ItemOutcome, row_from_items
from d3async.sansio.task_search import SentTask

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from d3async.journal.session import Session
    from d3async.journal.sqlite import RunFolder

_LOOKED_UP = "removed", "Read back from D3: no longer linked."
"""Code and message of a row of links all of which are gone."""
_LOOKED = "; looked up in D3: "
_KEY = "lower(trim(r.label))"
_TASKS = f"{{rows}} and r.command = 'CreateTask' and {{at_profile}} and {_KEY}"
_COUNTS = """
select r.command, count(*) from {rows} and r.row is not null and j.state = 'unknown' and {at_profile}
group by r.command"""
_INCIDENT = f"""
select {_KEY}, r.username, r.site, r.label from {_TASKS} > :after and j.state = 'unknown' order by 1, r.id limit 1"""
_SENT = f"""
select r.id, r.params, {{mark}}, r.identity, r.occurrence, j.sent_at, j.attempts from {_TASKS} = :key
and j.state = :state order by r.id"""
_ITEMS = "select name, state, code, message, todo from {item} where {here} and job = :job order by pos, id"
_SET_TASK = """
update {job} set state = :state, code = :code, message = :message, maybe = false
where {here} and id = :job and state = 'unknown'"""
# what is still to be sent of this run need not be where it is done
_SET_ITEM = """
update {item} set state = :to, code = :code, message = :message, maybe = :to = 'failed', todo = todo and :to <> 'ok'
where {here} and job = :job and id = :item and state = :was"""
_SET_ROW = """
update {job} set state = :state, code = :code, message = :message, todo = todo and :todo where {here} and id = :job"""
_UNKNOWN_TASK = "{job}", "where {here} and id = :job and state = 'unknown'"
_UNKNOWN_ITEM = "{item}", "where {here} and job = :job and id = :item and state = 'unknown'"


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


class UnknownRows:
    """What is unknown in a journal of rows for the D3 of *profile*, and the changes that settle it.

    Changes raise `FencedError` or `FolderHeldError` once another process owns the journal, `JournalError` when they
    can't be stored.
    """

    def __init__(self, session: Session, profile: str | None = None) -> None:
        self._session = session
        self._profile = profile

    def counts(self) -> tuple[int, int, int]:
        """Unknown rows of the current file: (tasks, rows of links, rows of other commands)."""
        found = dict(self._session.all(_COUNTS, profile=self._profile))
        tasks, links = found.pop("CreateTask", 0), found.pop("RemoveLinkedIncidents", 0)
        return tasks, links, sum(found.values())

    def links(self) -> LinksToLookUp:
        """Every unknown link, of rows no longer in the file too; one such set at a time."""
        return LinksToLookUp.unknown(self._session, self._profile)

    def task_incidents(self) -> Iterator[TaskIncident]:
        """Incidents with unknown tasks, read as they are wanted."""
        after, readable = "", self._session.unescape
        while found := self._session.all(_INCIDENT, after=after, profile=self._profile):
            after, username, site, label = found[0]
            yield TaskIncident(after, username and readable(username), readable(site), readable(label))

    def unknown_tasks(self, incident: TaskIncident) -> list[SentTask]:
        """The unknown tasks of *incident*, oldest row first; those no longer in the file too."""
        return self._tasks(incident, "unknown")

    def created_tasks(self, incident: TaskIncident) -> list[SentTask]:
        """The tasks of *incident* that D3 said it created."""
        return self._tasks(incident, "ok")

    def _tasks(self, incident: TaskIncident, state: str) -> list[SentTask]:
        first = self._session.all("select min(started_at) from {round} where {here}")[0][0] or 0.0
        salt = self._session.salt
        return [
            sent_task((job, params, mark or mark_of(salt, identity, occurrence), sent_at, attempts), first=first)
            for job, params, mark, identity, occurrence, sent_at, attempts in self._session.all(
                _SENT, key=incident.key, state=state, profile=self._profile
            )
        ]

    def settle_tasks(self, news: Iterable[News]) -> None:
        """Record what is known of tasks now."""
        with self._session.changing():
            for job, _, outcome, code, message in news:
                if outcome:
                    words = self._session.escape(message)
                    self._session.run(_SET_TASK, state=outcome, code=code, message=words, job=job)
                else:
                    self._add_why(_UNKNOWN_TASK, message, job=job)

    def settle_items(self, news: Iterable[News], *, was: str = "unknown") -> None:
        """Record what is known of items that were in the state *was*, and what follows for their rows.

        An item that failed keeps the word that an attempt of ours may have reached D3: it may still come true.
        """
        jobs = set()
        with self._session.changing():
            for job, item, outcome, code, message in news:
                jobs.add(job)
                if outcome:
                    words = self._session.escape(message)
                    self._session.run(_SET_ITEM, job=job, item=item, was=was, to=outcome, code=code, message=words)
                elif was == "unknown" and item is not None:
                    self._add_why(_UNKNOWN_ITEM, message, job=job, item=item)
            for job in sorted(jobs):
                settle_row(self._session, job, looked_up=_LOOKED_UP)

    def _add_why(self, unknown: tuple[str, str], why: str, **place: int) -> None:
        """Say in the message of an unknown task or item why it is unknown after a look into D3."""
        table, where = unknown
        for (message,) in self._session.all(f"select message from {table} {where}", **place):
            words = self._session.escape(with_why(self._session.unescape(message or ""), why))
            self._session.run(f"update {table} set message = :message {where}", message=words, **place)


def settle_row(session: Session, job: int, *, looked_up: tuple[str, str]) -> str:
    """Give row *job* the outcome that follows from its items, and hand its state back: see `row_from_items`."""
    counts: dict[str, int] = {}
    trouble, waiting = [], False
    for name, state, code, message, todo in session.all(_ITEMS, job=job):
        counts[state] = counts.get(state, 0) + 1
        waiting = waiting or bool(todo)
        if state in {"failed", "unknown"}:
            trouble.append(ItemOutcome(name, state, code or "", message or ""))
    state, code, message = row_from_items(counts, trouble, looked_up=looked_up)
    session.run(_SET_ROW, job=job, state=state, code=code, message=message, todo=waiting)
    return state


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
