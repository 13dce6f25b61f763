"""Rows of a file submitted again merged with those its run knows: what is new, changed, to be sent; lanes, chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from d3async.d3.task_search import with_mark
from d3async.errors import JournalError
from d3async.jobs.identity import VERSION
from d3async.journal.model import Changes
from d3async.journal.postgres.chunk_owners import create_job_rows_of_run
from d3async.journal.postgres.connections import run_all
from d3async.journal.postgres.row_claims import settle_rows
from d3async.journal.postgres.staging import convert, match_rows
from d3async.policy.batching import lane_in_wave, later_waves
from d3async.policy.outcome import NOT_LINKED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg import Connection

_MATCH = "r.run = %(run)s and r.id = m.id"
_MET = "d3async_incoming i join d3async_met m on m.row = i.row"
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
_SAME = "coalesce(r.content, r.identity) = coalesce(i.content, i.identity)"
_FINAL = f"(j.state = 'ok' or (j.state = 'unknown' and (not {_VALID} or r.command <> all(%(repeatable)s))))"
"""Not to be sent again by itself, whatever the file says now."""
_CHANGED = f"""
insert into d3async_changed
select r.id, i.row, not {_VALID}, case
    when not {_FINAL} then 'renewed' when m.by_text then 'otherwise'
    when j.state = 'ok' then 'ok' else 'doubt' end
from {_MET} join d3async_row r on {_MATCH} join d3async_job j on j.run = r.run and j.id = r.id
where not {_SAME}"""
_TOLD = """
update d3async_job j set code = 'changed_after_ok', message = %(changed_after_ok)s
from d3async_changed c where c.fate = 'ok' and j.run = %(run)s and j.id = c.id;
update d3async_job j set message = %(in_doubt)s
from d3async_changed c where c.fate = 'doubt' and j.run = %(run)s and j.id = c.id;
update d3async_row r set content = i.content, sent_raw = null
from d3async_changed c join d3async_incoming i on i.row = c.row
where c.fate = 'renewed' and c.invalid and r.run = %(run)s and r.id = c.id;
update d3async_job j set state = 'invalid', code = w.code, message = w.message
from d3async_changed c join d3async_wrong w on w.row = c.row
where c.fate = 'renewed' and c.invalid and j.run = %(run)s and j.id = c.id;
insert into d3async_renewed select id, row from d3async_changed where fate = 'renewed' and not invalid"""
_NEXT = """left join (
    select identity, max(occurrence) + 1 as next from d3async_row r
    where run = %(run)s and identity in (
        select n.identity from d3async_incoming n left join d3async_met m on m.row = n.row
        where m.row is null or m.by_text)
    group by identity
) k on k.identity = i.identity"""
_OCCURRENCE = "coalesce(k.next, 0) + row_number() over (partition by i.identity order by i.row) - 1"
_IDENTITIES = f"""
update d3async_row r set identity = f.identity, occurrence = f.occurrence,
    content = case when f.keyed then coalesce(r.content, r.identity) end
from (
    select w.id, i.identity, {_OCCURRENCE} as occurrence, i.content is not null as keyed
    from ({{0}}) w join d3async_incoming i on i.row = w.row
    join d3async_row r on r.run = %(run)s and r.id = w.id {_NEXT}
    where r.identity <> i.identity
) f where r.run = %(run)s and r.id = f.id"""
# a row that has an id of its own now is known by it from now on, done or not
_TAKE_IDS = _IDENTITIES.format(
    f"select m.id, m.row from {_MET} join d3async_own_id o on o.row = m.row where m.by_text and {_VALID}"
)
_ITEMS_OF = "(select array_agg(({0}.fold, {0}.name) order by {0}.pos) from {1})"
_STORED_ITEMS = _ITEMS_OF.format("t", "d3async_item t where t.run = r.run and t.job = r.id")
_FILE_ITEMS = _ITEMS_OF.format("s", "d3async_incoming_item s where s.job = i.row")
# what is stored of a row that is not done is not trusted
_OTHER_ITEMS = f"""
insert into d3async_renewed
select r.id, i.row from {_MET} join d3async_row r on {_MATCH} join d3async_job j on j.run = r.run and j.id = r.id
where {_SAME} and {_VALID} and not {_FINAL} and {_STORED_ITEMS} is distinct from {_FILE_ITEMS}"""
_THERE = "d3async_renewed n join d3async_incoming_item s on s.job = n.row"
_RENEW = f"""
{_IDENTITIES.format("select id, row from d3async_renewed")};
-- what is known of a link is known of the two incidents it joins
delete from d3async_item t using d3async_renewed n, d3async_incoming i, d3async_row r
where t.run = %(run)s and t.job = n.id and i.row = n.row and r.run = t.run and r.id = t.job
    and (r.command, r.site, r.label) is distinct from (i.command, i.site, i.label);
update d3async_job j set state = 'pending', epoch = null, code = null, message = null
from d3async_renewed n, d3async_incoming i, d3async_row r
where j.run = %(run)s and j.id = n.id and i.row = n.row and r.run = j.run and r.id = j.id
    and not (j.state = 'unknown' and r.command is not distinct from i.command);
update d3async_row r set content = i.content, command = i.command, username = i.username, site = i.site,
    source = i.source, lane_key = i.lane_key, label = i.label, params = i.params, sent_raw = null
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
update d3async_row r set row = i.row, line = i.line, raw = i.raw, sent_raw = case
    when j.state in ('ok', 'partial', 'unknown') and not exists (select from d3async_renewed n where n.id = m.id)
        then nullif(coalesce(r.sent_raw, r.raw), i.raw) end
from {_MET} join d3async_job j on j.run = %(run)s and j.id = m.id
where {_MATCH} and (r.row, r.line, r.raw) is distinct from (i.row, i.line, i.raw);
update d3async_row r set username = i.username, lane_key = i.lane_key, source = i.source
from {_MET} where {_MATCH} and {_SAME} and {_VALID} and r.lane_key <> i.lane_key;
update d3async_row r set row = null, line = null
where run = %(run)s and row is not null and not exists (select from d3async_met m where m.id = r.id);
update d3async_job j set gone = r.row is null
from d3async_row r where j.run = %(run)s and r.run = j.run and r.id = j.id and j.gone <> (r.row is null)"""
_NEW = f"""
insert into d3async_row(run, id, row, line, identity, occurrence, content, command, username, site, source, lane_key,
    label, params, raw)
select %(run)s, %(last)s + row_number() over (order by i.row), i.row, i.line, i.identity, {_OCCURRENCE}, i.content,
    i.command, i.username, i.site, i.source, i.lane_key, i.label, i.params, i.raw
from d3async_incoming i {_NEXT} where not exists (select from d3async_met m where m.row = i.row)"""
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
# what is sent is what the file says now, not what is stored; what may have been created with a mark keeps it
_PARAMS = f"""
update d3async_row r set command = i.command, site = i.site, label = i.label, params = i.params,
    mark = case when r.mark is not null and j.maybe then r.mark end
from {_MET} join d3async_job j on j.run = %(run)s and j.id = m.id
where {_MATCH} and j.todo
    and (r.command, r.site, r.label, r.params) is distinct from (i.command, i.site, i.label, i.params)"""
_MARKED = b"""
select r.id, r.mark, r.params from d3async_row r join d3async_job j on j.run = r.run and j.id = r.id
where r.run = %(run)s and j.todo and r.mark is not null"""
# of a row that was never sent nothing is known
_MENDED = """
with mended as (
    delete from d3async_job where run = %(run)s and gone and state = 'invalid' and attempts = 0 returning id
), similar_rows as (
    delete from d3async_similar where run = %(run)s and id in (select id from mended)
), items as (
    delete from d3async_item where run = %(run)s and job in (select id from mended)
), rows as (
    delete from d3async_row where run = %(run)s and id in (select id from mended)
) select count(*) from mended"""


def merge_rows(db: Connection[Any], run: int, repeatable: Sequence[str]) -> Changes:
    """Bring the rows of `d3async_incoming` into those of *run*, which `make_ready` has made ready."""
    asked = {"run": run, "repeatable": list(repeatable), **_WORDS}
    match_rows(db, run)
    run_all(db, _TABLES)
    fates = _changed_rows(db, asked)
    run_all(db, _PLACES, asked)
    last = _number(db, "select coalesce(max(id), 0) from d3async_row where run = %(run)s", asked)
    new = db.execute(_NEW.encode(), {**asked, "last": last}).rowcount
    run_all(db, _NEW_STATES, {**asked, "last": last})
    mended = _number(db, _MENDED, asked)
    rows = _number(db, "select count(*) from d3async_incoming", asked)
    vanished = _number(db, "select count(*) from d3async_job where run = %(run)s and gone", asked)
    renewed, after_ok, in_doubt = (fates.get(fate, 0) for fate in ("renewed", "ok", "doubt"))
    same = rows - new - renewed - after_ok - in_doubt
    return Changes(same, new, renewed, vanished, after_ok, in_doubt, mended, fates.get("otherwise", 0))


def make_ready(db: Connection[Any], run: int, identity: int) -> None:
    """Before rows are compared with those of *run*: all of these have a state, and identities of this version."""
    create_job_rows_of_run(db, run)
    mark_interrupted(db, run)
    if identity < VERSION:
        convert(db, run, in_doubt=_WORDS["in_doubt"])


def mark_interrupted(db: Connection[Any], run: int) -> None:
    """Rows that a lost owner left `sent`: they may have happened."""
    run_all(db, _LEFTOVERS, {"run": run, **_WORDS})


def _changed_rows(db: Connection[Any], asked: Mapping[str, object]) -> dict[str, int]:
    """Rows with the same id and other content, counted by their fate. See `journal.sqlite.merge_rows`."""
    db.execute(_CHANGED.encode(), asked)
    run_all(db, _TOLD, asked)
    if _number(db, "select count(*) from (select from d3async_incoming_item limit 1) s", asked):
        db.execute(_OTHER_ITEMS.encode(), asked)
    _renew(db, asked)
    db.execute(_TAKE_IDS.encode(), asked)
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


def mark_to_send(db: Connection[Any], run: int, repeatable: Sequence[str], *, retry_unknown: bool) -> None:
    """Mark what this round is to send: of rows that stand in the file and are selected, those not done."""
    asked = {"run": run, "repeatable": list(repeatable), "retry": retry_unknown, "final": NOT_LINKED}
    if retry_unknown:
        _renew_unknown(db, asked)
    run_all(db, f"{_TODO};{_PARAMS}", asked)
    for job, mark, params in db.execute(_MARKED, asked).fetchall():
        sent = with_mark(params, mark)
        db.execute("update d3async_row set params = %s where run = %s and id = %s", (sent, run, job))


def _renew_unknown(db: Connection[Any], asked: Mapping[str, object]) -> None:
    """Who asks for `unknown` rows to be sent again means them as they stand in the file now."""
    db.execute("truncate d3async_renewed")
    db.execute(
        f"insert into d3async_renewed select r.id, i.row from {_MET}"
        f" join d3async_row r on {_MATCH} join d3async_job j on j.run = r.run and j.id = r.id"
        f" where {_SELECTED} and j.state = 'unknown'".encode(),
        asked,
    )
    _renew(db, asked)


def _number(db: Connection[Any], question: str, asked: Mapping[str, object]) -> int:
    found = db.execute(question.encode(), asked).fetchone()
    return int(found[0]) if found else 0


_SUBJECT = "split_part(r.lane_key, chr(31), 3)"
_TO_SEND = (
    "from d3async_job j join d3async_row r on r.run = j.run and r.id = j.id"
    " where j.run = %(run)s and j.todo and (%(serial)s or r.source is not null)"
)
_SOURCES = f"""
insert into d3async_source(run, id, lane_key, fold, site)
select distinct r.run, r.source, r.lane_key, {_SUBJECT}, r.site {_TO_SEND} and r.source is not null
on conflict (run, lane_key) do nothing"""
_LANES = f"""
insert into d3async_lane select {_SUBJECT}, min(r.row), 0 {_TO_SEND} group by 1"""
_MIRROR = (
    "join d3async_source y on y.run = i.run and y.fold = i.fold and y.site = x.site"
    " join d3async_item m on m.run = i.run and m.source = y.id and m.fold = x.fold"
)
"""To items `i` of sources `x`: the same link named from its other end, items `m` of sources `y`."""
_EDGES = f"""
select distinct la.number, lb.number from d3async_item i
join d3async_source x on x.run = i.run and x.id = i.source {_MIRROR}
join d3async_lane la on la.fold = x.fold join d3async_lane lb on lb.fold = y.fold
where i.run = %(run)s and i.todo and m.todo and x.fold <> y.fold and lb.number < la.number order by 1, 2"""
_SET = f"""
update d3async_job t set lane = l.number + l.wave * {lane_in_wave(0, 1)}::bigint
from (select j.id, {_SUBJECT} as fold {_TO_SEND}) s join d3async_lane l on l.fold = s.fold
where t.run = %(run)s and t.id = s.id and t.lane is distinct from l.number + l.wave * {lane_in_wave(0, 1)}::bigint"""
_CHUNKS = """
insert into d3async_chunk(run, chunk, round, lo, hi, rows)
select %(run)s, row_number() over (order by slice) - 1, %(round)s, min(lane), max(lane), sum(rows) from (
    select lane, rows, (sum(rows) over (order by lane) - rows)::bigint / %(size)s as slice
    from (select lane, count(*) as rows from d3async_job where run = %(run)s and todo group by lane) lanes
) slices group by slice"""

_EVEN_CHUNKS = """
insert into d3async_chunk(run, chunk, round, lo, hi, rows, untouched)
select %(run)s, at, %(round)s, at * %(size)s + 1, least((at + 1) * %(size)s, %(rows)s),
    least(%(size)s, %(rows)s - at * %(size)s), true
from generate_series(0, (%(rows)s - 1) / %(size)s) at"""


def assign_lanes(db: Connection[Any], run: int, *, serial: bool) -> None:
    """Put the rows to be sent, each of which is in a lane of its own, into the lanes they are to share.

    See `journal.sqlite.merge_rows.assign_lanes`: rows of one source together, mirrored sources in different waves.
    """
    asked = {"run": run, "serial": serial}
    db.execute(_SOURCES.encode(), asked)
    _refuse_twins(db, run)
    for statement in (
        "create temp table if not exists d3async_lane(fold text primary key, number bigint unique, wave bigint)",
        "truncate d3async_lane",
    ):
        db.execute(statement.encode())
    db.execute(_LANES.encode(), asked)
    _part_mirrored(db, run)
    db.execute(_SET.encode(), asked)


def cut(db: Connection[Any], run: int, round_: int, size: int) -> int:
    """Cut the lanes into chunks of about *size* rows, never a lane in two; how many chunks."""
    db.execute("delete from d3async_chunk where run = %s", (run,))
    return db.execute(_CHUNKS.encode(), {"run": run, "round": round_, "size": size}).rowcount


def cut_evenly(db: Connection[Any], run: int, round_: int, size: int, *, rows: int) -> int:
    """`cut` for a new run of *rows* rows, each of which is to be sent in a lane of its own; see `untouched`."""
    about = {"run": run, "round": round_, "size": size, "rows": rows}
    return db.execute(_EVEN_CHUNKS.encode(), about).rowcount


def _refuse_twins(db: Connection[Any], run: int) -> None:
    """A number of a source is 64 bits of a digest: two sources of one number would be taken for one."""
    found = db.execute(
        "select r.lane_key from d3async_row r join d3async_source s on s.run = r.run and s.lane_key = r.lane_key"
        " where r.run = %s and r.source is not null and s.id <> r.source limit 1",
        (run,),
    ).fetchone()
    if found is not None:
        raise JournalError("Two incidents of this file have the same digest: submit it in two parts.", code="journal")


def _part_mirrored(db: Connection[Any], run: int) -> None:
    """Give lanes with a mirrored pair between them different waves."""
    waves = later_waves(db.execute(_EDGES.encode(), {"run": run}).fetchall())
    if waves:
        db.execute(
            "update d3async_lane l set wave = w.wave from unnest(%s::bigint[], %s::bigint[]) w(lane, wave)"
            " where l.number = w.lane",
            (list(waves), list(waves.values())),
        )
