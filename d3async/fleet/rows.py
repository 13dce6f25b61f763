"""What a worker asks the fleet's journal about: a tenant's next chunk, who waits, what is cancelled, given up, over."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from d3async.fleet.tries import Place
from d3async.journal.postgres import owners, runs
from d3async.journal.postgres.untouched import HAS_WORK, ROWS
from d3async.journal.states import outcome_of
from d3async.sansio.exit_code import exit_code
from d3async.sansio.retry import Stop

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from psycopg import AsyncConnection

# `case`, since the planner is free to turn `and` round: a chunk that is done is not looked into
_WORK = f"case when t.code is distinct from 'done' then {HAS_WORK} end"
_NEXT = f"""
select r.id, r.name, r.tenant, r.meta, o.facts, c.round, c.chunk
from d3async_run r
join d3async_round o on o.run = r.id and o.round = r.round
join d3async_chunk c on c.run = r.id and c.round = r.round
left join d3async_queue.d3async_try t on t.run = c.run and t.round = c.round and t.chunk = c.chunk
where r.tenant = %s and r.cancelled_at is null and not c.stopped and {_WORK}
order by r.id, c.chunk limit 1"""  # noqa: S608 - our own words
_WAITING = f"""
select distinct r.tenant from d3async_run r
join d3async_chunk c on c.run = r.id and c.round = r.round
left join d3async_queue.d3async_try t on t.run = c.run and t.round = c.round and t.chunk = c.chunk
where r.cancelled_at is null and not c.stopped and {_WORK}"""  # noqa: S608 - our own words
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
from d3async_run r join d3async_round o on o.run = r.id and o.round = r.round where r.id = %s"""  # noqa: S608 - our own words
_WORKED_ON = "select from d3async_chunk where run = %s and who is not null limit 1"
_SO_FAR = """
select state, count(*) from d3async_job
where run = %(run)s and round = %(round)s and not todo and state <> 'sent' and done_at is not null group by state
union all select '', coalesce(sum(rows), 0) from d3async_chunk where run = %(run)s and round = %(round)s"""
_COUNTED = f"""
select state, count(*), sum(attempts) from d3async_job where run = %(run)s and not gone group by state
union all select 'pending', rows, 0 from {ROWS} where run = %(run)s"""  # noqa: S608 - our own words
_THROTTLED = "select count(*) from d3async_event where run = %s and round = %s and kind = 'throttled'"
_STANDS = """
select o.facts from d3async_run r join d3async_round o on o.run = r.id and o.round = r.round
where r.id = %s and r.round = %s for update"""
_STOPPED = "update d3async_round set facts = %s where run = %s and round = %s"
_UNFINISHED = """
select r.id, r.tenant from d3async_run r join d3async_round o on o.run = r.id and o.round = r.round
where o.finished_at is null"""


@dataclass(frozen=True, slots=True)
class Next:
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
    def place(self) -> Place:
        """Where it is."""
        return Place(self.run, self.round, self.chunk)


class SoFar(NamedTuple):
    """What a round's rows have become by now, by outcome, and how many *rows* it is to send in all."""

    counts: Counter[str]
    rows: int


async def next_chunk(connection: AsyncConnection[Any], tenant: str) -> Next | None:
    """The first chunk of *tenant* with work, of its oldest run; None when there is none."""
    found = await (await connection.execute(_NEXT.encode(), (tenant,))).fetchone()
    if found is None:
        return None
    run, name, tenant, meta, facts, number, chunk = found
    base_url, orders = str(json.loads(meta).get("base_url", "")), json.loads(facts)
    links_per_call, halts = int(orders.get("links_per_call", 50)), tuple(orders.get("halts", ()))
    return Next(run, number, chunk, name, tenant, base_url, links_per_call, halts)


async def so_far(connection: AsyncConnection[Any], at: Next) -> SoFar:
    """How the present round of the run of *at* goes, all its chunks together; one pass over the rows of the run.

    A run's chunks are worked on one after the other, so whoever opens one can count on from here. Rows that a lost
    worker had in flight are not counted, as those are not of a run on one machine that was killed.
    """
    found = await (await connection.execute(_SO_FAR, {"run": at.run, "round": at.round})).fetchall()
    counts = Counter({state: int(count) for state, count in found})
    return SoFar(counts, counts.pop("", 0))


async def waiting(connection: AsyncConnection[Any]) -> set[str]:
    """The tenants that have chunks with work."""
    return {tenant for (tenant,) in await (await connection.execute(_WAITING.encode())).fetchall()}


async def cancelled(connection: AsyncConnection[Any], wanted: Collection[int]) -> set[int]:
    """Which of the runs *wanted* are cancelled."""
    return {run for (run,) in await (await connection.execute(_CANCELLED, (list(wanted),))).fetchall()}


async def give_up(connection: AsyncConnection[Any], at: Next, code: str, message: str, *, who: str, now: float) -> None:
    """What is left of a chunk stays unsent, with *code* and *message*; whoever had it open is fenced."""
    async with connection.transaction():
        owner, _ = await owners.open_as(connection, at.run, at.chunk, at.round, who=who, now=now)
        told = {"run": at.run, "lo": owner.lo, "hi": owner.hi, "code": code, "message": message}
        for statement in (_GIVE_UP_ITEMS, _GIVE_UP):
            await connection.execute(statement, told)
        await owners.close_as(connection, owner, now=now)


async def stop(connection: AsyncConnection[Any], at: Next, reason: Stop, *, now: float) -> None:
    """Start nothing more of the run, for *reason*, which is written down; a run submitted again since goes on."""
    async with connection.transaction():
        found = await (await connection.execute(_STANDS, (at.run, at.round))).fetchone()
        if found is None:
            return
        facts = {**json.loads(found[0]), "stop": {"code": reason.code, "message": reason.message}}
        await connection.execute(_STOPPED, (json.dumps(facts), at.run, at.round))
        await runs.cancel(connection, at.run, now=now)


async def at_rest(connection: AsyncConnection[Any], run: int) -> bool:
    """Whether nobody has a chunk of *run* open."""
    return await (await connection.execute(_WORKED_ON, (run,))).fetchone() is None


async def sweep(connection: AsyncConnection[Any], *, now: float) -> set[str]:
    """`waiting`; runs of other tenants that are over, and whose worker could not say so any more, are finished."""
    found = await waiting(connection)
    for run, tenant in await (await connection.execute(_UNFINISHED)).fetchall():
        if tenant not in found:
            await finish_if_over(connection, run, now=now)
    return found


async def finish_if_over(connection: AsyncConnection[Any], run: int, *, now: float) -> bool:
    """Write down how *run* ended, if it is over: told by its rows, never by the queue. Whether it was done now."""
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
    return await runs.finish(connection, run, number, now=now, exit_code=code, facts=facts)


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
