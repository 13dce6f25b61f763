"""The runs of a fleet as a whole: which there are, how they stand, what is left, stop, end, forget.

Connections are in autocommit: what belongs together is one transaction all the same.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from d3async.errors import JournalError
from d3async.journal.postgres.untouched import ROWS
from d3async.journal.states import outcome_of
from d3async.sansio.outcome import OUTCOMES, check_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

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
    """A chunk that has rows left to send. *who* has it open since *since* (seconds since 1970), None: nobody."""

    run: int
    chunk: int
    round: int
    tenant: str
    left: int
    who: str | None
    since: float | None


@dataclass(frozen=True, slots=True)
class Overview:
    """How one run stands: rows of its file by outcome, rows in flight, rows the present round still has to send.

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
    """Write down how the round ended, once: False when somebody has, or when rows are to be sent or in flight.

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
