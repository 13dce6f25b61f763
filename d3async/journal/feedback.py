"""The rows of a feedback file in a run folder's journal: what it knows of them, and how they change it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from d3async.journal.adopt import Changes, settle_leftovers, take_changes
from d3async.journal.match import PLACE_OF_JOB
from d3async.sansio.feedback_rows import KnownItem, KnownRow

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from d3async.journal.continuation import Base

_AMONG = "in (select value from json_each(?))"
_MAY_HAVE_HAPPENED = "state in ('ok', 'partial', 'unknown', 'sent')"
_FOUND = "temp.met m join temp.incoming i on i.row = m.row"
_TABLES = (
    "create temp table met(row integer primary key, job integer not null unique, same_text integer not null)",
    "create temp table as_before(job integer primary key)",
)


class FeedbackBook:
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

    def reject_ids_of_others(self) -> Sequence[tuple[int, int, str, int]]:
        """Take out staged rows whose own id another row of the file has: row, line, id, and the line of the other."""
        found = self._db.execute(
            "select i.row, i.line, i.own_id, min(other.line) from temp.incoming i join job other"
            " on other.identity = i.identity and other.row is not null and other.row != i.row"
            " where i.own_id is not null and i.state = 'pending' group by i.row order by i.row"
        ).fetchall()
        self._db.executemany("update incoming set state = 'invalid' where row = ?", [(row,) for row, *_ in found])
        return found


def continue_rows(db: sqlite3.Connection, repeatable: Sequence[str]) -> Changes:
    """Bring the staged rows (`Stage`) into the jobs whose rows they name; all other rows stay as they are.

    *repeatable* names the commands that may be sent twice. A row keeps its place in the file that the run began with.
    """
    settle_leftovers(db)
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
