"""One run of the fleet, or the whole fleet with its workers, at one moment."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from d3async.errors import JournalError
from d3async.journal.model import INTERRUPTED, FolderOwner, ItemRecord, RowRecord, outcome_of, states_of
from d3async.journal.postgres.chunk_owners import ROWS
from d3async.journal.postgres.connections import MARK, as_journal_error, statement_text, unescape
from d3async.journal.postgres.schema import check_now
from d3async.journal.protocols import ANSWERED, Figures, ReaderBase
from d3async.policy.outcome import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Self

    from psycopg import Connection

    from d3async.jobs.feedback_rows import Mark

_PAGE = 2000
_TEXTS = [RowRecord._fields.index(name) for name in ("raw", "message", "label")]
_RUN = """
select r.id, r.round, r.meta, r.tenant, l.facts
from d3async_run r left join d3async_round l on l.run = r.id and l.round = r.round where r.name = %s"""
_SPOKEN = """
    case {0}.state when 'pending' then 'unsent' when 'sent' then 'unknown' else coalesce({0}.state, 'unsent') end,
    case {0}.state when 'sent' then 'interrupted' else coalesce({0}.code{2}, '') end,
    case {0}.state when 'sent' then '{1}' else coalesce({0}.message{3}, '') end"""
# rows that were to be sent when the run was stopped say why
_LEFT = ", case when j.id is null or (j.state = 'pending' and j.todo and j.code is null) then %({0})s::text end"
_ITEMS = """
left join (
    select job, count(*) as items, count(*) filter (where state = 'ok') as ok,
        count(*) filter (where state = 'failed') as failed,
        count(*) filter (where state in ('unknown', 'sent')) as unknown,
        count(*) filter (where state = 'pending') as pending
    from d3async_item where run = {run} group by job
) i on i.job = r.id"""
_TALLY = ", ".join(f"case when i.items > i.pending then i.{name} end" for name in ("ok", "failed", "unknown"))
_ROWS = """
select r.row, r.line, {spoken}, j.http, coalesce(j.attempts, 0), j.sent_at, j.done_at, r.raw, {tally}, {more}
from d3async_row r left join d3async_job j on j.run = r.run and j.id = r.id {joined}
where r.run = {run} and r.row is not null
    and (%(states)s::text[] is null or coalesce(j.state, 'pending') = any(%(states)s)) order by {order}"""
_ITEM_ROWS = """
select r.row, r.line, coalesce(r.label, ''), i.name, {spoken}
from d3async_job j join d3async_row r on r.run = j.run and r.id = j.id
join d3async_item i on i.run = j.run and i.job = j.id
where j.run = {run} and not j.gone and (%(states)s::text[] is null or j.state = any(%(states)s))
order by r.row, i.pos, i.id"""
_ANSWERED = f"from d3async_job where run = {{run}} and not gone and {ANSWERED}"
POSTGRES = Figures(
    mark="%s",
    spans=f"select round, min(coalesce(sent_at, done_at)), max(done_at) {_ANSWERED} group by round",
    slowed="select round, min(at) from d3async_event where run = {run} and kind = 'throttled' group by round",
    answered="select trunc((done_at - %s) / %s)::int as at, count(*) filter (where state = 'ok'),"
    f" count(*) filter (where state <> 'ok') {_ANSWERED} and round = %s group by at",
    throttled="select trunc((at - %s) / %s)::int, count(*) from d3async_event"
    " where run = {run} and round = %s and kind = 'throttled' group by 1",
    pauses="select at - case kind when 'pause' then seconds else 0 end, seconds from d3async_event"
    " where run = {run} and round = %s and kind in ('pause', 'outage') and seconds > 0"
    " order by seconds desc, at limit %s",
    latencies="select case {0} end, count(*) from d3async_job"
    f" where run = {{{{run}}}} and not gone and sent_at is not null and {ANSWERED} group by 1",
)
_WHO = re.compile(r"pid (\d+) on (\S+)")


class FleetRunReader(ReaderBase):
    """The run *name* at one moment: whatever is asked, the answers belong together, also while workers are at it.

    A context manager with a connection of its own; *folder* is where its files go. Memory does not grow with the run:
    rows stream from the server. Raises `JournalError` when there is no such run (`no_run`), when the tables are
    missing or newer, or when the database does not answer.
    """

    figures = POSTGRES

    def __init__(self, conninfo: str, name: str, *, folder: Path | None = None) -> None:
        super().__init__(name)
        self.name = name
        self.folder = Path(name) if folder is None else folder
        self._cursors = count()
        with self._translated():
            self._db = psycopg.connect(conninfo, application_name="d3async reader", connect_timeout=10)
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        with self._translated():
            self._db.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            self._db.read_only = True
            check_now(self._db)
            found = self._db.execute(_RUN, (self.name,)).fetchone()
        if found is None:
            raise JournalError(f"The database has no run {self.name}.", code="no_run")
        self.id, self._round, meta, self.tenant, facts = found
        stop = json.loads(facts or "{}").get("stop")
        why = stop and f"The run stopped before it: {stop['message']}"
        self._stop = {"stop": stop and stop["code"], "why": why}
        self._meta: dict[str, str] = json.loads(meta)
        self._has_items = bool(self._one("select exists(select 1 from d3async_item where run = {run})"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the moment and of the connection."""
        self._db.close()

    def meta(self) -> dict[str, str]:
        """Everything the journal says about the run and its file."""
        return dict(self._meta)

    def owner(self) -> FolderOwner | None:
        """Whoever has had a chunk of it open for longest."""
        told_of = self.query(
            "select who, since from d3async_chunk where run = {run} and who is not null order by since limit 1"
        )
        for who, since in told_of:
            known = _WHO.search(who)
            return FolderOwner(int(known[1]), known[2], since) if known else FolderOwner(0, who, since)
        return None

    def counts_by_profile(self) -> dict[str | None, dict[str, int]]:
        """A run of the fleet has one tenant."""
        return {None: {**self.counts(), "invalid": 0}}

    def rows(self, outcomes: Iterable[str] | None = None, *, full: bool = False) -> Iterator[RowRecord]:
        """Rows of the current file, in its order; only those of *outcomes* if any; label and answer only if *full*."""
        sql = _ROWS.format(
            run=self.id,
            spoken=_SPOKEN.format("j", INTERRUPTED, _LEFT.format("stop"), _LEFT.format("why")),
            tally=_TALLY if self._has_items else "null, null, null",
            more="r.label, j.answer" if full else "null, null",
            joined=_ITEMS.format(run=self.id) if self._has_items else "",
            # until a file is submitted again its rows have the order in which they came
            order="r.id" if self._round <= 1 else "r.row",
        )
        for page in self._pages(sql, outcomes, merged=self._round <= 1):
            yield from _readable(map(RowRecord._make, page), page)

    def items(self, outcomes: Iterable[str] | None = None) -> Iterator[ItemRecord]:
        """Items of the current file's rows, in the rows' order; only of rows of *outcomes* if any are given."""
        sql = _ITEM_ROWS.format(run=self.id, spoken=_SPOKEN.format("i", INTERRUPTED, "", ""))
        for page in self._pages(sql, outcomes):
            for row, line, *texts in page:
                yield ItemRecord(row, line, *map(unescape, texts))

    def marks(self, outcomes: Iterable[str]) -> Iterator[Mark] | None:  # noqa: ARG002 - see `RunReader.marks`
        """Rows of a run of the fleet have no marks: there is no run folder whose run a file could continue."""
        return None

    def written(self) -> dict[str, list[str]]:
        """Nothing is noted of files that are written from a run of the fleet."""
        return {}

    def answer(self, number: int) -> str | None:
        """D3's answer as text; None where it was not kept."""
        body: str | None = self._one("select body from d3async_answer where run = {run} and id = %s", number)
        return body and unescape(body)

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of one small SQL question; `{run}` in it is the run's id, `%s` each of *values*."""
        with self._translated():
            return self._db.execute(sql.replace("{run}", str(self.id)).encode(), values).fetchall()

    def _ask(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        with self._translated():
            return self._db.execute(statement_text(statement), {"run": self.id, **values}).fetchall()

    def _unopened(self) -> int:
        return int(self._one(f"select coalesce(sum(rows), 0) from {ROWS} where run = {{run}}"))

    def _one(self, sql: str, *values: object) -> Any:
        found = self.query(sql, *values)
        return found[0][0] if found else None

    def _pages(
        self, sql: str, outcomes: Iterable[str] | None, *, merged: bool = False
    ) -> Iterator[Sequence[tuple[Any, ...]]]:
        """Rows as the server finds them; *merged* where two indexes have their order and nothing need be sorted."""
        states = None if outcomes is None else states_of(outcomes)
        with self._translated(), self._db.cursor(name=f"d3async_{next(self._cursors)}") as cursor:
            self._plan("off" if merged else "default")
            cursor.execute(sql.encode(), {"states": states, **self._stop})
            self._plan("default")
            # the server looks for the next page while this one is worked on
            with ThreadPoolExecutor(1, thread_name_prefix="d3async-reader") as ahead:
                coming = ahead.submit(cursor.fetchmany, _PAGE)
                while page := coming.result():
                    coming = ahead.submit(cursor.fetchmany, _PAGE)
                    yield page

    def _plan(self, how: str) -> None:
        for way in ("bitmapscan", "hashjoin", "nestloop", "sort"):
            self._db.execute(f"set local enable_{way} to {how}".encode())

    def _translated(self) -> AbstractContextManager[None]:
        return as_journal_error(f"{self.name} cannot be read")


def _readable(rows: Iterable[RowRecord], page: Sequence[Sequence[Any]]) -> Iterable[RowRecord]:
    """*rows* of *page* with their texts as they were given; looked for together, as hardly any has to be mended."""
    if not any(MARK in "".join(filter(None, map(itemgetter(at), page))) for at in _TEXTS):
        return rows
    return (
        row._replace(raw=unescape(row.raw), message=unescape(row.message), label=row.label and unescape(row.label))
        for row in rows
    )


_WINDOW = 30.0
_RUNS = """
select r.id, r.name, r.tenant, r.meta, r.cancelled_at, o.started_at, o.finished_at, o.exit_code, o.facts
from d3async_run r left join d3async_round o on o.run = r.id and o.round = r.round
where %(name)s::text is null or r.name = %(name)s order by r.id"""
_COUNTS = f"""
select j.run, j.state, count(*), count(*) filter (where j.todo and j.state <> 'sent'),
    count(*) filter (where j.done_at > %(since)s)
from d3async_job j where not j.gone and (%(run)s::integer is null or j.run = %(run)s) group by j.run, j.state
union all select run, 'pending', rows, rows, 0 from {ROWS} where %(run)s::integer is null or run = %(run)s"""
_WORKING = """
select c.run, c.chunk, c.who, c.since from d3async_chunk c join d3async_run r on r.id = c.run and r.round = c.round
where c.who is not null and c.closed_at is null order by c.run, c.chunk"""
_TRIED = """
select t.run, t.chunk, t.tries, t.code, t.message from d3async_queue.d3async_try t
join d3async_run r on r.id = t.run and r.round = t.round
where t.code <> 'done' and (t.code <> 'crashed' or t.tries <> 1)
order by t.run, t.chunk"""
_WORKERS = """
select w.who, w.version, w.places, w.tenants, extract(epoch from now() - p.last_heartbeat)::float8
from d3async_queue.d3async_worker w join d3async_queue.procrastinate_workers p using (id) order by w.id"""


@dataclass(frozen=True, slots=True)
class ChunkInWork:
    """A chunk that is being worked on. *since* is seconds since 1970."""

    chunk: int
    who: str
    since: float | None


@dataclass(frozen=True, slots=True)
class ChunkFailure:
    """A chunk that was taken in vain, *tries* times in a row, and why."""

    chunk: int
    tries: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker, how many *places* it has for the *tenants* it serves, and how long ago it gave a sign of life, in s."""

    who: str
    version: str
    places: int
    tenants: Sequence[str]
    silent: float


@dataclass(slots=True, kw_only=True)
class RunStatus:
    """One run. Rows in flight are among the unknown ones of *outcomes*; *rate* is rows answered a second, lately."""

    id: int
    name: str
    tenant: str
    meta: Mapping[str, str]
    facts: Mapping[str, Any]
    cancelled_at: float | None
    started_at: float | None
    finished_at: float | None
    exit_code: int | None
    outcomes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    in_flight: int = 0
    to_send: int = 0
    rate: float = 0.0
    working: list[ChunkInWork] = field(default_factory=list)
    troubles: list[ChunkFailure] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Rows of the file."""
        return sum(self.outcomes.values())

    @property
    def open(self) -> bool:
        """Whether rows of it are still to be sent."""
        return self.to_send > 0 and self.cancelled_at is None


@dataclass(frozen=True, slots=True)
class FleetSnapshot:
    """Everything at one moment."""

    runs: Sequence[RunStatus]
    workers: Sequence[WorkerStatus]

    def unserved(self, run: RunStatus) -> bool:
        """Whether *run* waits and no worker knows its tenant."""
        return run.open and not any(run.tenant in worker.tenants for worker in self.workers)


def fleet_snapshot(connection: Connection[Any], *, now: float, name: str | None = None) -> FleetSnapshot:
    """The state of the fleet at *now* (seconds since 1970), or of its run *name* alone."""
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        runs = {row[0]: _run(row) for row in connection.execute(_RUNS, {"name": name}).fetchall()}
        only = next(iter(runs), -1) if name is not None else None
        counted = connection.execute(_COUNTS.encode(), {"since": now - _WINDOW, "run": only}).fetchall()
        working = _by_run(connection.execute(_WORKING).fetchall())
        tried = _by_run(connection.execute(_TRIED).fetchall())
        workers = [WorkerStatus(*row) for row in connection.execute(_WORKERS).fetchall()]
    for run, state, rows, to_send, lately in counted:
        # a run that is being forgotten is known no more while its rows go
        if run in runs:
            _count(runs[run], state, rows, to_send, lately / _window(runs[run], now))
    for run in runs.values():
        run.working = [ChunkInWork(*row) for row in working[run.id]]
        run.troubles = [ChunkFailure(*row) for row in tried[run.id]]
    return FleetSnapshot(list(runs.values()), workers)


def _run(row: Sequence[Any]) -> RunStatus:
    run, name, tenant, meta, cancelled_at, started_at, finished_at, exit_code, facts = row
    return RunStatus(
        id=run, name=name, tenant=tenant, meta=json.loads(meta), facts=json.loads(facts or "{}"),
        cancelled_at=cancelled_at, started_at=started_at, finished_at=finished_at, exit_code=exit_code,
    )  # fmt: skip


def _window(run: RunStatus, now: float) -> float:
    """The seconds looked at for the rate: no more than the run lasts."""
    return min(_WINDOW, max(now - (run.started_at or now), 1.0))


def _count(run: RunStatus, state: str, count: int, to_send: int, rate: float) -> None:
    run.outcomes[outcome_of(state)] += count
    run.in_flight += count if state == "sent" else 0
    run.to_send += to_send
    run.rate += rate


def _by_run(rows: Sequence[Sequence[Any]]) -> Mapping[int, list[Sequence[Any]]]:
    found: defaultdict[int, list[Sequence[Any]]] = defaultdict(list)
    for run, *rest in rows:
        found[run].append(rest)
    return found
