"""One run of the fleet as it stands at one moment: what `journal.read.JournalReader` is for a run folder."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from d3async.errors import JournalError
from d3async.journal.figures import ANSWERED, Figures
from d3async.journal.postgres.dialect import statement_text
from d3async.journal.postgres.schema import check_now
from d3async.journal.postgres.texts import MARK, told
from d3async.journal.postgres.translated import translated
from d3async.journal.postgres.untouched import ROWS
from d3async.journal.reader_base import ReaderBase
from d3async.journal.records import ItemRecord, Owner, RowRecord
from d3async.journal.states import INTERRUPTED, states_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Self

    from d3async.sansio.row_marks import Mark

_PAGE = 2000
_TEXTS = [RowRecord._fields.index(name) for name in ("raw", "message", "label")]
_RUN = """
select r.id, r.round, r.meta, r.tenant, l.facts
from d3async_run r left join d3async_round l on l.run = r.id and l.round = r.round where r.name = %s"""
_SPOKEN = """
    case {0}.state when 'pending' then 'unsent' when 'sent' then 'unknown' else coalesce({0}.state, 'unsent') end,
    case {0}.state when 'sent' then 'interrupted' else coalesce({0}.code{2}, '') end,
    case {0}.state when 'sent' then '{1}' else coalesce({0}.message{3}, '') end"""
# rows that were to be sent when the run was stopped say why
_LEFT = ", case when j.id is null or (j.state = 'pending' and j.todo and j.code is null) then %({0})s::text end"
_ITEMS = """
left join (
    select job, count(*) as items, count(*) filter (where state = 'ok') as ok,
        count(*) filter (where state = 'failed') as failed,
        count(*) filter (where state in ('unknown', 'sent')) as unknown,
        count(*) filter (where state = 'pending') as pending
    from d3async_item where run = {run} group by job
) i on i.job = r.id"""
_TALLY = ", ".join(f"case when i.items > i.pending then i.{name} end" for name in ("ok", "failed", "unknown"))
_ROWS = """
select r.row, r.line, {spoken}, j.http, coalesce(j.attempts, 0), j.sent_at, j.done_at, r.raw, {tally}, {more}
from d3async_row r left join d3async_job j on j.run = r.run and j.id = r.id {joined}
where r.run = {run} and r.row is not null
    and (%(states)s::text[] is null or coalesce(j.state, 'pending') = any(%(states)s)) order by {order}"""
_ITEM_ROWS = """
select r.row, r.line, coalesce(r.label, ''), i.name, {spoken}
from d3async_job j join d3async_row r on r.run = j.run and r.id = j.id
join d3async_item i on i.run = j.run and i.job = j.id
where j.run = {run} and not j.gone and (%(states)s::text[] is null or j.state = any(%(states)s))
order by r.row, i.pos, i.id"""
_ANSWERED = f"from d3async_job where run = {{run}} and not gone and {ANSWERED}"
POSTGRES = Figures(
    mark="%s",
    spans=f"select round, min(coalesce(sent_at, done_at)), max(done_at) {_ANSWERED} group by round",
    slowed="select round, min(at) from d3async_event where run = {run} and kind = 'throttled' group by round",
    answered="select trunc((done_at - %s) / %s)::int as at, count(*) filter (where state = 'ok'),"
    f" count(*) filter (where state <> 'ok') {_ANSWERED} and round = %s group by at",
    throttled="select trunc((at - %s) / %s)::int, count(*) from d3async_event"
    " where run = {run} and round = %s and kind = 'throttled' group by 1",
    pauses="select at - case kind when 'pause' then seconds else 0 end, seconds from d3async_event"
    " where run = {run} and round = %s and kind in ('pause', 'outage') and seconds > 0"
    " order by seconds desc, at limit %s",
    latencies="select case {0} end, count(*) from d3async_job"
    f" where run = {{{{run}}}} and not gone and sent_at is not null and {ANSWERED} group by 1",
)
_WHO = re.compile(r"pid (\d+) on (\S+)")


class PostgresReader(ReaderBase):
    """The run *name* at one moment: whatever is asked, the answers belong together, also while workers are at it.

    A context manager with a connection of its own; *folder* is where its files go. Memory does not grow with the run:
    rows stream from the server. Raises `JournalError` when there is no such run (`no_run`), when the tables are
    missing or newer, or when the database does not answer.
    """

    figures = POSTGRES

    def __init__(self, conninfo: str, name: str, *, folder: Path | None = None) -> None:
        super().__init__(name)
        self.name = name
        self.folder = Path(name) if folder is None else folder
        self._cursors = count()
        with self._translated():
            self._db = psycopg.connect(conninfo, application_name="d3async reader", connect_timeout=10)
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        with self._translated():
            self._db.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            self._db.read_only = True
            check_now(self._db)
            found = self._db.execute(_RUN, (self.name,)).fetchone()
        if found is None:
            raise JournalError(f"The database has no run {self.name}.", code="no_run")
        self.id, self._round, meta, self.tenant, facts = found
        stop = json.loads(facts or "{}").get("stop")
        why = stop and f"The run stopped before it: {stop['message']}"
        self._stop = {"stop": stop and stop["code"], "why": why}
        self._meta: dict[str, str] = json.loads(meta)
        self._has_items = bool(self._one("select exists(select 1 from d3async_item where run = {run})"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the moment and of the connection."""
        self._db.close()

    def meta(self) -> dict[str, str]:
        """Everything the journal says about the run and its file."""
        return dict(self._meta)

    def owner(self) -> Owner | None:
        """Whoever has had a chunk of it open for longest."""
        told_of = self.query(
            "select who, since from d3async_chunk where run = {run} and who is not null order by since limit 1"
        )
        for who, since in told_of:
            known = _WHO.search(who)
            return Owner(int(known[1]), known[2], since) if known else Owner(0, who, since)
        return None

    def counts_by_profile(self) -> dict[str | None, dict[str, int]]:
        """A run of the fleet has one tenant."""
        return {None: {**self.counts(), "invalid": 0}}

    def rows(self, outcomes: Iterable[str] | None = None, *, full: bool = False) -> Iterator[RowRecord]:
        """Rows of the current file, in its order; only those of *outcomes* if any; label and answer only if *full*."""
        sql = _ROWS.format(
            run=self.id,
            spoken=_SPOKEN.format("j", INTERRUPTED, _LEFT.format("stop"), _LEFT.format("why")),
            tally=_TALLY if self._has_items else "null, null, null",
            more="r.label, j.answer" if full else "null, null",
            joined=_ITEMS.format(run=self.id) if self._has_items else "",
            # until a file is submitted again its rows have the order in which they came
            order="r.id" if self._round <= 1 else "r.row",
        )
        for page in self._pages(sql, outcomes, merged=self._round <= 1):
            yield from _readable(map(RowRecord._make, page), page)

    def items(self, outcomes: Iterable[str] | None = None) -> Iterator[ItemRecord]:
        """Items of the current file's rows, in the rows' order; only of rows of *outcomes* if any are given."""
        sql = _ITEM_ROWS.format(run=self.id, spoken=_SPOKEN.format("i", INTERRUPTED, "", ""))
        for page in self._pages(sql, outcomes):
            for row, line, *texts in page:
                yield ItemRecord(row, line, *map(told, texts))

    def marks(self, outcomes: Iterable[str]) -> Iterator[Mark] | None:  # noqa: ARG002 - see `Reader.marks`
        """Rows of a run of the fleet have no marks: there is no run folder whose run a file could continue."""
        return None

    def written(self) -> dict[str, list[str]]:
        """Nothing is noted of files that are written from a run of the fleet."""
        return {}

    def answer(self, number: int) -> str | None:
        """D3's answer as text; None where it was not kept."""
        body: str | None = self._one("select body from d3async_answer where run = {run} and id = %s", number)
        return body and told(body)

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of one small SQL question; `{run}` in it stands for the run's id, `%s` for each of *values*."""
        with self._translated():
            return self._db.execute(sql.replace("{run}", str(self.id)).encode(), values).fetchall()

    def _ask(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        with self._translated():
            return self._db.execute(statement_text(statement), {"run": self.id, **values}).fetchall()

    def _unopened(self) -> int:
        return int(self._one(f"select coalesce(sum(rows), 0) from {ROWS} where run = {{run}}"))

    def _one(self, sql: str, *values: object) -> Any:
        found = self.query(sql, *values)
        return found[0][0] if found else None

    def _pages(
        self, sql: str, outcomes: Iterable[str] | None, *, merged: bool = False
    ) -> Iterator[Sequence[tuple[Any, ...]]]:
        """Rows as the server finds them; *merged* where two indexes have their order and nothing need be sorted."""
        states = None if outcomes is None else states_of(outcomes)
        with self._translated(), self._db.cursor(name=f"d3async_{next(self._cursors)}") as cursor:
            self._plan("off" if merged else "default")
            cursor.execute(sql.encode(), {"states": states, **self._stop})
            self._plan("default")
            # the server looks for the next page while this one is worked on
            with ThreadPoolExecutor(1, thread_name_prefix="d3async-reader") as ahead:
                coming = ahead.submit(cursor.fetchmany, _PAGE)
                while page := coming.result():
                    coming = ahead.submit(cursor.fetchmany, _PAGE)
                    yield page

    def _plan(self, how: str) -> None:
        for way in ("bitmapscan", "hashjoin", "nestloop", "sort"):
            self._db.execute(f"set local enable_{way} to {how}".encode())

    def _translated(self) -> AbstractContextManager[None]:
        return translated(f"{self.name} cannot be read")


def _readable(rows: Iterable[RowRecord], page: Sequence[Sequence[Any]]) -> Iterable[RowRecord]:
    """*rows* of *page* with their texts as they were given; looked for together, as hardly any has to be mended."""
    if not any(MARK in "".join(filter(None, map(itemgetter(at), page))) for at in _TEXTS):
        return rows
    return (
        row._replace(raw=told(row.raw), message=told(row.message), label=row.label and told(row.label)) for row in rows
    )
