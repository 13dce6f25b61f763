"""Rows of a feedback file on their way into the journal they came from: what it knows of them, how they change it."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from d3async.d3.commands import all_commands
from d3async.jobs.feedback_rows import (
    COLUMN,
    REFUSED,
    SHOWN,
    KnownItem,
    KnownRow,
    Pair,
    Ruling,
    fits,
    rule,
    rule_job,
    whole,
    with_reasons,
)
from d3async.jobs.identity import identify, text_digest
from d3async.jobs.job import Invalid, Job, Problem
from d3async.journal.model import Changes
from d3async.journal.sqlite.merge_rows import mark_interrupted, take_changes
from d3async.journal.sqlite.staging import PLACE_OF_JOB

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from d3async.jobs.feedback_rows import Mark

    Marked = tuple[Mark | None, Job | Invalid]
    Base = tuple[int, bytes]
    """A data row, and what it said when its mark was made."""


class KnownRows(Protocol):
    """What is asked of the journal."""

    def known(self, jobs: Sequence[int]) -> Mapping[int, KnownRow]:
        """What it knows of the rows with these numbers."""
        ...

    def line_of_twin(self, content: bytes, job: int) -> int | None:
        """The line of another row than *job* that asks for the same; None where there is none.

        0 is a row that may have happened and is no longer in the file.
        """
        ...


_CHUNK = 500
_UNREAD = ("invalid.cells", "invalid.json")
"""Rows that the mark itself may make readable: they are not mended by that."""


class Continuation:
    """Decides about each row by its mark, and counts. *uid* names the journal, *input_name* the file it began with.

    *is_unchanged* says whether a row's text says what another one, from the journal, says; *with_items* gives a text
    that lists some items with others instead. With *retry_unknown* rows
    of which nothing is known are brought in too; without *allow_duplicates* a row that is changed into another one of
    the file is wrong, unless its command may be done twice.
    """

    def __init__(
        self,
        book: KnownRows,
        uid: str,
        input_name: str,
        *,
        is_unchanged: Callable[[str, str], bool],
        with_items: Callable[[str, Sequence[str], Sequence[str]], str] = lambda raw, *_: raw,
        retry_unknown: bool = False,
        allow_duplicates: bool = False,
    ) -> None:
        self._book = book
        self._with_items = with_items
        self._allow_duplicates = allow_duplicates
        self._uid = uid
        self._input = input_name
        self._is_unchanged = is_unchanged
        self._retry_unknown = retry_unknown
        self._lines: dict[int, int] = {}
        self._refused: list[Pair] = []
        self._counts: dict[Ruling, int] = {}
        self._fitting = 0
        self.done = 0
        """Rows that are done as the file says."""
        self.unknown = 0
        """Rows that stay unsent because nothing is known of them."""

    def entries(
        self, rows: Iterable[Marked], keep: Callable[[list[Base]], None] = lambda _: None
    ) -> Iterator[Job | Invalid]:
        """Jobs to bring in, numbered as in the journal, and rows that are wrong. *keep* gets what jobs said before."""
        rows = iter(rows)
        while chunk := list(islice(rows, _CHUNK)):
            known = self._book.known([mark.job for mark, _ in chunk if mark is not None])
            bases: list[Base] = []
            found = [self._entry(mark, entry, known, bases) for mark, entry in chunk]
            keep(bases)
            yield from (entry for entry in found if entry is not None)

    def refused(self) -> tuple[Sequence[Pair], dict[Ruling, int]]:
        """The first rows for which nothing of the file may be sent, and how many there are by reason."""
        return with_reasons(self._refused, self._counts, fitting=self._fitting)

    def _entry(
        self, mark: Mark | None, entry: Job | Invalid, known: Mapping[int, KnownRow], bases: list[Base]
    ) -> Job | Invalid | None:
        if mark is None:
            cure = f"keep the one of the row that you mended; add new rows to {self._input}"
            return _wrong(entry, Problem("mark", COLUMN, "", "is no mark of a row", cure))
        first = self._lines.setdefault(mark.job, entry.line)
        if first != entry.line:
            return _wrong(entry, Problem("mark", COLUMN, str(mark), f"is on line {first} already", "keep one"))
        row = known.get(mark.job)
        ruling = rule(mark, self._uid, row)
        self._fitting += ruling is not Ruling.FOREIGN
        if row is None or ruling in REFUSED:
            self._refuse(Pair(ruling, entry.line, mark, entry.raw, row))
            return None
        if ruling is Ruling.STAYS and not (self._retry_unknown or _repeatable(row)):
            self.unknown += 1
            return None
        return self._read(mark, entry, row, ruling, bases)

    def _read(
        self, mark: Mark, entry: Job | Invalid, row: KnownRow, ruling: Ruling, bases: list[Base]
    ) -> Job | Invalid | None:
        if isinstance(entry, Invalid):
            self.done += ruling is Ruling.DONE
            return None if ruling is Ruling.DONE else entry._replace(row=row.row or entry.row)
        if row.code in _UNREAD and self._is_unchanged(entry.raw, row.raw):
            return _wrong(entry, Problem("unchanged", "", "", "is as it was", f"mend it: {row.message}"))
        return self._job(mark, entry, row, ruling, bases)

    def _job(self, mark: Mark, job: Job, row: KnownRow, ruling: Ruling, bases: list[Base]) -> Job | Invalid | None:
        listed, job = job.asked.items, whole(job, row)
        if job.asked.items != listed:
            job = job._replace(raw=self._with_items(job.raw, listed, job.asked.items))
        content = identify(job).content
        ruling = rule_job(ruling, job, content, row)
        if ruling in REFUSED:
            self._refuse(Pair(ruling, job.line, mark, job.raw, row))
            return None
        if ruling is Ruling.DONE:
            self.done += 1
            return None
        if (wrong := self._repeats(job, content, row)) is not None:
            return wrong
        number = row.row or job.row
        again = row.before is not None and not fits(mark, self._uid, row.content)
        bases.append((number, row.before if again and row.before is not None else row.content))
        return job._replace(row=number)

    def _repeats(self, job: Job, content: bytes, row: KnownRow) -> Invalid | None:
        if self._allow_duplicates or job.asked.kind.repeatable or content == row.content:
            return None
        line = self._book.line_of_twin(content, row.job)
        if line is None:
            return None
        cure = "--allow-duplicates if both are meant"
        where = f"line {line} of {self._input}" if line else f"a row that was sent and is no longer in {self._input}"
        return _wrong(job, Problem("duplicate", "", job.asked.subject, f"the same as {where}", cure))

    def _refuse(self, pair: Pair) -> None:
        self._counts[pair.ruling] = self._counts.get(pair.ruling, 0) + 1
        if len(self._refused) < SHOWN:
            self._refused.append(pair)


def _repeatable(row: KnownRow) -> bool:
    command = all_commands().get(row.command or "")
    return command is not None and command.repeatable


def _wrong(entry: Job | Invalid, problem: Problem) -> Invalid:
    return Invalid(entry.row, entry.line, entry.raw, (problem,))


_AMONG = "in (select value from json_each(?))"
_MAY_HAVE_HAPPENED = "state in ('ok', 'partial', 'unknown', 'sent')"
_FOUND = "temp.met m join temp.incoming i on i.row = m.row"
_TABLES = (
    "create temp table met(row integer primary key, job integer not null unique, same_text integer not null)",
    "create temp table as_before(job integer primary key)",
)


class FeedbackRows:
    """`continuation.Book` over the journal *db*, which keeps what rows said before in `temp.base`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._has_twins = False
        db.execute("drop table if exists temp.base")
        db.execute("create temp table base(row integer primary key, before blob not null)")

    def known(self, jobs: Sequence[int]) -> Mapping[int, KnownRow]:
        """See `Book.known`."""
        among = (json.dumps(jobs),)
        items: dict[int, list[KnownItem]] = {}
        found = self._db.execute(
            f"select job, name, fold, state, code from item where job {_AMONG} order by job, pos", among
        )
        for job, *item in found:
            items.setdefault(job, []).append(KnownItem(*item))
        rows = self._db.execute(
            "select id, row, line, state, code, message, coalesce(content, identity), mended.before, raw,"
            f" command, site, profile, label from job left join mended on mended.job = id where id {_AMONG}",
            among,
        )
        return {row[0]: KnownRow._make((*row, items.get(row[0], ()))) for row in rows}

    def line_of_twin(self, content: bytes, job: int) -> int | None:
        """See `Book.line_of_twin`."""
        if not self._has_twins:
            self._db.execute("drop table if exists temp.twin")
            self._db.execute(
                "create temp table twin as select content, id, iif(row is null, 0, line) as line from job"
                f" where state != 'invalid' and (row is not null or {_MAY_HAVE_HAPPENED})"
            )
            self._db.execute("create index temp.twin_content on twin(content)")
            self._has_twins = True
        asked = "select line from temp.twin where content = ? and id != ? order by line desc limit 1"
        found = self._db.execute(asked, (content, job)).fetchone()
        return None if found is None else int(found[0])

    def keep(self, bases: Sequence[Base]) -> None:
        """Keep what rows said when their marks were made."""
        self._db.executemany("insert or ignore into base values (?, ?)", bases)

    def is_unchanged(self, row: int) -> bool:
        """Whether a staged row asks for what it asks for in the journal: if it repeats another, that was allowed."""
        asked = "select job.content is i.content from temp.incoming i join job on job.row = i.row where i.row = ?"
        found = self._db.execute(asked, (row,)).fetchone()
        return found is not None and bool(found[0])

    def reject_ids_of_others(self) -> Sequence[tuple[int, int, str, int]]:
        """Take out staged rows whose own id another row of the file has: row, line, id, and the line of the other."""
        found = self._db.execute(
            "select i.row, i.line, i.own_id, min(other.line) from temp.incoming i join job other"
            " on other.identity = i.identity and other.row is not null and other.row != i.row"
            " where i.own_id is not null and i.state = 'pending' group by i.row order by i.row"
        ).fetchall()
        self._db.executemany("update incoming set state = 'invalid' where row = ?", [(row,) for row, *_ in found])
        return found


class DoneAsMended:
    """Says of rows of the run's own file that are invalid whether a feedback file mended them and they are done.

    Of rows with the same text as many are as were mended and are done.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._left: dict[bytes, int] = {}
        self.count = 0
        """How many it was said of."""
        db.execute("drop table if exists temp.done_text")
        db.execute(
            "create temp table done_text as select d.text, count(*) as rows from mended d join job on job.id = d.job"
            " where d.text is not null and job.state in ('ok', 'unknown', 'sent') group by d.text"
        )
        self._any = bool(db.execute("select exists(select 1 from temp.done_text)").fetchone()[0])
        db.execute("create index temp.done_text_text on done_text(text)")

    def __call__(self, entry: Invalid) -> bool:
        """Whether *entry* is done."""
        if not self._any:
            return False
        text = text_digest(entry.raw)
        found = self._db.execute("select rows from temp.done_text where text = ?", (text,)).fetchone()
        left = self._left.get(text, found[0] if found else 0)
        if left:
            self._left[text] = left - 1
            self.count += 1
        return left > 0


def continue_rows(db: sqlite3.Connection, repeatable: Sequence[str]) -> Changes:
    """Bring the staged rows (`Stage`) into the jobs whose rows they name; all other rows stay as they are.

    *repeatable* names the commands that may be sent twice. A row keeps its place in the file that the run began with.
    """
    mark_interrupted(db)
    db.execute("update job set lane = null, todo = 0 where lane is not null or todo != 0")
    for table in ("met", "as_before", "kept_text"):
        db.execute(f"drop table if exists temp.{table}")
    for statement in _TABLES:
        db.execute(statement)
    db.execute(
        "insert into met select i.row, job.id, 0 from temp.incoming i join job on job.row = i.row"
        " where i.state = 'pending'"
    )
    db.execute(
        f"insert into mended select job.id, b.before, job.text, {PLACE_OF_JOB} from {_FOUND}"
        " join job on job.id = m.job join temp.base b on b.row = m.row where job.content is not i.content"
        " on conflict(job) do update set before = excluded.before"
    )
    # a row that asks for the same is the row of the file it came from, however a feedback file writes it
    db.execute(
        f"create temp table kept_text as select job.id, job.text from {_FOUND} join job on job.id = m.job"
        " where job.content is i.content"
    )
    fates = take_changes(db, repeatable)
    db.execute("update job set text = k.text from temp.kept_text k where job.id = k.id")
    db.execute(
        f"update job set raw = i.raw from {_FOUND} where job.id = m.job and job.id not in (select id from kept_text)"
    )
    rows, same = (db.execute(f"select count(*) from temp.{table}").fetchone()[0] for table in ("met", "kept_text"))
    return Changes(same, 0, fates.get("renewed", 0), 0, 0, rows - same - fates.get("renewed", 0))


def all_ok(db: sqlite3.Connection, epoch: int, rows: int) -> bool:
    """Whether all of the *rows* that were to be sent in the run number *epoch* are `ok`."""
    asked = "select count(*) from job where epoch = ? and state = 'ok' and row is not null"
    return bool(db.execute(asked, (epoch,)).fetchone()[0] == rows)
