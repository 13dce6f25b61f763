"""Which row of a file submitted again is which row of its run: `journal.match` in PostgreSQL's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from d3async.journal.postgres.scripts import run_all

if TYPE_CHECKING:
    from psycopg import Connection

_SENT = "(j.attempts > 0 or j.state not in ('pending', 'invalid'))"
_DONE = "j.state in ('ok', 'unknown', 'sent')"
_TEXT = "sha256(convert_to({0}, 'UTF8'))"
_SENT_TEXT = "coalesce(r.sent_raw, r.raw)"
_PLACE = "concat({0}.command, chr(31), {0}.site)"
_KNOWN = "from d3async_row r join d3async_job j on j.run = r.run and j.id = r.id where r.run = %(run)s"
_HERE = "not exists (select from d3async_met m where m.row = i.row)"
_THERE = "not exists (select from d3async_met m where m.id = r.id)"
_TABLES = """
create temp table if not exists d3async_met(row integer primary key, id integer not null unique, by_text boolean);
create temp table if not exists d3async_repeats(identity bytea primary key);
truncate d3async_met, d3async_repeats;
insert into d3async_repeats
select identity from d3async_row where run = %(run)s and occurrence > 0
union select identity from d3async_incoming where occurrence > 0"""
_SINGLE = f"""
from d3async_incoming i
join d3async_row r on r.run = %(run)s and r.identity = i.identity and r.occurrence = i.occurrence
join d3async_job j on j.run = r.run and j.id = r.id
where i.occurrence = 0 and not exists (select from d3async_repeats s where s.identity = i.identity)
    and {_HERE} and {_THERE}"""
# nearly all rows of a file that is submitted again
_AS_BEFORE = f"insert into d3async_met select i.row, r.id, true {_SINGLE} and {_DONE} and {_SENT_TEXT} = i.raw"
_LEFT = f"select exists(select {_KNOWN} and {_SENT} and {_THERE})"
# the n-th is the n-th; where the file has fewer of them than the run, those that are done come first
_PAIRED = """
insert into d3async_met
with file as (
    select row, key, row_number() over (partition by key order by row) as nth,
        count(*) over (partition by key) as most from ({file}) f
), known as (
    select id, key, row_number() over (partition by key order by done desc, id) as rank from ({known}) k
), chosen as (
    select k.id, k.key, row_number() over (partition by k.key order by k.id) as nth
    from known k join file f on f.key = k.key and f.nth = 1 where k.rank <= f.most
)
select f.row, c.id, {by_text} from file f join chosen c on c.key = f.key and c.nth = f.nth"""


def _by_text(valid: str, key: str) -> str:
    known = f"select r.id, {key.format(_TEXT.format(_SENT_TEXT), _PLACE.format('r'))} as key, {_DONE} as done"
    file = f"select i.row, {key.format(_TEXT.format('i.raw'), _PLACE.format('i'))} as key from d3async_incoming i"
    return _PAIRED.format(
        file=f"{file} where {valid} and {_HERE}",
        known=f"{known} {_KNOWN} and r.command is not null and {_SENT} and {_THERE}",
        by_text="true",
    )


_BY_TEXT = (
    _by_text("i.params is not null", "({0}, {1})"),
    # of a row that cannot be read now it is not known where it would go
    _by_text("i.params is null", "{0}"),
)
_BY_IDENTITY = f"insert into d3async_met select i.row, r.id, false {_SINGLE}"
_REPEATED = "identity in (select identity from d3async_repeats)"
_BY_REPEATED = _PAIRED.format(
    file=f"select i.row, i.identity as key from d3async_incoming i where i.{_REPEATED} and {_HERE}",
    known=f"select r.id, r.identity as key, {_DONE} as done {_KNOWN} and r.{_REPEATED} and {_THERE}",
    by_text="false",
)


def match_rows(db: Connection[Any], run: int) -> None:
    """Fill `d3async_met`: rows of the file (`d3async_incoming`) and those of *run* that they are. New ones have none.

    *by_text* says whether a row that was sent has the text that it had then.
    """
    asked = {"run": run}
    run_all(db, f"{_TABLES};{_AS_BEFORE}", asked)
    left = db.execute(_LEFT.encode(), asked).fetchone()
    if left is not None and left[0]:
        run_all(db, ";".join(_BY_TEXT), asked)
    run_all(db, f"{_BY_IDENTITY};{_BY_REPEATED}", asked)
