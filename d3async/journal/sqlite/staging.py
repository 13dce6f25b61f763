"""The rows of a job file on their way in, kept on disk; which of them repeat others, or are rows of the journal.

A row is matched by its text as it was sent, else by its identity: two rows with the same text, site and command are
the same row, however the text is read now.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from d3async.d3.call import normalize_number
from d3async.jobs.identity import Repeated, identify, identity_of_invalid, invalid_words, judge_repeat, text_digest
from d3async.jobs.job import Invalid, Job

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator

    from d3async.jobs.identity import Rejection

_TABLES = (
    """create temp table incoming(
        row integer primary key, line integer, identity blob, occurrence integer default 0, content blob, own_id text,
        command text, username text, site text, lane_key text, label text, params text, raw text,
        state text, code text, message text, selected integer, facet1 text, facet2 text, profile text, text blob)""",
    "create temp table incoming_item(row integer, pos integer, name text, fold text)",
)
_INSERT = f"insert into incoming values ({', '.join('?' * 21)})"
_CHUNK = 2000


class Stage:
    """Takes `Job`s and `Invalid`s, finds duplicates among them, counts what the plan tells.

    With *keep* off (`check`) only what these need is stored.
    """

    def __init__(self, db: sqlite3.Connection, *, keep: bool = True) -> None:
        self._db = db
        self._keep = keep
        self.jobs = 0
        self.invalid = 0
        self.routed = False
        """Whether any row names a profile."""
        for table in _TABLES:
            db.execute(table)

    @property
    def rows(self) -> int:
        """Rows read, valid or not."""
        return self.jobs + self.invalid

    @property
    def repeats(self) -> bool:
        """Whether `duplicates` has allowed rows that repeat earlier ones."""
        found = self._db.execute("select exists(select 1 from incoming where occurrence > 0)").fetchone()
        return bool(found[0])

    def add(self, entries: Iterable[Job | Invalid]) -> None:
        """Store *entries*, reading them as they come."""
        entries = iter(entries)
        while chunk := list(islice(entries, _CHUNK)):
            self._db.executemany(_INSERT, map(self._encoded, chunk))
            self._db.executemany("insert into incoming_item values (?, ?, ?, ?)", _items(chunk))

    def _encoded(self, entry: Job | Invalid) -> tuple[Any, ...]:
        if isinstance(entry, Invalid):
            self.invalid += 1
            return _encoded_invalid(entry, keep=self._keep)
        self.jobs += 1
        self.routed = self.routed or entry.profile is not None
        return _encoded_job(entry, keep=self._keep)

    def duplicates(self, *, allow: bool, meant: Callable[[int], bool] = lambda _: False) -> Iterator[Invalid]:
        """Mark rows that repeat an earlier one, and yield each as the `Invalid` it becomes: see `judge_repeat`.

        With *allow*, and where *meant* says so of a row's number, it may repeat another.
        """
        for found in self._repeated():
            rejection = judge_repeat(found, allow=allow or meant(found.row))
            if rejection is None:
                self._db.execute("update incoming set occurrence = ? where row = ?", (found.occurrence, found.row))
            else:
                self._reject(found, rejection)
                yield Invalid(row=found.row, line=found.line, raw="", problems=(rejection.problem,))

    def _repeated(self) -> list[Repeated]:
        self._db.execute("create temp table if not exists repeated(identity blob primary key) without rowid")
        self._db.execute(
            "insert or ignore into repeated select identity from incoming group by identity having count(*) > 1"
        )
        if not self._db.execute("select exists(select 1 from repeated)").fetchone()[0]:
            return []
        self._db.execute("create index if not exists temp.incoming_item_row on incoming_item(row, fold)")
        # not a list of the file: only of rows that repeat another one
        found = self._db.execute(
            "select * from (select row, line, own_id is not null, command, state = 'pending', coalesce(own_id, label),"
            " first_value(row) over same, first_value(line) over same, row_number() over same - 1 as occurrence"
            " from incoming"
            " where identity in (select identity from repeated) window same as (partition by identity order by row))"
            " where occurrence > 0 order by row"
        )
        return list(map(Repeated._make, found))

    def _reject(self, found: Repeated, rejection: Rejection) -> None:
        self.jobs -= found.valid
        self.invalid += found.valid
        self._db.execute(
            "update incoming set state = 'invalid', code = ?, message = ?, identity = ? where row = ?",
            (rejection.code, rejection.message, rejection.identity, found.row),
        )
        self._db.execute("delete from incoming_item where row = ?", (found.row,))

    def facets(self) -> dict[str, int]:
        """How many different subjects (`facet1`) and people (`facet2`) the valid rows speak of, and items in all."""
        subjects, people = self._db.execute(
            "select count(distinct facet1), count(distinct facet2) from incoming where state = 'pending'"
        ).fetchone()
        items = self._db.execute("select count(*) from incoming_item").fetchone()[0]
        return {"subjects": subjects, "people": people, "items": items}

    def profiles(self) -> list[str | None]:
        """The profiles that valid rows name, sorted; None first where there are rows without one."""
        if not self.routed:
            return [None] if self.jobs else []
        found = self._db.execute("select distinct profile from incoming where state = 'pending' order by profile")
        return [profile for (profile,) in found]

    def commands(self) -> list[str]:
        """The names of the commands of its valid rows."""
        found = self._db.execute("select distinct command from temp.incoming where command is not null order by 1")
        return [command for (command,) in found]

    def close(self) -> None:
        """Forget the rows."""
        for table in ("incoming", "incoming_item", "repeated"):
            self._db.execute(f"drop table if exists temp.{table}")


def _encoded_job(job: Job, *, keep: bool) -> tuple[Any, ...]:
    identity, content, lane_key = identify(job)
    kind, params, subject, person, _ = job.asked
    return (
        job.row, job.line, identity, 0, content, _storable(job.key), kind.__name__, job.username, job.site,
        lane_key, subject, params if keep else None, job.raw if keep else None, "pending", None, None,
        job.selected, subject, person, job.profile, text_digest(job.raw) if keep else None,
    )  # fmt: skip


def _encoded_invalid(entry: Invalid, *, keep: bool) -> tuple[Any, ...]:
    identity = identity_of_invalid(entry)
    return (
        entry.row, entry.line, identity, 0, identity, _storable(entry.key), None, None, None, None, None, None,
        entry.raw if keep else None, "invalid", *invalid_words(entry), True, None, None, None,
        text_digest(entry.raw) if keep else None,
    )  # fmt: skip


def _items(chunk: list[Job | Invalid]) -> Iterator[tuple[int, int, str, str]]:
    for entry in chunk:
        if isinstance(entry, Job):
            yield from ((entry.row, at, name, normalize_number(name)) for at, name in enumerate(entry.asked.items))


def _storable(key: str | None) -> str | None:
    """*key* as SQLite takes it: JSON may hold halves of letters."""
    return key if key is None else key.encode("utf-8", "backslashreplace").decode()


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
_PAIR_TABLES = (
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
    for statement in _PAIR_TABLES:
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
