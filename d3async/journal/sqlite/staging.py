"""The rows of a job file on their way into a journal: kept on disk, so that memory does not grow with the file."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from d3async.journal.entries import Repeated, identity_of_invalid, invalid_words, job_entry, judge_repeat
from d3async.sansio.call import fold
from d3async.sansio.identity import text_digest
from d3async.sansio.job import Invalid, Job

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from d3async.journal.entries import Rejection

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

    def duplicates(self, *, allow: bool) -> Iterator[Invalid]:
        """Mark rows that repeat an earlier one, and yield each as the `Invalid` it becomes: see `judge_repeat`."""
        for found in self._repeated():
            rejection = judge_repeat(found, allow=allow)
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
    identity, content, lane_key = job_entry(job)
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
            yield from ((entry.row, at, name, fold(name)) for at, name in enumerate(entry.asked.items))


def _storable(key: str | None) -> str | None:
    """*key* as SQLite takes it: JSON may hold halves of letters."""
    return key if key is None else key.encode("utf-8", "backslashreplace").decode()
