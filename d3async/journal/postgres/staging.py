"""A job file's rows on their way in by binary COPY; which of them repeat others, or are rows of the run already."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg.types.string import BytesBinaryDumper

from d3async.d3.call import normalize_number
from d3async.d3.commands import all_commands
from d3async.d3.task_search import MARK_START, mark_in, mark_of, unmarked
from d3async.errors import JournalError
from d3async.jobs.identity import (
    PROFILE_MARK,
    VERSION,
    Repeated,
    identify,
    identity_of_invalid,
    invalid_words,
    judge_repeat,
    request_digest,
)
from d3async.jobs.job import Invalid, Job
from d3async.journal.postgres.connections import RunStatements, escape, run_all, unescape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from psycopg import Connection

    from d3async.jobs.identity import Rejection

    Entry = Job | Invalid

_CHUNK = 5000
_PART = 250
_COLUMNS = {
    "run": "int4", "id": "int4", "row": "int4", "line": "int4", "identity": "bytea", "content": "bytea",
    "command": "text", "username": "text", "site": "text", "source": "int8", "lane_key": "text", "label": "text",
    "params": "text", "raw": "text",
}  # fmt: skip
_ITEM_COLUMNS = {
    "run": "int4", "job": "int4", "pos": "int4", "source": "int8", "name": "text", "fold": "text", "todo": "bool",
}  # fmt: skip
_SOURCE = list(_COLUMNS).index("source")
_TEMPORARY = """
create temp table if not exists d3async_wrong(row integer primary key, code text, message text);
create temp table if not exists d3async_left_out(row integer primary key);
create temp table if not exists d3async_own_id(row integer primary key, own_id text)"""
_ASIDE = """
create temp table if not exists d3async_incoming(like d3async_row including defaults);
create temp table if not exists d3async_incoming_item(like d3async_item including defaults including identity)"""
_USED = b"""
select name from unnest(array['d3async_wrong', 'd3async_left_out', 'd3async_own_id', 'd3async_incoming',
    'd3async_incoming_item']) name where pg_relation_size(to_regclass('pg_temp.' || name)) > 0"""
_REPEATED = """
select * from (
    select i.row, line, params is null or content is not null, command, params is not null, coalesce(own_id, label),
        first_value(i.row) over same, first_value(line) over same, row_number() over same - 1 as occurrence
    from {0} i left join d3async_own_id o on o.row = i.row where run = %(run)s and identity in (
        select identity from {0} where run = %(run)s group by identity having count(*) > 1
    ) window same as (partition by identity order by i.row)
) found where occurrence > 0 order by row"""


@dataclass(slots=True)
class _Beside:
    """What of some rows belongs into tables of its own."""

    items: list[tuple[Any, ...]] = field(default_factory=list)
    wrong: list[tuple[Any, ...]] = field(default_factory=list)
    left_out: list[tuple[Any, ...]] = field(default_factory=list)
    own_ids: list[tuple[Any, ...]] = field(default_factory=list)

    def tables(self, items: str) -> Iterator[tuple[str, Mapping[str, str], Sequence[tuple[Any, ...]]]]:
        """Name, columns and rows of each; *items* is the name of that of the items."""
        yield items, _ITEM_COLUMNS, self.items
        yield "d3async_wrong", {"row": "int4", "code": "text", "message": "text"}, self.wrong
        yield "d3async_left_out", {"row": "int4"}, self.left_out
        yield "d3async_own_id", {"row": "int4", "own_id": "text"}, self.own_ids


class PostgresStage:
    """Takes `Job`s and `Invalid`s inside the transaction of *db*; `table` and `items` say where they are."""

    def __init__(self, db: Connection[Any], run: int, tenant: str, *, aside: bool) -> None:
        self._db = db
        self._tenant = tenant
        self._run = run
        self.table = "d3async_incoming" if aside else "d3async_row"
        self.items = "d3async_incoming_item" if aside else "d3async_item"
        self.jobs = 0
        self.invalid = 0
        self.left_out = 0
        self.has_items = False
        run_all(db, _TEMPORARY)
        if aside:
            run_all(db, _ASIDE)
        # to empty what is empty takes as long as a hundred rows
        if used := [name for (name,) in db.execute(_USED).fetchall()]:
            db.execute(f"truncate {', '.join(used)}".encode())

    @property
    def rows(self) -> int:
        """Rows read, valid or not."""
        return self.jobs + self.invalid

    def add(self, entries: Iterable[Entry]) -> None:
        """Store *entries*, reading them as they come."""
        entries = iter(entries)
        for first in entries:
            self._take(chain([first], islice(entries, _CHUNK - 1)))

    def _take(self, entries: Iterator[Entry]) -> None:
        """Store *entries*; what of them belongs into other tables waits until their rows are in."""
        beside = _Beside()
        with self._copy(self.table, _COLUMNS) as write:
            # few at a time, so that they are still in the processor's cache when they are written
            while part := list(islice(entries, _PART)):
                for row in self._rows(part, beside):
                    write(row)
        for table, columns, rows in beside.tables(self.items):
            if rows:
                with self._copy(table, columns) as write:
                    for row in rows:
                        write(row)

    def _rows(self, entries: Sequence[Entry], beside: _Beside) -> list[tuple[Any, ...]]:
        jobs = [entry for entry in entries if isinstance(entry, Job)]
        wrong = [entry for entry in entries if isinstance(entry, Invalid)]
        self._refuse_strangers(jobs)
        rows = list(map(self._job, jobs))
        left_out = [(job.row,) for job in jobs if not job.selected]
        beside.items += self._items(jobs, rows)
        beside.wrong += [(entry.row, *map(escape, invalid_words(entry))) for entry in wrong]
        beside.left_out += left_out
        beside.own_ids += [(entry.row, escape(entry.key)) for entry in entries if entry.key is not None]
        self.jobs += len(jobs)
        self.invalid += len(wrong)
        self.left_out += len(left_out)
        return [*rows, *map(self._wrong, wrong)]

    def _refuse_strangers(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            if job.profile not in {None, self._tenant}:
                message = f"Line {job.line} is for {job.profile}, the run for {self._tenant}: submit them apart."
                raise JournalError(message, code="other_tenant")

    @contextmanager
    def _copy(self, table: str, columns: Mapping[str, str]) -> Iterator[Callable[[tuple[Any, ...]], None]]:
        statement = f"copy {table}({', '.join(columns)}) from stdin (format binary)"
        with self._db.cursor() as cursor:
            # the one in C; for this type psycopg takes another one, in Python, unless it is set to
            cursor.adapters.register_dumper(bytes, BytesBinaryDumper)
            with cursor.copy(statement.encode()) as copy:
                copy.set_types(list(columns.values()))
                yield copy.write_row

    def _job(self, job: Job) -> tuple[Any, ...]:
        identity, content, lane_key = identify(job)
        kind, params, label, _, items = job.asked
        row, user, site, raw = job.row, job.username, job.site, job.raw
        source = source_number(lane_key) if items else None
        if not (raw.isprintable() and label.isprintable() and site.isprintable()) or user:
            user, site, lane_key, label, raw = (
                user and escape(user),
                escape(site),
                escape(lane_key),
                escape(label),
                escape(raw),
            )
        return (
            self._run, row, row, job.line, identity, None if job.key is None else content, kind.__name__,
            user, site, source, lane_key, label, params, raw,
        )  # fmt: skip

    def _wrong(self, entry: Invalid) -> tuple[Any, ...]:
        nothing = (None,) * (len(_COLUMNS) - 6)
        return (self._run, entry.row, entry.row, entry.line, identity_of_invalid(entry), *nothing, escape(entry.raw))

    def _items(self, jobs: Iterable[Job], rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        for job, row in zip(jobs, rows, strict=True):
            source = row[_SOURCE]
            if source is None:
                continue
            self.has_items = True
            for at, name in enumerate(job.asked.items):
                yield self._run, job.row, at, source, escape(name), escape(normalize_number(name)), job.selected

    def duplicates(self, *, allow: bool) -> Iterator[Invalid]:
        """See `Stage.duplicates`."""
        found = self._db.execute(_REPEATED.format(self.table).encode(), {"run": self._run}).fetchall()
        for repeated in map(Repeated._make, found):
            rejection = judge_repeat(repeated._replace(value=repeated.value and unescape(repeated.value)), allow=allow)
            if rejection is None:
                self._change("occurrence = %(value)s", repeated.row, value=repeated.occurrence)
            else:
                self._reject(repeated, rejection)
                yield Invalid(row=repeated.row, line=repeated.line, raw="", problems=(rejection.problem,))

    def _change(self, what: str, row: int, **values: object) -> None:
        statement = f"update {self.table} set {what} where run = %(run)s and row = %(row)s and id = %(row)s"
        self._db.execute(statement.encode(), {"run": self._run, "row": row, **values})

    def _reject(self, found: Repeated, rejection: Rejection) -> None:
        self.jobs -= found.valid
        self.invalid += found.valid
        self._change("identity = %(value)s, params = null, source = null", found.row, value=rejection.identity)
        self._db.execute(f"delete from {self.items} where run = %s and job = %s".encode(), (self._run, found.row))
        self._db.execute(
            "insert into d3async_wrong values (%s, %s, %s)"
            " on conflict (row) do update set code = excluded.code, message = excluded.message",
            (found.row, rejection.code, escape(rejection.message)),
        )

    def facets(self) -> dict[str, int]:
        """See `Stage.facets`."""
        people = {name: kind.facets.get("people") for name, kind in all_commands().items()}
        aliases = {name: all_commands()[name].parameter(field) for name, field in people.items() if field}
        person = "".join(f" when '{name}' then params::json ->> '{alias}'" for name, alias in sorted(aliases.items()))
        asked = f"case command{person} end" if person else "null"
        found = self._db.execute(
            f"select count(distinct label), count(distinct {asked}) from {self.table}"
            " where run = %s and params is not null".encode(),
            (self._run,),
        ).fetchone()
        items = self._db.execute(f"select count(*) from {self.items} where run = %s".encode(), (self._run,)).fetchone()
        subjects, persons = found or (0, 0)
        return {"subjects": subjects, "people": persons, "items": items[0] if items else 0}


def source_number(lane_key: str) -> int:
    """The number of an account and its incident: 64 bits of a digest; should two ever meet, storing them fails."""
    return int.from_bytes(blake2b(lane_key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), signed=True)


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
_REPEATED_TEXTS = "identity in (select identity from d3async_repeats)"
_BY_REPEATED = _PAIRED.format(
    file=f"select i.row, i.identity as key from d3async_incoming i where i.{_REPEATED_TEXTS} and {_HERE}",
    known=f"select r.id, r.identity as key, {_DONE} as done {_KNOWN} and r.{_REPEATED_TEXTS} and {_THERE}",
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


_PAGE = 2000
_ROWS = """
select r.id, r.identity, r.occurrence, r.command, r.site, r.lane_key, r.params,
    (select array_agg(t.name order by t.pos, t.id) from d3async_item t where t.run = r.run and t.job = r.id)
from d3async_row r left join d3async_job j on j.run = r.run and j.id = r.id
where r.run = %(run)s and r.params is not null and r.command = any(%(known)s)
    and coalesce(j.state, 'pending') <> 'invalid' order by r.id"""
_ASKS = """
create temp table if not exists d3async_asks(id integer primary key, asks bytea, mark text);
truncate d3async_asks"""
_COPY = b"copy d3async_asks(id, asks, mark) from stdin (format binary)"
_CONVERT = """
update d3async_row r set identity = case when r.content is null then a.asks else r.identity end,
    content = case when r.content is not null then a.asks end, mark = a.mark
from d3async_asks a where r.run = %(run)s and r.id = a.id;
update d3async_row r set occurrence = found.place from (
    select id, row_number() over (partition by identity order by occurrence, id) - 1 as place from d3async_row
    where run = %(run)s and identity in (
        select identity from d3async_row where run = %(run)s group by identity having count(*) > 1)
) found where r.run = %(run)s and r.id = found.id and r.occurrence <> found.place;
update d3async_row r set sent_raw = '' from d3async_job j
where r.run = %(run)s and j.run = r.run and j.id = r.id
    and (j.code = 'changed_after_ok' or (j.state = 'unknown' and j.message = %(in_doubt)s));
update d3async_run set identity = %(version)s where id = %(run)s"""


class _Row(NamedTuple):
    id: int
    identity: bytes
    occurrence: int
    command: str
    site: str
    lane_key: str
    params: str
    items: Sequence[str] | None


def convert(db: Connection[Any], run: int, *, in_doubt: str) -> None:
    """Work out the identities of *run* anew from what its rows ask for. Rows with an id of their own keep theirs.

    *in_doubt* is the message of rows that were changed in the file after they may have happened.
    """
    salt = RunStatements(db, run, str(run)).salt
    run_all(db, _ASKS)
    with db.cursor(name="d3async_convert") as rows:
        rows.execute(_ROWS.encode(), {"run": run, "known": list(all_commands())})
        while page := rows.fetchmany(_PAGE):
            with db.cursor() as cursor:
                cursor.adapters.register_dumper(bytes, BytesBinaryDumper)
                with cursor.copy(_COPY) as copy:
                    copy.set_types(["int4", "bytea", "text"])
                    for row in map(_Row._make, page):
                        copy.write_row((row.id, *_asks(row, salt)))
    run_all(db, _CONVERT, {"run": run, "version": VERSION, "in_doubt": in_doubt})


def _asks(row: _Row, salt: str) -> tuple[bytes, str | None]:
    """What tells *row* from others without its id, and the mark in what it sends: it was made of the old identity."""
    params, mark = row.params, None
    if MARK_START in params:
        known, found = json.loads(params), mark_of(salt, row.identity, row.occurrence)
        if mark_in(known, found):
            mark = found
            params = json.dumps(unmarked(known, found), ensure_ascii=False, separators=(",", ":"))
    kind, items = all_commands()[row.command], map(unescape, row.items or ())
    return request_digest(kind, params, unescape(row.site), _profile_of(row.lane_key), items), mark


def _profile_of(lane_key: str) -> str | None:
    """The profile that a row names, kept in front of its user."""
    return unescape(lane_key[1:].partition(PROFILE_MARK)[0]) if lane_key.startswith(PROFILE_MARK) else None
