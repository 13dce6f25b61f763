"""A job file's rows on their way in: by COPY, straight to where they stay if the run is new, else aside."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from psycopg.types.string import BytesBinaryDumper

from d3async.commands import all_commands
from d3async.errors import JournalError
from d3async.journal.entries import Repeated, identity_of_invalid, invalid_words, job_entry, judge_repeat
from d3async.journal.postgres.scripts import run_all
from d3async.journal.postgres.texts import kept, told
from d3async.sansio.call import fold
from d3async.sansio.job import Invalid, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from psycopg import Connection

    from d3async.journal.entries import Rejection

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


class Incoming:
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
        beside.wrong += [(entry.row, *map(kept, invalid_words(entry))) for entry in wrong]
        beside.left_out += left_out
        beside.own_ids += [(entry.row, kept(entry.key)) for entry in entries if entry.key is not None]
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
            # the one in C; for this type psycopg takes another one, in Python, unless it is told to
            cursor.adapters.register_dumper(bytes, BytesBinaryDumper)
            with cursor.copy(statement.encode()) as copy:
                copy.set_types(list(columns.values()))
                yield copy.write_row

    def _job(self, job: Job) -> tuple[Any, ...]:
        identity, content, lane_key = job_entry(job)
        kind, params, label, _, items = job.asked
        row, user, site, raw = job.row, job.username, job.site, job.raw
        source = source_number(lane_key) if items else None
        if not (raw.isprintable() and label.isprintable() and site.isprintable()) or user:
            user, site, lane_key, label, raw = user and kept(user), kept(site), kept(lane_key), kept(label), kept(raw)
        return (
            self._run, row, row, job.line, identity, None if job.key is None else content, kind.__name__,
            user, site, source, lane_key, label, params, raw,
        )  # fmt: skip

    def _wrong(self, entry: Invalid) -> tuple[Any, ...]:
        nothing = (None,) * (len(_COLUMNS) - 6)
        return (self._run, entry.row, entry.row, entry.line, identity_of_invalid(entry), *nothing, kept(entry.raw))

    def _items(self, jobs: Iterable[Job], rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        for job, row in zip(jobs, rows, strict=True):
            source = row[_SOURCE]
            if source is None:
                continue
            self.has_items = True
            for at, name in enumerate(job.asked.items):
                yield self._run, job.row, at, source, kept(name), kept(fold(name)), job.selected

    def duplicates(self, *, allow: bool) -> Iterator[Invalid]:
        """See `Stage.duplicates`."""
        found = self._db.execute(_REPEATED.format(self.table).encode(), {"run": self._run}).fetchall()
        for repeated in map(Repeated._make, found):
            rejection = judge_repeat(repeated._replace(value=repeated.value and told(repeated.value)), allow=allow)
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
            (found.row, rejection.code, kept(rejection.message)),
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
    """The number of whoever asks about an incident: 64 bits of a digest; should two ever meet, storing them fails."""
    return int.from_bytes(blake2b(lane_key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), signed=True)
