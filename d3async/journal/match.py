"""Which row of a job file is which row of a journal: by its text as it was sent, else by its identity.

Two rows with the same text, site and command are the same row, however the text is read now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

_SENT = "(job.attempts > 0 or job.state not in ('pending', 'invalid'))"
_DONE = "job.state in ('ok', 'unknown', 'sent')"
_PLACE = "coalesce({0}command, '') || char(31) || coalesce({0}site, '') || char(31) || coalesce({0}profile, '')"
PLACE_OF_JOB = f"iif(job.command is null, null, {_PLACE.format('job.')})"
"""Where a row goes; null of a row that was never readable."""
_TEXT = f"hex(text) || {_PLACE.format('')}"
_HERE = "not exists (select 1 from met where met.row = i.row)"
_THERE = "not exists (select 1 from met where met.job = job.id)"
_SAME = "job.identity = i.identity and job.occurrence = i.occurrence"
_SINGLE = "i.occurrence = 0 and not exists (select 1 from repeats r where r.identity = i.identity)"
_TABLES = (
    "create temp table met(row integer primary key, job integer not null unique, same_text integer not null)",
    "create temp table repeats(identity blob primary key) without rowid",
    "create temp table as_before(job integer primary key)",
    """insert into repeats select identity from job where occurrence > 0
    union select identity from temp.incoming where occurrence > 0""",
)
_PAIRED = """
with file as (
    select row, key, row_number() over (partition by key order by row) as nth,
        count(*) over (partition by key) as most from ({file})
), known as (
    select id, key, row_number() over (partition by key order by done desc, id) as rank from ({known})
), chosen as (
    select k.id, k.key, row_number() over (partition by k.key order by k.id) as nth
    from known k join file f on f.key = k.key and f.nth = 1 where k.rank <= f.most
)
insert into met select f.row, c.id, {same_text} from file f join chosen c on c.key = f.key and c.nth = f.nth"""
"""The nth to the nth; where the file has fewer of them than the journal knows, those that are done come first."""


def match_rows(db: sqlite3.Connection) -> None:
    """Fill `temp.met`: rows of the file (`temp.incoming`) and the jobs that they are. Rows that are new have none.

    *same_text* says whether a row that was sent has the text that it had then.
    """
    for table in ("met", "repeats", "as_before"):
        db.execute(f"drop table if exists temp.{table}")
    for statement in _TABLES:
        db.execute(statement)
    if not db.execute("select exists(select 1 from job)").fetchone()[0]:
        return
    # nearly all rows of a file that is run again
    db.execute(
        f"insert into met select i.row, job.id, 1 from temp.incoming i join job on {_SAME}"
        f" where {_SINGLE} and job.text = i.text and {_DONE}"
    )
    _by_text(db)
    db.execute(
        f"insert into met select i.row, job.id, 0 from temp.incoming i join job on {_SAME}"
        f" where {_SINGLE} and {_HERE} and {_THERE}"
    )
    repeated = "identity in (select identity from repeats)"
    _pair(
        db,
        f"select row, identity as key from temp.incoming i where {repeated} and {_HERE}",
        f"select id, identity as key, {_DONE} as done from job where {repeated} and {_THERE}",
        same_text=0,
    )
    _by_text_before(db)


def _by_text_before(db: sqlite3.Connection) -> None:
    """Find rows that still say what they said before a feedback file changed them; `temp.as_before` has their jobs."""
    if not db.execute("select exists(select 1 from mended)").fetchone()[0]:
        return
    known = f"from mended d join job on job.id = d.job where {_THERE}"
    _pair(
        db,
        f"select row, {_TEXT} as key from temp.incoming i where state = 'pending' and {_HERE}"
        " and text in (select text from mended)",
        f"select id, hex(d.text) || d.place as key, {_DONE} as done {known} and d.place is not null",
        same_text=0,
    )
    _pair(
        db,
        f"select row, hex(text) as key from temp.incoming i where {_HERE} and text in (select text from mended)"
        " and (state = 'invalid' or text in (select text from mended where place is null))",
        f"select id, hex(d.text) as key, {_DONE} as done {known}",
        same_text=0,
    )
    db.execute(
        "insert into as_before select d.job from mended d join temp.met m on m.job = d.job"
        " join temp.incoming i on i.row = m.row where i.text = d.text"
        f" and (i.state = 'invalid' or d.place is null or d.place = {_PLACE.format('i.')})"
    )


def _by_text(db: sqlite3.Connection) -> None:
    left = f"from job where {_SENT} and text is not null and {_THERE}"
    if not db.execute(f"select exists(select 1 {left})").fetchone()[0]:
        return
    texts = f"text in (select text {left})"
    _pair(
        db,
        f"select row, {_TEXT} as key from temp.incoming i where state = 'pending' and {texts} and {_HERE}",
        f"select id, {_TEXT} as key, {_DONE} as done {left}",
        same_text=1,
    )
    # of a row that cannot be read now it is not known where it would go
    _pair(
        db,
        f"select row, hex(text) as key from temp.incoming i where state = 'invalid' and {texts} and {_HERE}",
        f"select id, hex(text) as key, {_DONE} as done {left}",
        same_text=1,
    )


def _pair(db: sqlite3.Connection, file: str, known: str, *, same_text: int) -> None:
    db.execute(_PAIRED.format(file=file, known=known, same_text=same_text))


def place_identities(db: sqlite3.Connection, which: str) -> None:
    """Give the jobs of *which* (id, row) the identity of their row in the file, each an occurrence of its own."""
    db.execute("drop table if exists temp.placed")
    db.execute("create temp table placed(id integer primary key, row integer, identity blob, occurrence integer)")
    db.execute(
        "insert into placed"
        " select w.id, w.row, i.identity, row_number() over (partition by i.identity order by w.row) - 1"
        f" from ({which}) w join temp.incoming i on i.row = w.row join job on job.id = w.id"
        " where job.identity is not i.identity"
    )
    db.execute(
        "update placed set occurrence = occurrence + coalesce((select max(job.occurrence) + 1 from job"
        " where job.identity = placed.identity), 0)"
    )
    db.execute("update job set identity = p.identity, occurrence = p.occurrence from temp.placed p where job.id = p.id")


def number_new(db: sqlite3.Connection) -> None:
    """Give new rows an occurrence that no job of the same identity has."""
    db.execute(
        "update incoming set occurrence = n.at from ("
        " select i.row, row_number() over (partition by i.identity order by i.row) - 1"
        " + coalesce((select max(job.occurrence) + 1 from job where job.identity = i.identity), 0) as at"
        f" from temp.incoming i where {_HERE} and (i.identity in (select identity from repeats)"
        " or exists (select 1 from job where job.identity = i.identity))"
        ") n where n.row = incoming.row"
    )
