"""Unknown rows of a journal: what they sent, the links to look up, and what a look into D3 settles."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from d3async.d3.task_search import SentTask, mark_in, mark_of, with_mark, without_mark
from d3async.policy.outcome import ItemOutcome, row_from_items

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from d3async.journal.protocols import Session, Statements

_TABLE = """create temp table d3async_pair(
    id integer primary key, key text, username text, site text, source text, item bigint, job bigint, line integer,
    name text)"""
_KEPT = """
select row_number() over (order by r.lane_key, r.id, i.pos), r.lane_key, r.username, r.site, r.label, i.id, r.id,
    r.line, i.name
from (select id, job, pos, name from {item} where {here} and state = :state) i cross join {rows} and r.id = i.job"""
_STAGED = """
select row_number() over (order by i.lane_key, i.row, n.pos), i.lane_key, i.username, i.site, i.label, null, i.row,
    i.line, n.name
from incoming_item n join incoming i on i.row = n.row where i.state = 'pending' and i.profile is :profile"""
_SOURCES = """
select key, min(username), min(site), min(source) from d3async_pair where key > :after
group by key order by key limit :most"""
_OF = """
select id, item, job, line, name from d3async_pair where key = :key and id > :after order by id limit :most"""
_CHUNK = 1000


class SourceIncident(NamedTuple):
    """An incident whose links are wanted. *username* None is the account's own; *key* tells sources apart."""

    key: str
    username: str | None
    site: str
    number: str


class Link(NamedTuple):
    """One link. *item* and *job* are ids in the journal, *item* None for rows that are only staged."""

    item: int | None
    job: int
    line: int | None
    name: str


class LinksToLookUp:
    """The links to look up, source by source; one such set at a time in a journal. `close` forgets them."""

    def __init__(self, session: Session, select: str, **values: object) -> None:
        self._session = session
        self.close()
        session.run(_TABLE)
        session.run(f"insert into d3async_pair {select}", **values)
        session.run("create index d3async_pair_key on d3async_pair(key, id)")

    @classmethod
    def unknown(cls, session: Session, profile: str | None = None) -> LinksToLookUp:
        """Every unknown link of rows for the D3 of *profile*, of rows no longer in the file too."""
        return cls(session, f"{_KEPT} and {{at_profile}}", state="unknown", profile=profile)

    @classmethod
    def removed(cls, session: Session, profile: str | None = None) -> LinksToLookUp:
        """Every link of the rows for the D3 of *profile* that the present owner sent and that D3 says is removed."""
        return cls(session, f"{_KEPT} and j.epoch = :epoch and {{at_profile}}", state="ok", profile=profile)

    @classmethod
    def staged(cls, session: Session, profile: str | None = None) -> LinksToLookUp:
        """Every link of the valid rows of *profile* in a `Stage`."""
        return cls(session, _STAGED, profile=profile)

    def batches(self, most: int) -> Iterator[Sequence[SourceIncident]]:
        """At most *most* sources at a time that are asked for by the same account at the same site."""
        after = ""
        while found := self._session.all(_SOURCES, after=after, most=most):
            sources = [SourceIncident(key, *map(self._readable, words)) for key, *words in found]
            batch = [source for source in sources if source[1:3] == sources[0][1:3]]
            after = batch[-1].key
            yield batch

    def of(self, source: SourceIncident) -> Iterator[Sequence[Link]]:
        """The links of *source*, some at a time."""
        after = 0
        while rows := self._session.all(_OF, key=source.key, after=after, most=_CHUNK):
            after = rows[-1][0]
            yield [Link(item, job, line, self._readable(name)) for _, item, job, line, name in rows]

    def _readable(self, text: str | None) -> Any:
        return text and self._session.unescape(text)

    def close(self) -> None:
        """Forget them."""
        self._session.run("drop table if exists d3async_pair")


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


class LookupResult(NamedTuple):
    """What a look into D3 says of one task, or of one item of a row. *outcome* "" leaves it, *message* says why."""

    job: int
    item: int | None
    outcome: str
    code: str
    message: str


class TaskIncident(NamedTuple):
    """An incident with unknown tasks. *username* None is the account's own."""

    key: str
    username: str | None
    site: str
    number: str


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

    def settle_tasks(self, news: Iterable[LookupResult]) -> None:
        """Record what is known of tasks now."""
        with self._session.changing():
            for job, _, outcome, code, message in news:
                if outcome:
                    words = self._session.escape(message)
                    self._session.run(_SET_TASK, state=outcome, code=code, message=words, job=job)
                else:
                    self._add_why(_UNKNOWN_TASK, message, job=job)

    def settle_items(self, news: Iterable[LookupResult], *, was: str = "unknown") -> None:
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


_TO_MARK = """
from {rows} and r.command = 'CreateTask' and (:mark_on or {mark} is not null)
and {to_send} and not coalesce(j.maybe, false) and coalesce(j.state, 'pending') in ('pending', 'failed')"""
_ANY = f"select 1 {_TO_MARK} limit 1"
_PAGE = f"""
select r.id, r.params, r.identity, r.occurrence, {{mark}} {_TO_MARK} and r.id > :after order by r.id limit :most"""
_SET = "update {row} set params = :params, mark = :mark where {here} and id = :job"
_MOST = 1000


def mark_tasks(session: Statements, *, on: bool) -> None:
    """Put the mark of each CreateTask row that is to be sent into what it sends, or take it out again when not *on*.

    To be called after the rows to be sent are chosen, in the same transaction. Rows that may have been created keep
    what was sent. A row's content, by which changes are noticed, stays without the mark.
    """
    # most runs have nothing to do here, and a page looks through all rows
    if not session.all(_ANY, mark_on=on):
        return
    after = 0
    while found := session.all(_PAGE, mark_on=on, after=after, most=_MOST):
        after = found[-1][0]
        session.run_many(_SET, list(_changes(found, session.salt, on=on)))


def _changes(found: list[tuple[Any, ...]], salt: str, *, on: bool) -> Iterator[dict[str, object]]:
    for job, params, identity, occurrence, known in found:
        mark = known or mark_of(salt, identity, occurrence)
        text = with_mark(params, mark) if on else without_mark(params, mark)
        if text != params or known != (mark if on else None):
            yield {"job": job, "params": text, "mark": mark if on else None}
