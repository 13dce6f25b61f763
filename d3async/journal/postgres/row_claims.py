"""Rows claimed, released and brought to their outcomes, many in one statement; what a chunk has to send next."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from d3async.d3.call import Call, normalize_number
from d3async.d3.commands import all_commands
from d3async.errors import ConservationError, D3Error, FencedError
from d3async.journal.model import RowOutcome
from d3async.journal.postgres.chunk_owners import Claim, Release, Settle
from d3async.journal.postgres.connections import escape, message_line, unescape
from d3async.policy.outcome import ItemOutcome, row_from_items, row_result

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from psycopg import AsyncConnection, Connection

    from d3async.journal.model import CallResult
    from d3async.journal.postgres.chunk_owners import ChunkOwner, ChunkRequest, Lanes, Take
    from d3async.policy.outcome import RowResult

_CLAIM_ROWS = b"""
update d3async_job j set prior = j.state, state = 'sent', epoch = w.epoch, round = w.round,
    attempts = j.attempts + 1, sent_at = w.at
from unnest(%s::int[], %s::int[], %s::int[], %s::int[], %s::int[], %s::float8[], %s::bool[])
    w(n, run, id, epoch, round, at, again)
where j.run = w.run and j.id = w.id and j.todo and (j.state <> 'sent' or (j.epoch = w.epoch and w.again))
returning w.n"""
# the late answer of an owner that was fenced is knowledge, as long as the row is untouched since
_MINE = (
    "j.run = w.run and j.id = w.id and j.epoch = w.epoch"
    " and (j.state = 'sent' or (j.state = 'unknown' and j.code = 'interrupted' and not j.todo))"
)
_RELEASE_ROWS = f"""
update d3async_job j set state = j.prior, attempts = j.attempts - w.taken,
    sent_at = case when j.attempts = w.taken then null else j.sent_at end,
    maybe = j.maybe and j.state = 'sent', code = case when j.state = 'sent' then j.code end,
    message = case when j.state = 'sent' then j.message end,
    todo = j.todo or (j.lane is not null and j.round = (select r.round from d3async_run r where r.id = j.run))
from unnest(%s::int[], %s::int[], %s::int[], %s::int[]) w(run, id, epoch, taken)
where {_MINE} and (j.state = 'sent' or j.prior = 'pending')""".encode()
_RECORD_ROWS = f"""
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


async def claim_rows(db: AsyncConnection[Any], wishes: Sequence[ChunkRequest]) -> list[object]:
    """Mark the rows of *wishes* as sent, each if no other owner has; None or a `FencedError` for each wish."""
    rows = [
        (n, wish.owner.run, wish.work.call.job, wish.owner.epoch, wish.owner.round, wish.work.at,
         all_commands()[wish.work.call.command].repeatable)
        for n, wish in enumerate(wishes) if isinstance(wish.work, Claim)
    ]  # fmt: skip
    claimed = await _numbers(db, _CLAIM_ROWS, rows)
    return [None if n in claimed else fenced(wish) for n, wish in enumerate(wishes)]


async def release_rows(db: AsyncConnection[Any], wishes: Sequence[ChunkRequest]) -> list[object]:
    """Undo the latest claims; those of other owners are kept."""
    rows = [
        (wish.owner.run, wish.work.call.job, wish.owner.epoch, 0 if wish.work.sent else 1)
        for wish in wishes if isinstance(wish.work, Release)
    ]  # fmt: skip
    await db.execute(_RELEASE_ROWS, _row_columns(rows))
    return [None] * len(wishes)


async def record_rows(db: AsyncConnection[Any], wishes: Sequence[ChunkRequest]) -> list[object]:
    """Record what became of rows: the rows that are finished by each wish, or an error."""
    rows, outcomes = [], []
    for n, wish in enumerate(wishes):
        if not isinstance(wish.work, Settle):
            continue
        settlement, owner = wish.work.settlement, wish.owner
        verdict, call = settlement.verdict, settlement.call
        message = message_line(verdict.message, verdict.anomalies)
        body = None if settlement.answer is None else escape(settlement.answer)
        rows.append(
            (n, owner.run, call.job, owner.epoch, verdict.outcome, verdict.code, escape(message), verdict.http,
             settlement.at, body)
        )  # fmt: skip
        outcomes.append(RowOutcome(call.row or 0, verdict.outcome, verdict.code, message))
    settled = await _numbers(db, _RECORD_ROWS, rows)
    return [[outcome] if n in settled else _never_sent(wishes[n]) for n, outcome in enumerate(outcomes)]


def fenced(wish: ChunkRequest) -> FencedError:
    """The error of a claim that another owner was faster with."""
    label = wish.work.call.label if isinstance(wish.work, Claim | Release | Settle) else ""
    return FencedError(f"Row about {label} was claimed by another process.", code="fenced")


def _never_sent(wish: ChunkRequest) -> ConservationError:
    label = wish.work.call.label if isinstance(wish.work, Settle) else ""
    return ConservationError(f"An answer came for the row about {label}, which was not sent.")


async def _numbers(db: AsyncConnection[Any], statement: bytes, rows: Sequence[tuple[Any, ...]]) -> set[int]:
    found = await (await db.execute(statement, _row_columns(rows))).fetchall()
    return {n for (n,) in found}


def _row_columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


COUNTED = b"""
select t.job, r.row, count(*) filter (where t.todo), count(*) filter (where t.state = 'ok'),
    count(*) filter (where t.state = 'failed'), count(*) filter (where t.state = 'unknown'), count(*)
from d3async_item t join d3async_row r on r.run = t.run and r.id = t.job
where t.run = %(run)s and t.job = any(%(jobs)s) group by t.job, r.row order by r.row, t.job"""
TROUBLE = b"""
select job, name, state, code, message from d3async_item
where run = %(run)s and job = any(%(jobs)s) and state in ('failed', 'unknown') order by job, pos, id"""
_TAKE = b"""
update d3async_job j set state = w.state, code = w.code, message = w.message, todo = j.todo and w.todo
from unnest(%(jobs)s::int[], %(states)s::text[], %(codes)s::text[], %(messages)s::text[], %(todo)s::bool[])
    w(id, state, code, message, todo)
where j.run = %(run)s and j.id = w.id and j.state <> 'sent'"""


class Counts(NamedTuple):
    """The items of row *job*: how many are still to be sent, have each outcome, and how many there are."""

    job: int
    row: int | None
    waiting: int
    ok: int
    failed: int
    unknown: int
    items: int

    @property
    def by_state(self) -> dict[str, int]:
        """For `row_result` and `row_from_items`; what has no outcome is pending."""
        pending = self.items - self.ok - self.failed - self.unknown
        return {"ok": self.ok, "failed": self.failed, "unknown": self.unknown, "pending": pending}


Trouble = dict[int, list[ItemOutcome]]


def troubles(found: Iterable[Sequence[Any]]) -> Trouble:
    """What `TROUBLE` found, by row."""
    trouble: Trouble = defaultdict(list)
    for job, name, state, code, message in found:
        trouble[job].append(ItemOutcome(name, state, code or "", message or ""))
    return trouble


def result(counts: Counts, trouble: Trouble) -> RowResult:
    """The result of a row after a call with items of it. Raises `ConservationError`."""
    return row_result(counts.row or 0, counts.waiting, counts.by_state, trouble.get(counts.job, ()))


def settle_rows(db: Connection[Any], run: int, jobs: Sequence[int]) -> None:
    """Give *jobs* the outcome that follows from their items, none of them in flight: see `row_from_items`."""
    asked: dict[str, object] = {"run": run, "jobs": list(jobs)}
    counted = [Counts._make(found) for found in db.execute(COUNTED, asked).fetchall()]
    trouble = troubles(db.execute(TROUBLE, asked).fetchall())
    became = [row_from_items(counts.by_state, trouble.get(counts.job, ())) for counts in counted]
    if became:
        states, codes, messages = (list(column) for column in zip(*became, strict=True))
        asked |= {"jobs": [counts.job for counts in counted], "todo": [counts.waiting > 0 for counts in counted]}
        db.execute(_TAKE, {**asked, "states": states, "codes": codes, "messages": messages})


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
_CLAIM_LINKS = f"""
with {_CALLS}, items as (
    update d3async_item t set maybe = t.maybe or t.state = 'sent', prior = t.state, state = 'sent'
    from found where t.run = found.run and t.job = found.job and t.id = found.id
)
update d3async_job j set prior = j.state, state = 'sent', epoch = f.epoch, round = f.round, attempts = j.attempts + 1,
    sent_at = f.at
from (select distinct run, job, epoch, round, at from found) f where j.run = f.run and j.id = f.job""".encode()
_RELEASE_LINKS = f"""
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
_RECORD_LINKS = b"""
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


async def claim_links(db: AsyncConnection[Any], wishes: Sequence[ChunkRequest]) -> list[object]:
    """Mark the items of *wishes*, and their rows, as sent; None or a `FencedError` for each wish."""
    rows = [
        (n, wish, wish.work.at, all_commands()[wish.work.call.command].repeatable)
        for n, wish in enumerate(wishes) if isinstance(wish.work, Claim)
    ]  # fmt: skip
    found = await (await db.execute(_CLAIMABLE, _link_columns(rows))).fetchall()
    claimable = {n for (n,) in found}
    if claimable:
        await db.execute(_CLAIM_LINKS, _link_columns([row for row in rows if row[0] in claimable]))
    return [None if n in claimable else fenced(wish) for n, wish in enumerate(wishes)]


async def release_links(db: AsyncConnection[Any], wishes: Sequence[ChunkRequest]) -> list[object]:
    """Undo the latest claims: an earlier one in doubt stays `sent`."""
    rows = [(n, wish, 0.0, not wish.work.sent) for n, wish in enumerate(wishes) if isinstance(wish.work, Release)]
    await db.execute(_RELEASE_LINKS, _link_columns(rows))
    return [None] * len(wishes)


async def record_links(db: AsyncConnection[Any], wishes: Sequence[ChunkRequest]) -> list[object]:
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


async def _settle(db: AsyncConnection[Any], owner: ChunkOwner, settlement: CallResult) -> list[RowOutcome]:
    call, items = settlement.call, settlement.verdict.items
    about: dict[str, object] = {"run": owner.run, "source": call.source, "epoch": owner.epoch}
    about["folds"] = [escape(normalize_number(item.item)) for item in items]
    found = await (await db.execute(_SENT, about)).fetchall()
    became = {"states": [item.outcome for item in items], "codes": [item.code for item in items]}
    became["messages"] = [escape(item.message) for item in items]
    settled = await (await db.execute(_RECORD_LINKS, {**about, **became})).fetchall()
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


def _told(now: RowResult, settlement: CallResult) -> str:
    return message_line(unescape(now.message), settlement.verdict.anomalies)


async def _results(db: AsyncConnection[Any], run: int, jobs: Sequence[int]) -> Mapping[int, RowResult]:
    asked = {"run": run, "jobs": jobs}
    counted = [Counts._make(found) for found in await (await db.execute(COUNTED, asked)).fetchall()]
    asked["jobs"] = [counts.job for counts in counted if not counts.waiting and counts.ok < counts.items]
    trouble = troubles(await (await db.execute(TROUBLE, asked)).fetchall() if asked["jobs"] else ())
    return {counts.job: result(counts, trouble) for counts in counted}


async def _settle_rows(
    db: AsyncConnection[Any], run: int, rows: Mapping[int, RowResult], settlement: CallResult
) -> None:
    """Give rows their outcome, or back to waiting while some of their items are still to be sent."""
    answer = None
    if settlement.answer is not None:
        found = await (await db.execute(_ANSWER, (run, escape(settlement.answer)))).fetchone()
        answer = found and found[0]
    await db.execute(
        _ROWS,
        {
            "run": run, "http": settlement.verdict.http, "at": settlement.at, "answer": answer, "jobs": list(rows),
            "states": [now.outcome for now in rows.values()], "codes": [now.code for now in rows.values()],
            "messages": [escape(_told(now, settlement)) for now in rows.values()],
            "todo": [now.incomplete for now in rows.values()],
        },
    )  # fmt: skip


def _link_columns(rows: Iterable[tuple[int, ChunkRequest, float, bool]]) -> list[list[Any]]:
    """One line for each item of each call, as columns."""
    lines = [
        (
            n,
            wish.owner.run,
            wish.work.call.source,
            escape(normalize_number(item)),
            wish.owner.epoch,
            wish.owner.round,
            at,
            flag,
        )
        for n, wish, at, flag in rows
        if isinstance(wish.work, Claim | Release)
        for item in wish.work.call.items
    ]
    return [list(column) for column in zip(*lines, strict=True)]


_MOST_ITEMS = 10_000
_CALL = """
select j.id, j.lane, r.command, r.username, r.site, r.params, r.label, j.maybe, r.row, r.source is not null
from d3async_job j join d3async_row r on r.run = j.run and r.id = j.id where j.run = %s and j.todo"""
_LANES = f"{_CALL} and j.lane > %s and j.lane <= %s order by j.lane, j.id limit %s".encode()
_NEXT = f"{_CALL} and j.lane = %s and j.state <> 'sent' order by j.id limit 1".encode()
_SOURCE = b"""
select s.id, s.fold, s.site from d3async_item t join d3async_source s on s.run = t.run and s.id = t.source
where t.run = %s and t.job = %s and t.todo and t.state <> 'sent' limit 1"""
_ITEMS = b"""
select name, fold from d3async_item t where run = %(run)s and source = %(source)s and todo and state <> 'sent'
    and not exists (select from d3async_item e
        where e.run = t.run and e.source = t.source and e.fold = t.fold and e.todo and e.id < t.id)
order by id limit %(most)s"""
# a link found not to be removed is not in doubt, but if it is gone later, our removal may have come late
_KNOWN = b"""
select f, t.state = 'sent' or (t.maybe and t.state <> 'failed'), t.state = 'ok' or (t.maybe and t.state = 'failed')
from unnest(%(folds)s::text[]) f
join d3async_source s on s.run = %(run)s and s.fold = %(subject)s and s.site = %(site)s
join d3async_item t on t.run = s.run and t.source = s.id and t.fold = f
union
select f, t.state = 'sent' or (t.maybe and t.state <> 'failed'), t.state = 'ok' or (t.maybe and t.state = 'failed')
from unnest(%(folds)s::text[]) f
join d3async_source s on s.run = %(run)s and s.fold = f and s.site = %(site)s
join d3async_item t on t.run = s.run and t.source = s.id and t.fold = %(subject)s"""


async def lanes(db: AsyncConnection[Any], owner: ChunkOwner, asked: Lanes) -> list[tuple[int, Call | None]]:
    """See `Journal.lanes`."""
    after = max(asked.after, owner.lo - 1)
    rows = await db.execute(_LANES, (owner.run, after, owner.hi, asked.most))
    found: dict[int, Call | None] = {}
    for row in await rows.fetchall():
        lane = row[1]
        found[lane] = None if lane in found or owner.serial or row[-1] else _call(row)
    return list(found.items())


async def take(db: AsyncConnection[Any], owner: ChunkOwner, asked: Take) -> Call | None:
    """See `Journal.take`."""
    row = await (await db.execute(_NEXT, (owner.run, asked.lane))).fetchone()
    if row is None:
        return None
    call = _call(row)
    if not all_commands()[call.command].items:
        return call
    return await _with_items(db, owner.run, call, min(asked.most, _MOST_ITEMS))


async def _with_items(db: AsyncConnection[Any], run: int, call: Call, most: int) -> Call | None:
    """*call* with the next items of the source that its row asks about, each number once."""
    found = await (await db.execute(_SOURCE, (run, call.job))).fetchone()
    if found is None:
        return None
    source, subject, site = found
    items = await (await db.execute(_ITEMS, {"run": run, "source": source, "most": most})).fetchall()
    folds = [folded for _, folded in items]
    about = {"run": run, "folds": folds, "subject": subject, "site": site}
    known = await (await db.execute(_KNOWN, about)).fetchall()
    return call._replace(
        job=0,
        maybe=False,
        source=source,
        items=tuple(unescape(name) for name, _ in items),
        tried=frozenset(unescape(link) for link, maybe, _ in known if maybe),
        gone=frozenset(unescape(link) for link, _, ours in known if ours),
    )


def _call(row: Sequence[Any]) -> Call:
    job, _, command, username, site, params, label, maybe, at, _ = row
    user = username and unescape(username)
    return Call(command, json.loads(params), user, unescape(site), 0, unescape(label), job=job, maybe=maybe, row=at)
