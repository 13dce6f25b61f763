"""Claims, releases and outcomes of calls that carry items: a call is claimed as a whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from d3async.commands import all_commands
from d3async.errors import ConservationError, D3Error
from d3async.journal.base import RowOutcome
from d3async.journal.postgres.standing import COUNTED, TROUBLE, Counts, result, troubles
from d3async.journal.postgres.tasks import lost
from d3async.journal.postgres.texts import kept, message_line, told
from d3async.journal.postgres.wishes import Claim, Release, Settle
from d3async.sansio.call import fold

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from psycopg import AsyncConnection

    from d3async.journal.base import Settlement
    from d3async.journal.postgres.wishes import Owner, Wish
    from d3async.sansio.outcome import RowResult

_CALLS = """
w as (
    select * from unnest(%s::int[], %s::int[], %s::bigint[], %s::text[], %s::int[], %s::int[], %s::float8[], %s::bool[])
        w(n, run, source, fold, epoch, round, at, flag)
), found as (
    select w.n, w.epoch, w.round, w.at, w.flag, t.run, t.job, t.id, t.state from w
    join d3async_item t on t.run = w.run and t.source = w.source and t.fold = w.fold and t.todo
)"""
_CLAIMABLE = f"""
with {_CALLS}
select n from found join d3async_job j on j.run = found.run and j.id = found.job
group by n having bool_and(j.todo and (j.state <> 'sent' or (j.epoch = found.epoch and found.flag)))""".encode()
_CLAIM = f"""
with {_CALLS}, items as (
    update d3async_item t set maybe = t.maybe or t.state = 'sent', prior = t.state, state = 'sent'
    from found where t.run = found.run and t.job = found.job and t.id = found.id
)
update d3async_job j set prior = j.state, state = 'sent', epoch = f.epoch, round = f.round, attempts = j.attempts + 1,
    sent_at = f.at
from (select distinct run, job, epoch, round, at from found) f where j.run = f.run and j.id = f.job""".encode()
_RELEASE = f"""
with {_CALLS}, items as (
    update d3async_item t set state = t.prior
    from found where t.run = found.run and t.job = found.job and t.id = found.id and t.state = 'sent'
)
update d3async_job j set state = j.prior, attempts = j.attempts - f.flag::int,
    sent_at = case when j.attempts = f.flag::int then null else j.sent_at end
from (select distinct run, job, epoch, flag from found) f
where j.run = f.run and j.id = f.job and j.state = 'sent' and j.epoch = f.epoch""".encode()
_SENT = b"""
select t.job, count(*) from d3async_item t join d3async_job j on j.run = t.run and j.id = t.job
where t.run = %(run)s and t.source = %(source)s and t.fold = any(%(folds)s) and t.todo and t.state = 'sent'
    and j.state = 'sent' and j.epoch = %(epoch)s
group by t.job order by t.job"""
_SETTLE = b"""
update d3async_item t set state = w.state, code = w.code, message = w.message, maybe = w.state = 'unknown', todo = false
from unnest(%(folds)s::text[], %(states)s::text[], %(codes)s::text[], %(messages)s::text[])
    w(fold, state, code, message)
where t.run = %(run)s and t.source = %(source)s and t.fold = w.fold and t.todo and t.state = 'sent'
returning t.fold"""
_ANSWER = b"""
insert into d3async_answer(run, id, body) values (%s, -nextval('d3async_call'), %s) returning id"""
_ROWS = b"""
update d3async_job j set state = w.state, code = w.code, message = w.message, http = %(http)s, done_at = %(at)s,
    answer = %(answer)s, todo = w.todo
from unnest(%(jobs)s::int[], %(states)s::text[], %(codes)s::text[], %(messages)s::text[], %(todo)s::bool[])
    w(id, state, code, message, todo)
where j.run = %(run)s and j.id = w.id"""


async def claim(db: AsyncConnection[Any], wishes: Sequence[Wish]) -> list[object]:
    """Mark the items of *wishes*, and their rows, as sent; None or a `FencedError` for each wish."""
    rows = [
        (n, wish, wish.work.at, all_commands()[wish.work.call.command].repeatable)
        for n, wish in enumerate(wishes) if isinstance(wish.work, Claim)
    ]  # fmt: skip
    found = await (await db.execute(_CLAIMABLE, _columns(rows))).fetchall()
    claimable = {n for (n,) in found}
    if claimable:
        await db.execute(_CLAIM, _columns([row for row in rows if row[0] in claimable]))
    return [None if n in claimable else lost(wish) for n, wish in enumerate(wishes)]


async def release(db: AsyncConnection[Any], wishes: Sequence[Wish]) -> list[object]:
    """Undo the latest claims: an earlier one in doubt stays `sent`."""
    rows = [(n, wish, 0.0, not wish.work.sent) for n, wish in enumerate(wishes) if isinstance(wish.work, Release)]
    await db.execute(_RELEASE, _columns(rows))
    return [None] * len(wishes)


async def settle(db: AsyncConnection[Any], wishes: Sequence[Wish]) -> list[object]:
    """Record what became of items and what follows for their rows; one that fails is undone alone."""
    results: list[object] = []
    for wish in wishes:
        if not isinstance(wish.work, Settle):
            continue
        try:
            async with db.transaction():
                results.append(await _settle(db, wish.owner, wish.work.settlement))
        except D3Error as error:
            results.append(error)
    return results


async def _settle(db: AsyncConnection[Any], owner: Owner, settlement: Settlement) -> list[RowOutcome]:
    call, items = settlement.call, settlement.verdict.items
    about: dict[str, object] = {"run": owner.run, "source": call.source, "epoch": owner.epoch}
    about["folds"] = [kept(fold(item.item)) for item in items]
    found = await (await db.execute(_SENT, about)).fetchall()
    became = {"states": [item.outcome for item in items], "codes": [item.code for item in items]}
    became["messages"] = [kept(item.message) for item in items]
    settled = await (await db.execute(_SETTLE, {**about, **became})).fetchall()
    if not found or len(settled) < len(call.items):
        message = f"An answer came for {len(call.items)} items of {call.label}, {len(settled)} were sent."
        raise ConservationError(message)
    rows = await _results(db, owner.run, [job for job, _ in found])
    await _settle_rows(db, owner.run, rows, settlement)
    return [
        RowOutcome(now.row, now.outcome, now.code, _told(now, settlement), now.items)
        for now in rows.values()
        if not now.incomplete
    ]


def _told(now: RowResult, settlement: Settlement) -> str:
    return message_line(told(now.message), settlement.verdict.anomalies)


async def _results(db: AsyncConnection[Any], run: int, jobs: Sequence[int]) -> Mapping[int, RowResult]:
    asked = {"run": run, "jobs": jobs}
    counted = [Counts._make(found) for found in await (await db.execute(COUNTED, asked)).fetchall()]
    asked["jobs"] = [counts.job for counts in counted if not counts.waiting and counts.ok < counts.items]
    trouble = troubles(await (await db.execute(TROUBLE, asked)).fetchall() if asked["jobs"] else ())
    return {counts.job: result(counts, trouble) for counts in counted}


async def _settle_rows(
    db: AsyncConnection[Any], run: int, rows: Mapping[int, RowResult], settlement: Settlement
) -> None:
    """Give rows their outcome, or back to waiting while some of their items are still to be sent."""
    answer = None
    if settlement.answer is not None:
        found = await (await db.execute(_ANSWER, (run, kept(settlement.answer)))).fetchone()
        answer = found and found[0]
    await db.execute(
        _ROWS,
        {
            "run": run, "http": settlement.verdict.http, "at": settlement.at, "answer": answer, "jobs": list(rows),
            "states": [now.outcome for now in rows.values()], "codes": [now.code for now in rows.values()],
            "messages": [kept(_told(now, settlement)) for now in rows.values()],
            "todo": [now.incomplete for now in rows.values()],
        },
    )  # fmt: skip


def _columns(rows: Iterable[tuple[int, Wish, float, bool]]) -> list[list[Any]]:
    """One line for each item of each call, as columns."""
    lines = [
        (n, wish.owner.run, wish.work.call.source, kept(fold(item)), wish.owner.epoch, wish.owner.round, at, flag)
        for n, wish, at, flag in rows
        if isinstance(wish.work, Claim | Release)
        for item in wish.work.call.items
    ]
    return [list(column) for column in zip(*lines, strict=True)]
