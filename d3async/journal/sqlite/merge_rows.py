"""Rows of a job file merged with those a journal knows: what is new, changed, to be sent; lanes and waves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from d3async.jobs.identity import PROFILE_MARK
from d3async.journal.model import Changes
from d3async.journal.sqlite.row_claims import outcome_from_items
from d3async.journal.sqlite.staging import match_rows, number_new, place_identities
from d3async.policy.batching import lane_in_wave, later_waves
from d3async.policy.outcome import NOT_LINKED

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

_PARTED = "substr({0}, instr({0}, char(31)) + 1)"
_SUBJECT = _PARTED.format(_PARTED.format("lane_key"))
"""The last part of `lane_key`: user, site, subject."""
_WHERE = f"iif(profile is null, site, '{PROFILE_MARK}' || profile || '{PROFILE_MARK}' || site)"
"""Where an incident number means the same incident: `source.site`."""
_SHARING = "exists (select 1 from item where item.job = job.id)"


def assign_lanes(db: sqlite3.Connection, *, serial: bool) -> None:
    """Put the rows to be sent into lanes; until then each has its own. A lane is named after its first row.

    Rows with items share a lane with all others of the same source, under any account; with *serial* every row does so
    with those about the same incident; rows of different profiles never share one. Sources that name each other, in
    rows to be sent, stand in different waves: if links are symmetric, the second of two such removals is judged by
    what the first one did.
    """
    if not serial and not db.execute("select exists(select 1 from item)").fetchone()[0]:
        return
    shared = "1" if serial else _SHARING
    _name_sources(db, shared)
    for table in ("lane", "edge"):
        db.execute(f"drop table if exists temp.{table}")
    db.execute(
        "create temp table lane as select s.fold, job.profile, min(job.row) as number, 0 as wave from job"
        f" join source s on s.lane_key = job.lane_key where job.todo = 1 and {shared} group by s.fold, job.profile"
    )
    db.execute("create unique index temp.lane_fold on lane(fold, profile)")
    db.execute("create unique index temp.lane_number on lane(number)")
    _part_mirrored(db)
    number = f"select l.number + l.wave * {lane_in_wave(0, 1)} from source s join lane l on l.fold = s.fold"
    db.execute(
        f"update job set lane = case when {shared} then"
        f" ({number} where s.lane_key = job.lane_key and l.profile is job.profile) else row end where todo = 1"
    )
    for table in ("lane", "edge"):
        db.execute(f"drop table temp.{table}")


def _name_sources(db: sqlite3.Connection, shared: str) -> None:
    """Items keep the source they were sent for, also when their row has gone from the file: see `Store`."""
    db.execute(
        "insert or ignore into source(lane_key, fold, site)"
        f" select distinct lane_key, {_SUBJECT}, {_WHERE} from job where todo = 1 and {shared}"
    )
    db.execute(
        "update item set source = (select s.id from job join source s on s.lane_key = job.lane_key"
        " where job.id = item.job) where todo = 1"
    )


def _part_mirrored(db: sqlite3.Connection) -> None:
    """Give lanes with a mirrored pair between them different waves."""
    db.execute("create temp table edge(a integer, b integer, primary key (a, b)) without rowid")
    db.execute(
        "insert or ignore into edge select la.number, lb.number from item i join source x on x.id = i.source"
        f" {MIRROR} join lane la on la.fold = x.fold join lane lb on lb.fold = y.fold"
        " where i.todo = 1 and m.todo = 1 and x.fold != y.fold"
        " and la.profile is (select profile from job where id = i.job) and lb.profile is la.profile"
    )
    waves = later_waves(db.execute("select a, b from edge where b < a order by a"))
    db.executemany("update lane set wave = ? where number = ?", [(wave, lane) for lane, wave in waves.items()])


MIRROR = "join source y on y.fold = i.fold and y.site = x.site cross join item m on m.source = y.id and m.fold = x.fold"
"""To items `i` of sources `x`: the same link named from its other end, items `m` of sources `y`."""


def count_mirrored(db: sqlite3.Connection) -> int:
    """How many pairs of incidents are to be sent both ways round."""
    found = db.execute(
        "select count(*) from (select distinct x.fold, y.fold, x.site from item i join source x on x.id = i.source"
        f" {MIRROR} where i.todo = 1 and m.todo = 1 and x.fold < y.fold)"
    )
    return int(found.fetchone()[0])


_COLUMNS = (
    "row, line, identity, occurrence, content, command, username, site, lane_key, label, params,"
    " raw, state, code, message, profile, text"
)
_LOOK_ALIKE = "d3_similar(command, site, params), d3_alike(command, site, params), d3_due(command, site, params)"
_TO_SEND = "selected and state = 'pending'"
_FOUND = "temp.met m join temp.incoming i on i.row = m.row"
_SENT_WITH_MARK = "job.mark is not null and (job.maybe or job.state = 'unknown')"
_PARAMS = f"iif({_SENT_WITH_MARK}, d3_marked(i.params, job.mark), i.params)"
"""What a row sends once it is read again; what may have been created with a mark keeps it."""


def merge_rows(db: sqlite3.Connection, repeatable: Sequence[str]) -> Changes:
    """Bring the staged rows (`Stage`) into the journal. *repeatable* names the commands that may be sent twice.

    What a row sends that is not done is taken from the file, never from the journal.
    """
    mark_interrupted(db)
    db.execute("update job set row = null, line = null, lane = null, todo = 0")
    match_rows(db)
    fates = take_changes(db, repeatable)
    done_as_mended = "job.id in (select id from changed where fate = 'mended')"
    db.execute(
        f"update job set row = i.row, line = i.line, raw = iif({done_as_mended}, job.raw, i.raw)"
        f" from {_FOUND} where job.id = m.job"
    )
    db.execute("delete from mended where job in (select id from changed where fate = 'renewed')")
    db.execute(
        f"update job set username = i.username, lane_key = i.lane_key from {_FOUND} where job.id = m.job"
        " and job.content is i.content and i.state = 'pending'"
        " and (job.username is not i.username or job.lane_key is not i.lane_key)"
    )
    new = _insert(db)
    # of a row that was never sent nothing is known
    gone = "row is null and state = 'invalid' and attempts = 0"
    db.execute(f"delete from item where job in (select id from job where {gone})")
    mended = db.execute(f"delete from job where {gone}").rowcount
    db.execute("delete from mended where job not in (select id from job)")
    rows = db.execute("select count(*) from temp.incoming").fetchone()[0]
    vanished = db.execute("select count(*) from job where row is null").fetchone()[0]
    renewed, after_ok, in_doubt = (fates.get(fate, 0) for fate in ("renewed", "ok", "doubt"))
    same = rows - new - renewed - after_ok - in_doubt
    otherwise, as_mended = (fates.get(fate, 0) for fate in ("otherwise", "mended"))
    return Changes(same, new, renewed, vanished, after_ok, in_doubt, mended, otherwise, as_mended)


def _insert(db: sqlite3.Connection) -> int:
    number_new(db)
    first = db.execute("select coalesce(max(id), 0) from job").fetchone()[0]
    db.execute(
        f"insert into job({_COLUMNS}, similar, alike, due, lane, todo)"
        f" select {_COLUMNS}, {_LOOK_ALIKE}, iif({_TO_SEND}, row, null), {_TO_SEND} from temp.incoming i"
        " where not exists (select 1 from met where met.row = i.row) order by row"
    )
    db.execute(
        "insert into item(job, pos, name, fold) select job.id, n.pos, n.name, n.fold from temp.incoming_item n"
        " join job on job.row = n.row where job.id > ? order by n.rowid",
        (first,),
    )
    return int(db.execute("select count(*) from job where id > ?", (first,)).fetchone()[0])


def take_changes(db: sqlite3.Connection, repeatable: Sequence[str]) -> dict[str, int]:
    """Rows that were found (`temp.met`) with other content, counted by their fate; `temp.changed` has them.

    An `ok` row stays as it was sent; so does one that may have happened and must not happen twice; any other is
    renewed, and what is known of its items is kept. Where even the text is the same, only how it is read is another;
    or the row is done as a feedback file mended it.
    """
    marks = ",".join("?" * len(repeatable))
    final = f"(job.state = 'ok' or (job.state = 'unknown' and (i.state = 'invalid' or job.command not in ({marks}))))"
    db.execute("drop table if exists temp.changed")
    db.execute(
        "create temp table changed as select job.id, i.row, i.state = 'invalid' as invalid, case"
        f" when not {final} then 'renewed' when job.id in (select job from temp.as_before) then 'mended'"
        " when m.same_text then 'otherwise'"
        " when job.state = 'ok' then 'ok' else 'doubt' end as fate"
        f" from {_FOUND} join job on job.id = m.job where job.content is not i.content",
        repeatable,
    )
    db.execute(
        "update job set code = 'changed_after_ok',"
        " message = 'The row was changed after it was ok; it is not sent again.'"
        " where id in (select id from changed where fate = 'ok')"
    )
    db.execute(
        "update job set message = 'The row was changed after it was sent, and what was sent may have happened.'"
        " where id in (select id from changed where fate = 'doubt')"
    )
    db.execute(
        "update job set content = i.content, state = 'invalid', code = i.code, message = i.message"
        " from temp.changed c join temp.incoming i on i.row = c.row"
        " where c.fate = 'renewed' and c.invalid and job.id = c.id"
    )
    _read_again(db, final, repeatable)
    _take_ids(db)
    return dict(db.execute("select fate, count(*) from changed group by fate").fetchall())


def _read_again(db: sqlite3.Connection, final: str, repeatable: Sequence[str]) -> None:
    """Take what rows send that are not done from the file, also where it should be the same."""
    db.execute(
        f"update job set params = {_PARAMS}, label = i.label, username = i.username, lane_key = i.lane_key,"
        " command = i.command, site = i.site, profile = i.profile, text = i.text"
        f" from {_FOUND} where job.id = m.job and job.content is i.content and i.state = 'pending' and not {final}",
        repeatable,
    )
    renewed = "select id, row from changed where fate = 'renewed' and not invalid"
    if not db.execute("select exists(select 1 from temp.incoming_item)").fetchone()[0]:
        _renew(db, renewed)
        return
    db.execute("create index if not exists temp.incoming_item_row on incoming_item(row, fold)")
    same_item = "item.job = job.id and item.fold = n.fold and item.name = n.name and item.pos = n.pos"
    _renew(
        db,
        f"{renewed} union select job.id, m.row from {_FOUND} join job on job.id = m.job"
        f" where job.content is i.content and i.state = 'pending' and not {final} and ("
        " exists (select 1 from temp.incoming_item n where n.row = m.row"
        f" and not exists (select 1 from item where {same_item}))"
        " or (select count(*) from item where item.job = job.id)"
        " != (select count(*) from temp.incoming_item n where n.row = m.row))",
        repeatable,
    )


def _take_ids(db: sqlite3.Connection) -> None:
    """A row that has an id of its own now is known by it from now on, done or not."""
    place_identities(
        db,
        f"select m.job as id, m.row from {_FOUND} where m.same_text and i.state = 'pending' and i.own_id is not null",
    )


def _renew(db: sqlite3.Connection, which: str, values: Sequence[str] = ()) -> None:
    """Give the rows of *which* (id, row) the content they have now; items that stay keep what is known of them."""
    db.execute("drop table if exists temp.renewed")
    db.execute("create temp table renewed(id integer primary key, row integer unique)")
    if not db.execute(f"insert into renewed {which}", values).rowcount:
        return
    place_identities(db, "select id, row from renewed")
    db.execute("create index if not exists temp.incoming_item_row on incoming_item(row, fold)")
    # what is known of a link is known of the two incidents it joins
    db.execute(
        "delete from item where job in (select job.id from renewed r join incoming i on i.row = r.row join job on"
        " job.id = r.id where job.command is not i.command or job.site is not i.site or job.label is not i.label)"
    )
    doubt = "job.state = 'unknown' and job.command is i.command"
    db.execute(
        "update job set content = i.content, command = i.command, site = i.site, label = i.label,"
        f" params = {_PARAMS}, profile = i.profile, text = i.text, (similar, alike, due) ="
        " (select d3_similar(i.command, i.site, i.params), d3_alike(i.command, i.site, i.params),"
        " d3_due(i.command, i.site, i.params)),"
        f" username = i.username, lane_key = i.lane_key, epoch = iif({doubt}, job.epoch, null),"
        f" state = iif({doubt}, job.state, 'pending'),"
        f" code = iif({doubt}, job.code, null), message = iif({doubt}, job.message, null)"
        " from temp.renewed r join temp.incoming i on i.row = r.row where job.id = r.id"
    )
    incoming = "temp.incoming_item n join temp.renewed r on r.row = n.row"
    db.execute(
        "delete from item where job in (select id from renewed)"
        f" and not exists (select 1 from {incoming} where r.id = item.job and n.fold = item.fold)"
    )
    db.execute(
        f"update item set pos = n.pos, name = n.name from {incoming} where item.job = r.id and item.fold = n.fold"
    )
    db.execute(
        f"insert into item(job, pos, name, fold) select r.id, n.pos, n.name, n.fold from {incoming}"
        " where not exists (select 1 from item where item.job = r.id and item.fold = n.fold)"
    )
    for (job,) in db.execute("select distinct job from item where job in (select id from renewed)").fetchall():
        _outcome_from_items(db, job)


def _outcome_from_items(db: sqlite3.Connection, job: int) -> None:
    """A row may be done, or no longer in doubt, because the items that were not are gone from it."""
    db.execute("update job set state = ?, code = ?, message = ? where id = ?", (*outcome_from_items(db, job), job))


def mark_interrupted(db: sqlite3.Connection) -> None:
    """Rows that an earlier owner left `sent`: they may have happened."""
    db.execute(
        "update job set state = 'unknown', maybe = 1, code = 'interrupted', done_at = null,"
        " message = 'The run ended after sending and before an answer was recorded.' where state = 'sent'"
    )
    db.execute(
        "update item set state = 'unknown', maybe = 1, code = 'interrupted',"
        " message = 'No answer was recorded.' where state = 'sent'"
    )


def mark_to_send(db: sqlite3.Connection, repeatable: Sequence[str], *, retry_unknown: bool, serial: bool) -> int:
    """Mark what this run is to send and put it into lanes; the number of rows marked."""
    marks = ",".join("?" * len(repeatable))
    selected = f"row in (select row from temp.incoming where {_TO_SEND})"
    if retry_unknown:
        _renew_unknown(db, selected)
    db.execute("update item set todo = 0 where todo = 1")
    db.execute(
        f"update job set todo = 1, lane = row where todo = 0 and {selected}"
        f" and (state in ('pending', 'failed', 'partial') or (state = 'unknown' and (? or command in ({marks}))))",
        (retry_unknown, *repeatable),
    )
    db.execute(
        "update item set todo = 1 where job in (select id from job where todo = 1) and (state in ('pending', 'unknown')"
        " or (state = 'failed' and coalesce(code, '') != ?))",
        (NOT_LINKED,),
    )
    # a row whose items are all final has nothing left to send
    db.execute(
        "update job set todo = 0 where todo = 1 and exists (select 1 from item where item.job = job.id)"
        " and not exists (select 1 from item where item.job = job.id and item.todo = 1)"
    )
    assign_lanes(db, serial=serial)
    return int(db.execute("select count(*) from job where todo = 1").fetchone()[0])


def _renew_unknown(db: sqlite3.Connection, selected: str) -> None:
    """Who asks for `unknown` rows to be sent again means them as they stand in the file now."""
    _renew(db, f"select job.id, job.row from job where job.{selected} and job.state = 'unknown'")
