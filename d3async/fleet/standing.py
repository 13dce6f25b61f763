"""How a fleet stands: its runs, who works on what, which workers there are; one pass over the rows."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from d3async.journal.postgres.untouched import ROWS
from d3async.journal.states import outcome_of
from d3async.sansio.outcome import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg import Connection

_WINDOW = 30.0
_RUNS = """
select r.id, r.name, r.tenant, r.meta, r.cancelled_at, o.started_at, o.finished_at, o.exit_code, o.facts
from d3async_run r left join d3async_round o on o.run = r.id and o.round = r.round
where %(name)s::text is null or r.name = %(name)s order by r.id"""
_COUNTS = f"""
select j.run, j.state, count(*), count(*) filter (where j.todo and j.state <> 'sent'),
    count(*) filter (where j.done_at > %(since)s)
from d3async_job j where not j.gone and (%(run)s::integer is null or j.run = %(run)s) group by j.run, j.state
union all select run, 'pending', rows, rows, 0 from {ROWS} where %(run)s::integer is null or run = %(run)s"""  # noqa: S608 - our own words
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
class Working:
    """A chunk that is being worked on. *since* is seconds since 1970."""

    chunk: int
    who: str
    since: float | None


@dataclass(frozen=True, slots=True)
class Trouble:
    """A chunk that was taken in vain, *tries* times in a row, and why."""

    chunk: int
    tries: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A worker, how many *places* it has for the *tenants* it serves, and how long ago it gave a sign of life, in s."""

    who: str
    version: str
    places: int
    tenants: Sequence[str]
    silent: float


@dataclass(slots=True, kw_only=True)
class RunStanding:
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
    working: list[Working] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Rows of the file."""
        return sum(self.outcomes.values())

    @property
    def open(self) -> bool:
        """Whether rows of it are still to be sent by somebody."""
        return self.to_send > 0 and self.cancelled_at is None


@dataclass(frozen=True, slots=True)
class FleetStanding:
    """Everything at one moment."""

    runs: Sequence[RunStanding]
    workers: Sequence[WorkerSeen]

    def unserved(self, run: RunStanding) -> bool:
        """Whether *run* waits and no worker knows its tenant."""
        return run.open and not any(run.tenant in worker.tenants for worker in self.workers)


def standing(connection: Connection[Any], *, now: float, name: str | None = None) -> FleetStanding:
    """How the fleet stands at *now* (seconds since 1970), or the run *name* of it alone."""
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        runs = {row[0]: _run(row) for row in connection.execute(_RUNS, {"name": name}).fetchall()}
        only = next(iter(runs), -1) if name is not None else None
        counted = connection.execute(_COUNTS.encode(), {"since": now - _WINDOW, "run": only}).fetchall()
        working = _by_run(connection.execute(_WORKING).fetchall())
        tried = _by_run(connection.execute(_TRIED).fetchall())
        workers = [WorkerSeen(*row) for row in connection.execute(_WORKERS).fetchall()]
    for run, state, count, to_send, lately in counted:
        # a run that is being forgotten is known no more while its rows go
        if run in runs:
            _count(runs[run], state, count, to_send, lately / _window(runs[run], now))
    for run in runs.values():
        run.working = [Working(*row) for row in working[run.id]]
        run.troubles = [Trouble(*row) for row in tried[run.id]]
    return FleetStanding(list(runs.values()), workers)


def _run(row: Sequence[Any]) -> RunStanding:
    run, name, tenant, meta, cancelled_at, started_at, finished_at, exit_code, facts = row
    return RunStanding(
        id=run, name=name, tenant=tenant, meta=json.loads(meta), facts=json.loads(facts or "{}"),
        cancelled_at=cancelled_at, started_at=started_at, finished_at=finished_at, exit_code=exit_code,
    )  # fmt: skip


def _window(run: RunStanding, now: float) -> float:
    """The seconds looked at for the rate: no more than the run lasts."""
    return min(_WINDOW, max(now - (run.started_at or now), 1.0))


def _count(run: RunStanding, state: str, count: int, to_send: int, rate: float) -> None:
    run.outcomes[outcome_of(state)] += count
    run.in_flight += count if state == "sent" else 0
    run.to_send += to_send
    run.rate += rate


def _by_run(rows: Sequence[Sequence[Any]]) -> Mapping[int, list[Sequence[Any]]]:
    found: defaultdict[int, list[Sequence[Any]]] = defaultdict(list)
    for run, *rest in rows:
        found[run].append(rest)
    return found
