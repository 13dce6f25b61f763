"""Runs of a fleet: a tenant's next chunk, how runs are, what is left; cancel, finish, forget."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from d3async.errors import JournalError
from d3async.journal.model import outcome_of
from d3async.journal.postgres import chunk_owners
from d3async.journal.postgres.chunk_owners import HAS_WORK, ROWS, ChunkId
from d3async.policy.halt_and_exit_codes import Stop, exit_code
from d3async.policy.outcome import OUTCOMES, check_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from psycopg import AsyncConnection

_SLICE = 20_000
"""Rows that are forgotten in one transaction."""
_RUN = """
select r.id, r.name, r.tenant, r.round, r.serial, r.cancelled_at is not null, r.meta, l.facts
from d3async_run r left join d3async_round l on l.run = r.id and l.round = r.round"""
_OVERVIEW = b"""
select r.id, r.name, r.tenant, r.round, l.started_at, l.finished_at, r.cancelled_at,
    (select count(*) from d3async_chunk c where c.run = r.id and c.who is not null)
from d3async_run r left join d3async_round l on l.run = r.id and l.round = r.round
where %(names)s::text[] is null or r.name = any(%(names)s) order by r.id"""
_COUNTS = f"""
select run, state, count(*), count(*) filter (where todo and state <> 'sent') from d3async_job where not gone{{0}}
group by run, state
union all select run, 'pending', rows, rows from {ROWS} where true{{0}}"""
_TO_SEND = f"""
select count(*) + coalesce((select rows from {ROWS} where run = %(run)s), 0)
from d3async_job where run = %(run)s and todo and state <> 'sent'"""
_CHUNKS = b"""
select c.run, c.chunk, c.round, r.tenant, n.left, c.who, c.since
from d3async_chunk c join d3async_run r on r.id = c.run
cross join lateral (
    select case when c.untouched then c.rows else (
        select count(*) from d3async_job j where j.run = c.run and j.lane between c.lo and c.hi and j.todo
    ) end as left
) n
where n.left > 0 and r.cancelled_at is null and (%(run)s::int is null or c.run = %(run)s) order by c.run, c.chunk"""
_FINISH = b"""
update d3async_round l set finished_at = %s, exit_code = %s, facts = %s from d3async_run r
where l.run = %s and l.round = %s and l.finished_at is null and r.id = l.run
    and not exists (select from d3async_job j where j.run = l.run and j.todo
        and (r.cancelled_at is null or j.state = 'sent'))
    and (r.cancelled_at is not null or not exists (select from d3async_chunk c where c.run = l.run and c.untouched))"""
_BY_ROW = {
    "d3async_similar": "id",
    "d3async_item": "job",
    "d3async_answer": "id",
    "d3async_job": "id",
    "d3async_row": "id",
}


@dataclass(frozen=True, slots=True)
class FleetRun:
    """A run in the database. *meta* as in a run folder (base_url, input, rows …), *facts* of the last round."""

    id: int
    name: str
    tenant: str
    round: int
    serial: bool
    cancelled: bool
    meta: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk that has rows left to send. *who* has it open since *since* (seconds since 1970), None: not open."""

    run: int
    chunk: int
    round: int
    tenant: str
    left: int
    who: str | None
    since: float | None


@dataclass(frozen=True, slots=True)
class Overview:
    """The state of one run: rows of its file by outcome, rows in flight, rows the present round still has to send.

    Rows in flight are among *outcomes* as `unknown`, so that these add up to the rows.
    """

    id: int
    name: str
    tenant: str
    round: int
    outcomes: Mapping[str, int]
    in_flight: int
    to_send: int
    open_chunks: int
    started_at: float | None
    finished_at: float | None
    cancelled_at: float | None


async def find(connection: AsyncConnection[Any], name: str | int) -> FleetRun:
    """The run called *name*, or of that id. Raises `JournalError` (`no_run`)."""
    key = "r.id" if isinstance(name, int) else "r.name"
    found = await (await connection.execute(f"{_RUN} where {key} = %s".encode(), (name,))).fetchone()
    if found is None:
        raise JournalError(f"The database has no run {name}; d3async status lists them.", code="no_run")
    run, called, tenant, number, serial, cancelled, meta, facts = found
    return FleetRun(run, called, tenant, number, serial, cancelled, json.loads(meta), json.loads(facts or "{}"))


async def overview(connection: AsyncConnection[Any], names: Sequence[str] | None = None) -> list[Overview]:
    """Every run, or those of *names*, in the order in which they came."""
    given = None if names is None else list(names)
    runs = await (await connection.execute(_OVERVIEW, {"names": given})).fetchall()
    outcomes: dict[int, dict[str, int]] = defaultdict(lambda: dict.fromkeys(OUTCOMES, 0))
    flying: dict[int, int] = defaultdict(int)
    waiting: dict[int, int] = defaultdict(int)
    for run, state, count, todo in await _counted(connection, None if names is None else [run[0] for run in runs]):
        outcomes[run][outcome_of(state)] += count
        flying[run] += count if state == "sent" else 0
        waiting[run] += todo
    return [
        Overview(
            run, name, tenant, number, outcomes[run], flying[run], waiting[run], chunks, started, finished, cancelled
        )
        for run, name, tenant, number, started, finished, cancelled, chunks in runs
    ]


async def _counted(connection: AsyncConnection[Any], runs: Sequence[int] | None) -> list[tuple[Any, ...]]:
    if runs is None:
        return await (await connection.execute(_COUNTS.format("").encode())).fetchall()
    asked = _COUNTS.format(" and run = any(%(runs)s)").encode()
    return await (await connection.execute(asked, {"runs": list(runs)})).fetchall()


async def chunks_left(connection: AsyncConnection[Any], run: int | None = None) -> list[Chunk]:
    """Chunks with rows to send, of *run* or of all runs that are not cancelled: what ought to be in the queue."""
    found = await (await connection.execute(_CHUNKS, {"run": run})).fetchall()
    return [Chunk(*chunk) for chunk in found]


async def cancel(connection: AsyncConnection[Any], run: int, *, now: float) -> int:
    """Let no further row of *run* be claimed; what is in flight may end. The number of rows that stay unsent.

    Submitting the run again takes it up again.
    """
    async with connection.transaction():
        await connection.execute(
            "update d3async_run set cancelled_at = coalesce(cancelled_at, %s) where id = %s", (now, run)
        )
        await connection.execute("update d3async_chunk set stopped = true where run = %s", (run,))
    found = await (await connection.execute(_TO_SEND.encode(), {"run": run})).fetchone()
    return int(found[0]) if found else 0


async def finish(
    connection: AsyncConnection[Any],
    run: int,
    round: int,  # noqa: A002 - the word of the schema
    *,
    now: float,
    exit_code: int,
    facts: Mapping[str, Any],
) -> bool:
    """Write down how the round ended, once: False when that is done already, or when rows are to be sent or in flight.

    *facts* are added to those the round began with. Raises `ConservationError` when rows are lost or made up.
    """
    async with connection.transaction():
        known = await find(connection, run)
        told = json.dumps({**known.facts, **facts})
        done = await connection.execute(_FINISH, (now, exit_code, told, run, round))
        if not done.rowcount:
            return False
        [at] = await overview(connection, [known.name])
        check_rows(int(known.meta.get("rows", 0)), at.outcomes)
    return True


async def drop(connection: AsyncConnection[Any], run: int) -> int:
    """Forget *run* with all its rows, a slice at a time, each in a transaction of its own; how many rows it had.

    Whoever works on it is fenced by the first of them.
    """
    async with connection.transaction():
        # a run that is known has its chunks: of rows that are untouched nothing else tells
        await connection.execute("delete from d3async_run where id = %s", (run,))
        for table in ("chunk", "round"):
            await connection.execute(f"delete from d3async_{table} where run = %s".encode(), (run,))
    found = await (
        await connection.execute("select coalesce(max(id), 0), count(*) from d3async_row where run = %s", (run,))
    ).fetchone()
    last, rows = found or (0, 0)
    for lo in range(0, last + 1, _SLICE):
        for table, key in _BY_ROW.items():
            statement = f"delete from {table} where run = %s and {key} >= %s and {key} < %s"
            await connection.execute(statement.encode(), (run, lo, lo + _SLICE))
    # `similar` once more: a submission may have entered rows meanwhile
    for table in ("answer", "source", "event", "similar", "entered"):
        await connection.execute(f"delete from d3async_{table} where run = %s".encode(), (run,))
    return int(rows)


# `case`, since the planner is free to turn `and` round: a chunk that is done is not looked into
_WORK = f"case when t.code is distinct from 'done' then {HAS_WORK} end"
_NEXT = f"""
select r.id, r.name, r.tenant, r.meta, o.facts, c.round, c.chunk
from d3async_run r
join d3async_round o on o.run = r.id and o.round = r.round
join d3async_chunk c on c.run = r.id and c.round = r.round
left join d3async_queue.d3async_try t on t.run = c.run and t.round = c.round and t.chunk = c.chunk
where r.tenant = %s and r.cancelled_at is null and not c.stopped and {_WORK}
order by r.id, c.chunk limit 1"""
_WAITING = f"""
select distinct r.tenant from d3async_run r
join d3async_chunk c on c.run = r.id and c.round = r.round
left join d3async_queue.d3async_try t on t.run = c.run and t.round = c.round and t.chunk = c.chunk
where r.cancelled_at is null and not c.stopped and {_WORK}"""
_CANCELLED = "select id from d3async_run where cancelled_at is not null and id = any(%s)"
_GIVE_UP_ITEMS = """
update d3async_item t set todo = false from d3async_job j
where j.run = %(run)s and j.lane between %(lo)s and %(hi)s and j.todo and t.run = j.run and t.job = j.id and t.todo"""
_GIVE_UP = """
update d3async_job set todo = false, code = case state when 'pending' then %(code)s else code end,
    message = case state when 'pending' then %(message)s else message end
where run = %(run)s and lane between %(lo)s and %(hi)s and todo"""
_ENDING = f"""
select r.round, r.cancelled_at, o.started_at, o.finished_at, o.facts,
    exists (select from d3async_chunk c where c.run = r.id and c.round = r.round and c.who is not null),
    exists (select from d3async_chunk c
        left join d3async_queue.d3async_try t on t.run = c.run and t.round = c.round and t.chunk = c.chunk
        where c.run = r.id and c.round = r.round and {_WORK})
from d3async_run r join d3async_round o on o.run = r.id and o.round = r.round where r.id = %s"""
_WORKED_ON = "select from d3async_chunk where run = %s and who is not null limit 1"
_SO_FAR = """
select state, count(*) from d3async_job
where run = %(run)s and round = %(round)s and not todo and state <> 'sent' and done_at is not null group by state
union all select '', coalesce(sum(rows), 0) from d3async_chunk where run = %(run)s and round = %(round)s"""
_COUNTED = f"""
select state, count(*), sum(attempts) from d3async_job where run = %(run)s and not gone group by state
union all select 'pending', rows, 0 from {ROWS} where run = %(run)s"""
_THROTTLED = "select count(*) from d3async_event where run = %s and round = %s and kind = 'throttled'"
_STANDS = """
select o.facts from d3async_run r join d3async_round o on o.run = r.id and o.round = r.round
where r.id = %s and r.round = %s for update"""
_STOPPED = "update d3async_round set facts = %s where run = %s and round = %s"
_UNFINISHED = """
select r.id, r.tenant from d3async_run r join d3async_round o on o.run = r.id and o.round = r.round
where o.finished_at is null"""


@dataclass(frozen=True, slots=True)
class ChunkToRun:
    """A chunk to be run: of which run, called *name*, for whom, against which D3; *halts* as they were submitted."""

    run: int
    round: int
    chunk: int
    name: str
    tenant: str
    base_url: str
    links_per_call: int
    halts: tuple[str, ...] = ()

    @property
    def place(self) -> ChunkId:
        """Where it is."""
        return ChunkId(self.run, self.round, self.chunk)


class RoundCounts(NamedTuple):
    """What a round's rows have become by now, by outcome, and how many *rows* it is to send in all."""

    counts: Counter[str]
    rows: int


async def next_chunk(connection: AsyncConnection[Any], tenant: str) -> ChunkToRun | None:
    """The first chunk of *tenant* with work, of its oldest run; None when there is none."""
    found = await (await connection.execute(_NEXT.encode(), (tenant,))).fetchone()
    if found is None:
        return None
    run, name, tenant, meta, facts, number, chunk = found
    base_url, orders = str(json.loads(meta).get("base_url", "")), json.loads(facts)
    links_per_call, halts = int(orders.get("links_per_call", 50)), tuple(orders.get("halts", ()))
    return ChunkToRun(run, number, chunk, name, tenant, base_url, links_per_call, halts)


async def so_far(connection: AsyncConnection[Any], at: ChunkToRun) -> RoundCounts:
    """How the present round of the run of *at* goes, all its chunks together; one pass over the rows of the run.

    A run's chunks are worked on one after the other, so the next worker can count on from here. Rows that a lost
    worker had in flight are not counted, as those are not of a run on one machine that was killed.
    """
    found = await (await connection.execute(_SO_FAR, {"run": at.run, "round": at.round})).fetchall()
    counts = Counter({state: int(count) for state, count in found})
    return RoundCounts(counts, counts.pop("", 0))


async def waiting(connection: AsyncConnection[Any]) -> set[str]:
    """The tenants that have chunks with work."""
    return {tenant for (tenant,) in await (await connection.execute(_WAITING.encode())).fetchall()}


async def cancelled(connection: AsyncConnection[Any], wanted: Collection[int]) -> set[int]:
    """Which of the runs *wanted* are cancelled."""
    return {run for (run,) in await (await connection.execute(_CANCELLED, (list(wanted),))).fetchall()}


async def give_up(
    connection: AsyncConnection[Any], at: ChunkToRun, code: str, message: str, *, who: str, now: float
) -> None:
    """What is left of a chunk stays unsent, with *code* and *message*; a worker that had it open is fenced."""
    async with connection.transaction():
        owner, _ = await chunk_owners.open_as(connection, at.run, at.chunk, at.round, who=who, now=now)
        told = {"run": at.run, "lo": owner.lo, "hi": owner.hi, "code": code, "message": message}
        for statement in (_GIVE_UP_ITEMS, _GIVE_UP):
            await connection.execute(statement, told)
        await chunk_owners.close_as(connection, owner, now=now)


async def stop(connection: AsyncConnection[Any], at: ChunkToRun, reason: Stop, *, now: float) -> None:
    """Start nothing more of the run, for *reason*, which is written down; a run submitted again since goes on."""
    async with connection.transaction():
        found = await (await connection.execute(_STANDS, (at.run, at.round))).fetchone()
        if found is None:
            return
        facts = {**json.loads(found[0]), "stop": {"code": reason.code, "message": reason.message}}
        await connection.execute(_STOPPED, (json.dumps(facts), at.run, at.round))
        await cancel(connection, at.run, now=now)


async def at_rest(connection: AsyncConnection[Any], run: int) -> bool:
    """Whether no worker has a chunk of *run* open."""
    return await (await connection.execute(_WORKED_ON, (run,))).fetchone() is None


async def sweep(connection: AsyncConnection[Any], *, now: float) -> set[str]:
    """`waiting`; runs of other tenants that are over, and whose worker could not say so any more, are finished."""
    found = await waiting(connection)
    for run, tenant in await (await connection.execute(_UNFINISHED)).fetchall():
        if tenant not in found:
            await finish_if_over(connection, run, now=now)
    return found


async def finish_if_over(connection: AsyncConnection[Any], run: int, *, now: float) -> bool:
    """Write down how *run* ended, if it is over, which its rows say, never the queue. Whether it was done now."""
    found = await (await connection.execute(_ENDING.encode(), (run,))).fetchone()
    if found is None:
        return False
    number, cancelled_at, started, finished, told, working, work = found
    if finished is not None or working or (work and cancelled_at is None):
        return False
    facts = json.loads(told)
    counted = await (await connection.execute(_COUNTED.encode(), {"run": run})).fetchall()
    throttled = await (await connection.execute(_THROTTLED, (run, number))).fetchone()
    outcomes = Counter[str]()
    for state, count, _ in counted:
        outcomes[outcome_of(state)] += int(count)
    code = exit_code(outcomes, _why(facts, outcomes, cancelled=cancelled_at is not None))
    facts |= _numbers(started, now, sum(requests for _, _, requests in counted))
    facts |= {"throttled": throttled[0] if throttled else 0, "exit_code": code}
    return await finish(connection, run, number, now=now, exit_code=code, facts=facts)


def _why(facts: Mapping[str, Any], outcomes: Mapping[str, int], *, cancelled: bool) -> Stop | None:
    if isinstance(facts.get("stop"), dict):
        return Stop(facts["stop"]["code"], facts["stop"]["message"])
    if outcomes.get("unsent"):
        return Stop("cancelled" if cancelled else "given_up", "")
    return None


def _numbers(started: float | None, now: float, requests: int) -> dict[str, Any]:
    elapsed = max(now - (started or now), 0.0)
    return {
        "started_at": started,
        "finished_at": now,
        "requests": requests,
        "elapsed_s": round(elapsed, 3),
        "rate": round(requests / elapsed, 2) if elapsed else 0.0,
    }
