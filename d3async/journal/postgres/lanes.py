"""What is to be sent, in lanes, and these in chunks: `journal.lanes` in PostgreSQL's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from d3async.errors import JournalError
from d3async.sansio.merge import lane_in_wave, later_waves

if TYPE_CHECKING:
    from psycopg import Connection

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
    """Put the rows to be sent, each of which stands in a lane of its own, into the lanes they are to share.

    See `journal.lanes.assign_lanes`: rows of one source together, mirrored sources in different waves.
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
