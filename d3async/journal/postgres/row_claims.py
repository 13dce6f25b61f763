"""Claims, releases and outcomes of calls that carry one row, many in one statement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from d3async.commands import all_commands
from d3async.errors import ConservationError, FencedError
from d3async.journal.base import RowOutcome
from d3async.journal.postgres.texts import kept, message_line
from d3async.journal.postgres.wishes import Claim, Release, Settle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import AsyncConnection

    from d3async.journal.postgres.wishes import Wish

_CLAIM = b"""
update d3async_job j set prior = j.state, state = 'sent', epoch = w.epoch, round = w.round,
    attempts = j.attempts + 1, sent_at = w.at
from unnest(%s::int[], %s::int[], %s::int[], %s::int[], %s::int[], %s::float8[], %s::bool[])
    w(n, run, id, epoch, round, at, again)
where j.run = w.run and j.id = w.id and j.todo and (j.state <> 'sent' or (j.epoch = w.epoch and w.again))
returning w.n"""
# the late word of an owner that was fenced is knowledge, as long as nobody has touched the row since
_MINE = (
    "j.run = w.run and j.id = w.id and j.epoch = w.epoch"
    " and (j.state = 'sent' or (j.state = 'unknown' and j.code = 'interrupted' and not j.todo))"
)
_RELEASE = f"""
update d3async_job j set state = j.prior, attempts = j.attempts - w.taken,
    sent_at = case when j.attempts = w.taken then null else j.sent_at end,
    maybe = j.maybe and j.state = 'sent', code = case when j.state = 'sent' then j.code end,
    message = case when j.state = 'sent' then j.message end,
    todo = j.todo or (j.lane is not null and j.round = (select r.round from d3async_run r where r.id = j.run))
from unnest(%s::int[], %s::int[], %s::int[], %s::int[]) w(run, id, epoch, taken)
where {_MINE} and (j.state = 'sent' or j.prior = 'pending')""".encode()
_SETTLE = f"""
with w as (
    select * from unnest(%s::int[], %s::int[], %s::int[], %s::int[], %s::text[], %s::text[], %s::text[], %s::int[],
        %s::float8[], %s::text[]) w(n, run, id, epoch, state, code, message, http, at, body)
), answers as (
    insert into d3async_answer(run, id, body) select run, id, body from w where body is not null
    on conflict (run, id) do update set body = excluded.body
)
update d3async_job j set state = w.state, code = w.code, message = w.message, http = w.http, done_at = w.at,
    answer = case when w.body is not null then w.id end, todo = false, maybe = w.state = 'unknown'
from w where {_MINE} returning w.n""".encode()


async def claim(db: AsyncConnection[Any], wishes: Sequence[Wish]) -> list[object]:
    """Mark the rows of *wishes* as sent, each if nobody else has; None or a `FencedError` for each wish."""
    rows = [
        (n, wish.owner.run, wish.work.call.job, wish.owner.epoch, wish.owner.round, wish.work.at,
         all_commands()[wish.work.call.command].repeatable)
        for n, wish in enumerate(wishes) if isinstance(wish.work, Claim)
    ]  # fmt: skip
    claimed = await _numbers(db, _CLAIM, rows)
    return [None if n in claimed else lost(wish) for n, wish in enumerate(wishes)]


async def release(db: AsyncConnection[Any], wishes: Sequence[Wish]) -> list[object]:
    """Undo the latest claims; those of somebody else stand."""
    rows = [
        (wish.owner.run, wish.work.call.job, wish.owner.epoch, 0 if wish.work.sent else 1)
        for wish in wishes if isinstance(wish.work, Release)
    ]  # fmt: skip
    await db.execute(_RELEASE, _columns(rows))
    return [None] * len(wishes)


async def settle(db: AsyncConnection[Any], wishes: Sequence[Wish]) -> list[object]:
    """Record what became of rows: the rows that are finished by each wish, or an error."""
    rows, outcomes = [], []
    for n, wish in enumerate(wishes):
        if not isinstance(wish.work, Settle):
            continue
        settlement, owner = wish.work.settlement, wish.owner
        verdict, call = settlement.verdict, settlement.call
        message = message_line(verdict.message, verdict.anomalies)
        body = None if settlement.answer is None else kept(settlement.answer)
        rows.append(
            (n, owner.run, call.job, owner.epoch, verdict.outcome, verdict.code, kept(message), verdict.http,
             settlement.at, body)
        )  # fmt: skip
        outcomes.append(RowOutcome(call.row or 0, verdict.outcome, verdict.code, message))
    settled = await _numbers(db, _SETTLE, rows)
    return [[outcome] if n in settled else _never_sent(wishes[n]) for n, outcome in enumerate(outcomes)]


def lost(wish: Wish) -> FencedError:
    """What a claim is told that somebody else was faster with."""
    label = wish.work.call.label if isinstance(wish.work, Claim | Release | Settle) else ""
    return FencedError(f"Row about {label} was claimed by somebody else.", code="fenced")


def _never_sent(wish: Wish) -> ConservationError:
    label = wish.work.call.label if isinstance(wish.work, Settle) else ""
    return ConservationError(f"An answer came for the row about {label}, which was not sent.")


async def _numbers(db: AsyncConnection[Any], statement: bytes, rows: Sequence[tuple[Any, ...]]) -> set[int]:
    found = await (await db.execute(statement, _columns(rows))).fetchall()
    return {n for (n,) in found}


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
