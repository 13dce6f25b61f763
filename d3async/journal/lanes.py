"""Which rows must not be in flight together: lanes, one after the other within, and waves of lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from d3async.journal.entries import PROFILE_MARK
from d3async.sansio.merge import lane_in_wave, later_waves

if TYPE_CHECKING:
    import sqlite3

_PARTED = "substr({0}, instr({0}, char(31)) + 1)"
_SUBJECT = _PARTED.format(_PARTED.format("lane_key"))
"""The last part of `lane_key`: user, site, subject."""
_WHERE = f"iif(profile is null, site, '{PROFILE_MARK}' || profile || '{PROFILE_MARK}' || site)"
"""Where an incident number means the same incident: `source.site`."""
_SHARING = "exists (select 1 from item where item.job = job.id)"


def assign_lanes(db: sqlite3.Connection, *, serial: bool) -> None:
    """Put the rows to be sent into lanes; until then each has its own. A lane is named after its first row.

    Rows with items share a lane with all others about the same source, whoever asks; with *serial* every row does so
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
