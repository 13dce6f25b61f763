"""No row is submitted that looks like one submitted before to the same D3, unless the user means it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from heapq import nsmallest
from typing import TYPE_CHECKING, Any

from psycopg import errors

from d3async.d3.commands import all_commands
from d3async.errors import FolderHeldError, SimilarPair
from d3async.jobs.identity import look_alike
from d3async.journal.model import NOTHING_SIMILAR, OUTCOME, TOLD, Similar, by_line, row_fields
from d3async.journal.postgres.connections import run_all, unescape
from d3async.policy.look_alikes import Lines, NewRow, SentRow, lines_of, matched

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from psycopg import Connection

    Pair = tuple[NewRow, SentRow]

MAY_HAVE_HAPPENED = "('sent', 'ok', 'partial', 'unknown')"
_PAGE = 2000
_ALL = (1 << 31) - 1
_ROWS = """
select r.id, r.command, r.params, r.site from d3async_row r {}
where r.run = %(run)s and r.params is not null and r.command = any(%(kinds)s) and r.id > %(after)s and r.id <= %(last)s
"""
_PRESENT = f"""
join d3async_job j on j.run = r.run and j.id = r.id
    and (j.todo or (j.gone and j.state in {MAY_HAVE_HAPPENED}))"""
_DIGESTS = """
create temp table if not exists d3async_digest(id integer primary key, similar_key bigint, alike_key bigint,
    due_key bigint);
truncate d3async_digest"""
_COPY = b"copy d3async_digest(id, similar_key, alike_key, due_key) from stdin (format binary)"
_ENTER = """
insert into d3async_similar(run, id, similar_key, alike_key, due_key)
select %(run)s, id, similar_key, alike_key, due_key from d3async_digest
on conflict (run, id) do update
set similar_key = excluded.similar_key, alike_key = excluded.alike_key, due_key = excluded.due_key"""
_LAST = """
select coalesce((select last from d3async_entered where run = %(run)s), 0),
    coalesce((select max(id) from d3async_row where run = %(run)s), 0)"""
_KEEP = """
insert into d3async_entered(run, last) values (%(run)s, %(last)s)
on conflict (run) do update set last = excluded.last"""


def enter_new(db: Connection[Any], run: int) -> None:
    """Enter the rows of *run* that came since this was done last, of a run that was only submitted all its rows."""
    found = db.execute(_LAST.encode(), {"run": run}).fetchone()
    after, last = found or (0, 0)
    if last > after:
        _enter(db, run, "", after, last)
        db.execute(_KEEP.encode(), {"run": run, "last": last})


def enter_present(db: Connection[Any], run: int) -> None:
    """Enter the rows of *run*, which was submitted again, that are to be sent, and those that happened and are gone.

    As they are now: what was entered of a row that has been changed since is replaced.
    """
    _enter(db, run, _PRESENT, 0, _ALL)


def is_entered(db: Connection[Any], run: int) -> bool:
    """Whether any row of *run* was entered: then those that change have to be entered again."""
    asked = "select exists (select from d3async_similar where run = %s)"
    found = db.execute(asked, (run,)).fetchone()
    return bool(found and found[0])


def _enter(db: Connection[Any], run: int, which: str, after: int, last: int) -> None:
    kinds = all_commands()
    compared = [name for name, kind in kinds.items() if kind.similar and not kind.repeatable]
    run_all(db, _DIGESTS)
    with db.cursor(name="d3async_enter") as found:
        asked = {"run": run, "after": after, "last": last, "kinds": compared}
        found.execute(_ROWS.format(which).encode(), asked)
        while page := found.fetchmany(_PAGE):
            with db.cursor() as cursor, cursor.copy(_COPY) as copy:
                copy.set_types(["int4", "int8", "int8", "int8"])
                for id_, command, params, site in page:
                    copy.write_row((id_, *look_alike(kinds[command], params, unescape(site))))
    db.execute(_ENTER.encode(), {"run": run})


WAIT = 30.0
"""Seconds for which another submission for the same tenant is waited for."""
_LOCK = "select pg_advisory_xact_lock(hashtextextended('d3async tenant ' || %s, 0))"
_RUNS = b"""
select r.id, r.meta, r.cancelled_at is null from d3async_run r
where r.tenant = (select tenant from d3async_run where id = %(run)s) and r.id <> all(%(ours)s)"""
_UNTOUCHED = b"select exists (select from d3async_chunk where run = %s and untouched)"
_HAS_GONE = f"select exists (select from d3async_job j where j.run = %s and j.gone and j.state in {MAY_HAVE_HAPPENED})"
_TABLES = """
create temp table if not exists d3async_pair(run integer, id integer, line integer, primary key (run, id));
create temp table if not exists d3async_wanted(
    id integer primary key, similar_key bigint, alike_key bigint, due_key bigint, line integer, first boolean);
create temp table if not exists d3async_seen(similar_key bigint, due_key bigint, run integer, id integer);
create temp table if not exists d3async_named(id integer primary key);
truncate d3async_wanted, d3async_named;
delete from d3async_pair where run = %(run)s"""
_WANTED = """
insert into d3async_wanted
select s.id, s.similar_key, s.alike_key, coalesce(s.due_key, 0), r.line, {first}
from d3async_similar s join d3async_row r on r.run = s.run and r.id = s.id {joined}
where s.run = %(run)s and r.meant is not true"""
_OF_NEW_RUN = _WANTED.format(first="true", joined="")
# a row that was changed has no epoch until it is sent as it is now
_OF_KNOWN_RUN = _WANTED.format(
    first="j.attempts = 0 or j.epoch is null",
    joined="join d3async_job j on j.run = s.run and j.id = s.id and j.todo and j.state in ('pending', 'failed')",
)
_GONE = f"""
select s.* from d3async_job j join d3async_similar s on s.run = j.run and s.id = j.id
where j.run = %(run)s and j.gone and j.state in {MAY_HAVE_HAPPENED}"""
# a row without a d3async_job waits to be sent
_ELSEWHERE = f"""
select s.* from d3async_similar s left join d3async_job j on j.run = s.run and j.id = s.id
where s.run = any(%(others)s)
    and (coalesce(j.state, '') in {MAY_HAVE_HAPPENED} or (coalesce(j.todo, true) and s.run = any(%(waiting)s)))"""
_SEEN = """
truncate d3async_seen;
insert into d3async_seen
select s.similar_key, coalesce(s.due_key, 0), s.run, s.id from ({source}) s
where s.similar_key in (select similar_key from d3async_wanted where {asked});
analyze d3async_seen"""
_NAMED = """
insert into d3async_named select w.id from d3async_wanted w
where {asked} and exists (
    select from ({source}) s
    where s.alike_key = w.alike_key and s.due_key = w.due_key and s.similar_key <> w.similar_key)
on conflict do nothing"""
_NEW = """
select w.similar_key, w.due_key, w.line, w.id from d3async_wanted w
where {asked} and w.similar_key in (select similar_key from d3async_seen) order by 1, 2, 4"""
_SENT = "select similar_key, due_key, run, id from d3async_seen order by 1, 2, 3, 4"
_FORGET_PAIRED = b"delete from d3async_wanted w using d3async_pair p where p.run = %(run)s and p.id = w.id"
_COUNT = b"""
select (select count(*) from d3async_pair where run = %(run)s), (select count(*) from d3async_named n
    where not exists (select from d3async_pair p where p.run = %(run)s and p.id = n.id))"""
_LINES = b"""
select min(line), max(line) from (
    select line, line - dense_rank() over (order by line) as block from d3async_pair where run = %(run)s
) lines group by block"""
_MEAN = """
update d3async_row r set meant = true from d3async_pair p where r.run = p.run and r.id = p.id"""
_ALLOWED = """
 and p.run = %(run)s and exists (
    select from unnest(%(firsts)s::int[], %(lasts)s::int[]) a(first, last) where p.line between a.first and a.last)"""
_FIELDS = b"""
select r.command, r.params, r.mark, j.state, j.sent_at, u.name
from d3async_row r join d3async_run u on u.id = r.run left join d3async_job j on j.run = r.run and j.id = r.id
where r.run = %s and r.id = %s"""


def lock_tenant(db: Connection[Any], tenant: str, *, wait: float = WAIT) -> None:
    """Until the transaction of *db* ends no other submission for *tenant* is compared with what there is.

    Raises `FolderHeldError` when one is at it for longer than *wait* seconds.
    """
    try:
        db.execute("select set_config('lock_timeout', %s, true)", (f"{wait * 1000:.0f}ms",))
        db.execute(_LOCK.encode(), (tenant,))
        db.execute("select set_config('lock_timeout', '0', true)")
    except (errors.LockNotAvailable, errors.DeadlockDetected):
        message = f"Rows for {tenant} are being submitted by another process at this moment: wait until that is done."
        raise FolderHeldError(message, code="held") from None


@dataclass(frozen=True, slots=True)
class _Runs:
    """Other runs that rows of *run* are compared with; rows of those *waiting* may be sent yet."""

    run: int
    others: tuple[int, ...]
    waiting: tuple[int, ...]

    @property
    def asked(self) -> dict[str, Any]:
        return {"run": self.run, "others": list(self.others), "waiting": list(self.waiting)}


class SimilarSubmitted:
    """Looks up the rows that the submitted *run* is to send to *base_url*, inside its transaction, its tenant locked.

    *ours* are runs that are not compared with it: itself, and those submitted after it in the same transaction.
    """

    def __init__(self, db: Connection[Any], run: int, base_url: str, *, ours: Sequence[int]) -> None:
        self._db = db
        self._run = run
        self._base_url = base_url
        self._ours = [run, *ours]

    def find(self, allowed: Lines) -> Similar:
        """What its rows look like, but for those on *allowed* lines, which are meant from now on."""
        runs = self._runs()
        gone = self._one(_HAS_GONE, self._run)
        if not (runs.others or gone or is_entered(self._db, self._run)):
            return NOTHING_SIMILAR
        untouched = self._one(_UNTOUCHED, self._run)
        for other in runs.others:
            enter_new(self._db, other)
        (enter_new if untouched else enter_present)(self._db, self._run)
        while True:
            found = self._look(runs, untouched=untouched, gone=gone)
            if not (found.count and self._mean(allowed)):
                return found

    def _runs(self) -> _Runs:
        rows = self._db.execute(_RUNS, {"run": self._run, "ours": self._ours}).fetchall()
        here = [(run, waits) for run, meta, waits in rows if _same_d3(json.loads(meta), self._base_url)]
        return _Runs(self._run, tuple(run for run, _ in here), tuple(run for run, waits in here if waits))

    def _look(self, runs: _Runs, *, untouched: bool, gone: bool) -> Similar:
        asked = runs.asked
        run_all(self._db, _TABLES, asked)
        self._db.execute((_OF_NEW_RUN if untouched else _OF_KNOWN_RUN).encode(), asked)
        self._db.execute(b"analyze d3async_wanted")
        first: list[Pair] = []
        other_day = 0
        for there, source, which in ((gone, _GONE, "first"), (bool(runs.others), _ELSEWHERE, "true")):
            if there:
                pairs = _Pairs(self._db, self._run)
                first = nsmallest(TOLD, [*first, *self._compared(pairs, source, which, asked)], key=by_line)
                other_day += pairs.other_day
        count, other_name = self._db.execute(_COUNT, asked).fetchone() or (0, 0)
        if not (count or other_day or other_name):
            return NOTHING_SIMILAR
        lines = lines_of(self._db.execute(_LINES, asked).fetchall())
        return Similar(count, tuple(map(self._pair, first)), lines, other_day, other_name)

    def _compared(self, pairs: _Pairs, source: str, which: str, asked: dict[str, Any]) -> list[Pair]:
        """Pair the wanted rows (*which* of them) with those of *source*; the first pairs of the file."""
        run_all(self._db, _SEEN.format(source=source, asked=which), asked)
        # a page at a time: there may be as many as rows in the file
        with self._db.cursor(name="d3async_new") as new, self._db.cursor(name="d3async_sent") as sent:
            new.itersize = sent.itersize = _PAGE
            new.execute(_NEW.format(asked=which).encode())
            sent.execute(_SENT)
            found = matched(map(NewRow._make, new), map(SentRow._make, sent))
            first = nsmallest(TOLD, pairs.kept(found), key=by_line)
        self._db.execute(_FORGET_PAIRED, asked)
        self._db.execute(_NAMED.format(source=source, asked=which).encode(), asked)
        return first

    def _mean(self, lines: Lines) -> bool:
        """Rows just found on *lines* are meant: this is kept. Whether there were any."""
        if not lines:
            return False
        firsts, lasts = zip(*(lines.ranges or ((0, (1 << 31) - 1),)), strict=True)
        asked = {"run": self._run, "firsts": list(firsts), "lasts": list(lasts)}
        return self._db.execute((_MEAN + _ALLOWED).encode(), asked).rowcount > 0

    def _pair(self, pair: Pair) -> SimilarPair:
        new, sent = pair
        fields, *_ = self._fields(self._run, new.job)
        theirs, state, sent_at, name = self._fields(sent.run or self._run, sent.job)
        outcome = OUTCOME.get(state, "unknown")
        folder = "" if sent.run in {None, self._run} else f"run {name}"
        return SimilarPair(new.line, fields, theirs, outcome, sent_at, "", folder)

    def _fields(self, run: int, id_: int) -> tuple[dict[str, str], str, float | None, str]:
        found = self._db.execute(_FIELDS, (run, id_)).fetchone()
        if found is None:
            raise LookupError(f"row {id_} of run {run} is gone while it is compared")
        command, params, mark, state, sent_at, name = found
        return row_fields(command, params, mark), state or "pending", sent_at, unescape(name)

    def _one(self, question: str | bytes, *values: object) -> Any:
        text = question.encode() if isinstance(question, str) else question
        found = self._db.execute(text, values).fetchone()
        return found[0] if found else None


def mean_found(db: Connection[Any]) -> None:
    """The rows that were found over *db*, of every run, are meant."""
    if db.execute("select to_regclass('pg_temp.d3async_pair') is not null").fetchone() == (True,):
        db.execute(_MEAN.encode())


class _Pairs:
    """Stores pairs while they pass by, and counts rows that only have incident and name in common with another."""

    def __init__(self, db: Connection[Any], run: int) -> None:
        self._db = db
        self._run = run
        self._waiting: list[NewRow] = []
        self.other_day = 0

    def kept(self, found: Iterable[tuple[NewRow, SentRow | None]]) -> Iterator[Pair]:
        for new, sent in found:
            if sent is None:
                self.other_day += 1
                continue
            self._waiting.append(new)
            if len(self._waiting) >= _PAGE:
                self._store()
            yield new, sent
        self._store()

    def _store(self) -> None:
        ids, lines = [row.job for row in self._waiting], [row.line for row in self._waiting]
        self._db.execute(
            "insert into d3async_pair select %s, * from unnest(%s::int[], %s::int[])", (self._run, ids, lines)
        )
        self._waiting.clear()


def _same_d3(meta: dict[str, str], base_url: str) -> bool:
    return meta.get("base_url", "").casefold() == base_url.casefold()
