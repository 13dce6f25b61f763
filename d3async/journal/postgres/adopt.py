"""How the rows of a file submitted again meet the rows its run knows: `journal.adopt` in PostgreSQL's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from d3async.journal.adopt import Changes
from d3async.journal.postgres.scripts import run_all
from d3async.journal.postgres.standing import settle_rows
from d3async.journal.postgres.untouched import lay_run
from d3async.sansio.outcome import NOT_LINKED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg import Connection

_MATCH = "r.run = %(run)s and r.identity = i.identity and r.occurrence = i.occurrence"
_VALID = "i.params is not null"
_WORDS = {
    "interrupted": "The run ended after sending and before an answer was recorded.",
    "unanswered": "No answer was recorded.",
    "changed_after_ok": "The row was changed after it was ok; it is not sent again.",
    "in_doubt": "The row was changed after it was sent, and what was sent may have happened.",
}
_LEFTOVERS = """
update d3async_job set state = 'unknown', maybe = true, code = 'interrupted', message = %(interrupted)s, done_at = null
where run = %(run)s and state = 'sent';
update d3async_item set state = 'unknown', maybe = true, code = 'interrupted', message = %(unanswered)s
where run = %(run)s and state = 'sent'"""
_TABLES = """
create temp table if not exists d3async_changed(id integer primary key, row integer, invalid boolean, fate text);
create temp table if not exists d3async_renewed(id integer primary key, row integer unique);
truncate d3async_changed, d3async_renewed"""
_CHANGED = f"""
insert into d3async_changed
select r.id, i.row, not {_VALID}, case
    when j.state = 'ok' then 'ok'
    when j.state = 'unknown' and (not {_VALID} or r.command <> all(%(repeatable)s)) then 'doubt'
    else 'renewed' end
from d3async_incoming i join d3async_row r on {_MATCH} join d3async_job j on j.run = r.run and j.id = r.id
where r.content is distinct from i.content"""
_TOLD = """
update d3async_job j set code = 'changed_after_ok', message = %(changed_after_ok)s
from d3async_changed c where c.fate = 'ok' and j.run = %(run)s and j.id = c.id;
update d3async_job j set message = %(in_doubt)s
from d3async_changed c where c.fate = 'doubt' and j.run = %(run)s and j.id = c.id;
update d3async_row r set content = i.content
from d3async_changed c join d3async_incoming i on i.row = c.row
where c.fate = 'renewed' and c.invalid and r.run = %(run)s and r.id = c.id;
update d3async_job j set state = 'invalid', code = w.code, message = w.message
from d3async_changed c join d3async_wrong w on w.row = c.row
where c.fate = 'renewed' and c.invalid and j.run = %(run)s and j.id = c.id;
insert into d3async_renewed select id, row from d3async_changed where fate = 'renewed' and not invalid"""
_THERE = "d3async_renewed n join d3async_incoming_item s on s.job = n.row"
_RENEW = f"""
-- what is known of a link is known of the two incidents it joins
delete from d3async_item t using d3async_renewed n, d3async_incoming i, d3async_row r
where t.run = %(run)s and t.job = n.id and i.row = n.row and r.run = t.run and r.id = t.job
    and (r.command, r.site, r.label) is distinct from (i.command, i.site, i.label);
update d3async_job j set state = 'pending', code = null, message = null
from d3async_renewed n, d3async_incoming i, d3async_row r
where j.run = %(run)s and j.id = n.id and i.row = n.row and r.run = j.run and r.id = j.id
    and not (j.state = 'unknown' and r.command is not distinct from i.command);
update d3async_row r set content = i.content, command = i.command, username = i.username, site = i.site,
    source = i.source, lane_key = i.lane_key, label = i.label, params = i.params
from d3async_renewed n join d3async_incoming i on i.row = n.row where r.run = %(run)s and r.id = n.id;
delete from d3async_item t using d3async_renewed n
where t.run = %(run)s and t.job = n.id
    and not exists (select from d3async_incoming_item s where s.job = n.row and s.fold = t.fold);
update d3async_item t set pos = s.pos, name = s.name
from {_THERE} where t.run = %(run)s and t.job = n.id and t.fold = s.fold;
insert into d3async_item(run, job, pos, name, fold)
select %(run)s, n.id, s.pos, s.name, s.fold from {_THERE}
where not exists (select from d3async_item t where t.run = %(run)s and t.job = n.id and t.fold = s.fold)
order by n.id, s.pos"""
_PLACES = f"""
update d3async_row r set row = i.row, line = i.line, raw = i.raw
from d3async_incoming i where {_MATCH} and (r.row, r.line, r.raw) is distinct from (i.row, i.line, i.raw);
update d3async_row r set username = i.username, lane_key = i.lane_key, source = i.source
from d3async_incoming i
where {_MATCH} and r.content is not distinct from i.content and {_VALID} and r.lane_key <> i.lane_key;
update d3async_row r set row = null, line = null
where run = %(run)s and row is not null and not exists (select from d3async_incoming i where {_MATCH});
update d3async_job j set gone = r.row is null
from d3async_row r where j.run = %(run)s and r.run = j.run and r.id = j.id and j.gone <> (r.row is null)"""
_NEW = f"""
insert into d3async_row(run, id, row, line, identity, occurrence, content, command, username, site, source, lane_key,
    label, params, raw)
select %(run)s, %(last)s + row_number() over (order by i.row), i.row, i.line, i.identity, i.occurrence, i.content,
    i.command, i.username, i.site, i.source, i.lane_key, i.label, i.params, i.raw
from d3async_incoming i where not exists (select from d3async_row r where {_MATCH})"""
_NEW_STATES = """
insert into d3async_job(run, id, state, code, message)
select r.run, r.id, case when r.params is null then 'invalid' else 'pending' end, w.code, w.message
from d3async_row r left join d3async_wrong w on w.row = r.row where r.run = %(run)s and r.id > %(last)s;
insert into d3async_item(run, job, pos, source, name, fold)
select r.run, r.id, s.pos, s.source, s.name, s.fold
from d3async_row r join d3async_incoming_item s on s.job = r.row where r.run = %(run)s and r.id > %(last)s
order by r.id, s.pos"""
_SELECTED = f"{_VALID} and not exists (select from d3async_left_out l where l.row = i.row)"
_TODO = f"""
update d3async_item set todo = false where run = %(run)s and todo;
update d3async_job j set todo = s.todo, lane = case when s.todo then s.row end
from (
    select k.id, r.row, coalesce({_SELECTED}, false) and (k.state in ('pending', 'failed', 'partial')
        or (k.state = 'unknown' and (%(retry)s or r.command = any(%(repeatable)s)))) as todo
    from d3async_job k join d3async_row r on r.run = k.run and r.id = k.id
    left join d3async_incoming i on i.row = r.row where k.run = %(run)s
) s
where j.run = %(run)s and j.id = s.id
    and (j.todo, j.lane) is distinct from (s.todo, case when s.todo then s.row end);
update d3async_item t set todo = true, source = r.source
from d3async_job j join d3async_row r on r.run = j.run and r.id = j.id
where j.run = %(run)s and j.todo and t.run = j.run and t.job = j.id
    and (t.state in ('pending', 'unknown') or (t.state = 'failed' and coalesce(t.code, '') <> %(final)s));
-- a row whose items are all final has nothing left to send
update d3async_job j set todo = false, lane = null
where j.run = %(run)s and j.todo
    and exists (select from d3async_item t where t.run = j.run and t.job = j.id)
    and not exists (select from d3async_item t where t.run = j.run and t.job = j.id and t.todo)"""
# of a row that was never sent nothing is known
_MENDED = """
with mended as (
    delete from d3async_job where run = %(run)s and gone and state = 'invalid' and attempts = 0 returning id
), items as (
    delete from d3async_item where run = %(run)s and job in (select id from mended)
), rows as (
    delete from d3async_row where run = %(run)s and id in (select id from mended)
) select count(*) from mended"""


def adopt(db: Connection[Any], run: int, repeatable: Sequence[str]) -> Changes:
    """Bring what stands in `d3async_incoming` into the rows of *run*."""
    asked = {"run": run, "repeatable": list(repeatable), **_WORDS}
    lay_run(db, run)
    settle_leftovers(db, run)
    run_all(db, _TABLES)
    fates = _changed(db, asked)
    run_all(db, _PLACES, asked)
    last = _number(db, "select coalesce(max(id), 0) from d3async_row where run = %(run)s", asked)
    new = db.execute(_NEW.encode(), {**asked, "last": last}).rowcount
    run_all(db, _NEW_STATES, {**asked, "last": last})
    mended = _number(db, _MENDED, asked)
    rows = _number(db, "select count(*) from d3async_incoming", asked)
    vanished = _number(db, "select count(*) from d3async_job where run = %(run)s and gone", asked)
    same = rows - new - sum(fates.values())
    return Changes(same, new, fates.get("renewed", 0), vanished, fates.get("ok", 0), fates.get("doubt", 0), mended)


def settle_leftovers(db: Connection[Any], run: int) -> None:
    """Rows somebody left `sent`: nobody knows whether they happened."""
    run_all(db, _LEFTOVERS, {"run": run, **_WORDS})


def _changed(db: Connection[Any], asked: Mapping[str, object]) -> dict[str, int]:
    """Rows with the same id and other content, counted by their fate. See `journal.adopt`."""
    db.execute(_CHANGED.encode(), asked)
    run_all(db, _TOLD, asked)
    _renew(db, asked)
    found = db.execute("select fate, count(*) from d3async_changed group by fate").fetchall()
    return {fate: int(count) for fate, count in found}


def _renew(db: Connection[Any], asked: Mapping[str, object]) -> None:
    """Give the rows in `d3async_renewed` the content they have now; items that stay keep what is known of them."""
    run_all(db, _RENEW, asked)
    _take_outcomes_of_items(db, asked)


def _take_outcomes_of_items(db: Connection[Any], asked: Mapping[str, object]) -> None:
    """A row may be done, or no longer in doubt, because the items that were not are gone from it."""
    question = "select distinct t.job from d3async_item t join d3async_renewed n on n.id = t.job where t.run = %(run)s"
    jobs = [job for (job,) in db.execute(question.encode(), asked).fetchall()]
    settle_rows(db, int(str(asked["run"])), jobs)


def mark_todo(db: Connection[Any], run: int, repeatable: Sequence[str], *, retry_unknown: bool) -> None:
    """Mark what this round is to send: of rows that stand in the file and are selected, those not done."""
    asked = {"run": run, "repeatable": list(repeatable), "retry": retry_unknown, "final": NOT_LINKED}
    if retry_unknown:
        _renew_unknown(db, asked)
    run_all(db, _TODO, asked)


def _renew_unknown(db: Connection[Any], asked: Mapping[str, object]) -> None:
    """Who asks for `unknown` rows to be sent again means them as they stand in the file now."""
    db.execute("truncate d3async_renewed")
    db.execute(
        "insert into d3async_renewed select r.id, i.row from d3async_incoming i"
        f" join d3async_row r on {_MATCH} join d3async_job j on j.run = r.run and j.id = r.id"
        f" where {_SELECTED} and j.state = 'unknown' and r.content is distinct from i.content".encode(),
        asked,
    )
    _renew(db, asked)


def _number(db: Connection[Any], question: str, asked: Mapping[str, object]) -> int:
    found = db.execute(question.encode(), asked).fetchone()
    return int(found[0]) if found else 0
