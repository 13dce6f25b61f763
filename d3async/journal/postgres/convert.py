"""A run written by an older d3async: its identities become those of this version when it is submitted again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg.types.string import BytesBinaryDumper

from d3async.commands import all_commands
from d3async.journal.entries import PROFILE_MARK
from d3async.journal.postgres.dialect import RunStatements
from d3async.journal.postgres.scripts import run_all
from d3async.journal.postgres.texts import told
from d3async.sansio.identity import VERSION, request_digest
from d3async.sansio.marks import MARK_START, mark_in, mark_of, unmarked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import Connection

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
    kind, items = all_commands()[row.command], map(told, row.items or ())
    return request_digest(kind, params, told(row.site), _profile_of(row.lane_key), items), mark


def _profile_of(lane_key: str) -> str | None:
    """The profile that a row names, kept in front of its user."""
    return told(lane_key[1:].partition(PROFILE_MARK)[0]) if lane_key.startswith(PROFILE_MARK) else None
