"""How the rows of a job file meet the rows a journal already knows: by identity, never by position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from d3async.sansio.outcome import NOT_LINKED

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Changes:
    """What a re-run found: rows as before, new, changed under the same id, gone from the file, ok but changed since."""

    same: int
    new: int
    changed: int
    vanished: int
    changed_after_ok: int


_MATCH = "job.identity = i.identity and job.occurrence = i.occurrence"


def adopt(db: sqlite3.Connection) -> Changes:
    """Bring the staged rows (`Stage`) into the journal."""
    before = db.execute("select count(*) from job").fetchone()[0]
    db.execute("update job set row = null, line = null, lane = null, todo = 0")
    changed, after_ok = _changed(db) if before else (0, 0)
    if before:
        db.execute(
            "update job set row = i.row, line = i.line, raw = i.raw, username = i.username, lane_key = i.lane_key,"
            f" label = coalesce(i.label, job.label) from temp.incoming i where {_MATCH}"
        )
    new = _insert(db)
    db.execute("delete from item where job in (select id from job where row is null and state = 'invalid')")
    db.execute("delete from job where row is null and state = 'invalid'")
    rows = db.execute("select count(*) from temp.incoming").fetchone()[0]
    vanished = db.execute("select count(*) from job where row is null").fetchone()[0]
    return Changes(rows - new - changed, new, changed, vanished, after_ok)


def _insert(db: sqlite3.Connection) -> int:
    first = db.execute("select coalesce(max(id), 0) from job").fetchone()[0]
    db.execute(
        "insert into job(row, line, identity, occurrence, content, command, username, site, lane_key, label, params,"
        " raw, state, code, message) select row, line, identity, occurrence, content, command, username, site, lane_key,"
        " label, params, raw, state, code, message from temp.incoming i"
        " where not exists (select 1 from job where job.identity = i.identity and job.occurrence = i.occurrence)"
        " order by row"
    )
    db.execute(
        "insert into item(job, pos, name, fold) select job.id, n.pos, n.name, n.fold from temp.incoming_item n"
        " join job on job.row = n.row where job.id > ? order by n.rowid",
        (first,),
    )
    return int(db.execute("select count(*) from job where id > ?", (first,)).fetchone()[0])


def _changed(db: sqlite3.Connection) -> tuple[int, int]:
    """Rows with the same id and other content: an `ok` or `unknown` one keeps what was sent, the others are renewed."""
    db.execute("drop table if exists temp.changed")
    db.execute(
        "create temp table changed as select job.id, i.row, job.state from job join temp.incoming i"
        f" on {_MATCH} where job.content is not i.content"
    )
    counts = dict(db.execute("select state in ('ok', 'unknown', 'sent'), count(*) from changed group by 1"))
    db.execute(
        "update job set code = 'changed_after_ok',"
        " message = 'The row was changed after it was ok; it is not sent again.'"
        " where id in (select id from changed where state = 'ok')"
    )
    db.execute("delete from changed where state in ('ok', 'unknown', 'sent')")
    db.execute(
        "update job set content = i.content, command = i.command, site = i.site, params = i.params, label = i.label,"
        " state = case when i.state = 'invalid' then 'invalid' when job.state = 'invalid' then 'pending' else job.state"
        f" end, code = i.code, message = i.message from temp.incoming i where {_MATCH}"
        " and job.id in (select id from changed)"
    )
    _renew_items(db)
    return counts.get(0, 0), counts.get(1, 0)


def _renew_items(db: sqlite3.Connection) -> None:
    """Items that stay keep what is known of them; the others go, new ones come."""
    db.execute(
        "delete from item where job in (select id from changed) and not exists (select 1 from temp.incoming_item n"
        " join changed c on c.row = n.row where c.id = item.job and n.fold = item.fold)"
    )
    db.execute(
        "insert into item(job, pos, name, fold) select c.id, n.pos, n.name, n.fold from temp.incoming_item n"
        " join changed c on c.row = n.row where not exists"
        " (select 1 from item where item.job = c.id and item.fold = n.fold)"
    )


def settle_leftovers(db: sqlite3.Connection) -> None:
    """Rows an earlier owner left `sent`: nobody knows whether they happened."""
    db.execute(
        "update job set state = 'unknown', maybe = 1, code = 'interrupted',"
        " message = 'The run ended after sending and before an answer was recorded.' where state = 'sent'"
    )
    db.execute("update item set state = 'unknown', maybe = 1, code = 'interrupted' where state = 'sent'")


def mark_todo(db: sqlite3.Connection, repeatable: Sequence[str], *, retry_unknown: bool, serial: bool) -> int:
    """Mark what this run is to send and put it into lanes; the number of rows marked."""
    marks = ",".join("?" * len(repeatable))
    db.execute("update item set todo = 0 where todo = 1")
    db.execute(
        "update job set todo = 1 where row in (select row from temp.incoming where selected) and (state = 'pending'"
        " or (state = 'failed' and coalesce(code, '') != ?) or state = 'partial'"
        f" or (state = 'unknown' and (? or command in ({marks}))))",
        (NOT_LINKED, retry_unknown, *repeatable),
    )
    db.execute(
        "update item set todo = 1 where job in (select id from job where todo = 1) and (state in ('pending', 'unknown')"
        " or (state = 'failed' and coalesce(code, '') != ?))",
        (NOT_LINKED,),
    )
    db.execute(
        "update job set todo = 0 where todo = 1 and state = 'partial'"
        " and not exists (select 1 from item where item.job = job.id and item.todo = 1)"
    )
    _assign_lanes(db, serial=serial)
    return int(db.execute("select count(*) from job where todo = 1").fetchone()[0])


def _assign_lanes(db: sqlite3.Connection, *, serial: bool) -> None:
    """A lane is named after its first row. Rows with items share a lane with all rows about the same source."""
    if not db.execute("select exists(select 1 from item)").fetchone()[0] and not serial:
        db.execute("update job set lane = row where row is not null")
        return
    db.execute("create temp table lane as select lane_key, min(row) as first from job where row is not null group by 1")
    db.execute("create unique index temp.lane_by_key on lane(lane_key)")
    shared = "1" if serial else "exists (select 1 from item where item.job = job.id)"
    db.execute(
        f"update job set lane = case when {shared} then (select first from lane where lane.lane_key = job.lane_key)"
        " else row end where row is not null"
    )
    db.execute("drop table lane")
    db.execute("update item set lane = (select lane from job where job.id = item.job)")
    db.execute(
        "update item set maybe = 1 where todo = 1 and exists (select 1 from item t where t.lane = item.lane"
        " and t.fold = item.fold and t.id != item.id and t.state in ('ok', 'unknown'))"
    )
