"""What a chunk has to send next."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from d3async.commands import all_commands
from d3async.journal.postgres.texts import told
from d3async.sansio.call import Call

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import AsyncConnection

    from d3async.journal.postgres.wishes import Lanes, Owner, Take

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
_KNOWN = b"""
select f, t.maybe or t.state = 'sent', t.state = 'ok' from unnest(%(folds)s::text[]) f
join d3async_source s on s.run = %(run)s and s.fold = %(subject)s and s.site = %(site)s
join d3async_item t on t.run = s.run and t.source = s.id and t.fold = f
union
select f, t.maybe or t.state = 'sent', t.state = 'ok' from unnest(%(folds)s::text[]) f
join d3async_source s on s.run = %(run)s and s.fold = f and s.site = %(site)s
join d3async_item t on t.run = s.run and t.source = s.id and t.fold = %(subject)s"""


async def lanes(db: AsyncConnection[Any], owner: Owner, asked: Lanes) -> list[tuple[int, Call | None]]:
    """See `Journal.lanes`."""
    after = max(asked.after, owner.lo - 1)
    rows = await db.execute(_LANES, (owner.run, after, owner.hi, asked.most))
    found: dict[int, Call | None] = {}
    for row in await rows.fetchall():
        lane = row[1]
        found[lane] = None if lane in found or owner.serial or row[-1] else _call(row)
    return list(found.items())


async def take(db: AsyncConnection[Any], owner: Owner, asked: Take) -> Call | None:
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
        items=tuple(told(name) for name, _ in items),
        tried=frozenset(told(link) for link, maybe, _ in known if maybe),
        gone=frozenset(told(link) for link, _, ok in known if ok),
    )


def _call(row: Sequence[Any]) -> Call:
    job, _, command, username, site, params, label, maybe, at, _ = row
    user = username and told(username)
    return Call(command, json.loads(params), user, told(site), 0, told(label), job=job, maybe=maybe, row=at)
