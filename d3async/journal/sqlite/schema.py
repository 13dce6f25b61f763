"""Tables of the journal in SQLite, their upgrades step by step, and the functions that statements call."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING

from d3async.d3.commands import all_commands
from d3async.d3.task_search import MARK_START, mark_in, mark_of, with_mark, without_mark
from d3async.errors import JournalError
from d3async.jobs.identity import VERSION as IDENTITY
from d3async.jobs.identity import LookAlike, digest, look_alike, request_digest, text_digest

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

VERSION = 3

TABLES = """
create table meta(key text primary key, value text) without rowid;
create table run(
    epoch integer primary key, pid integer, host text, started_at real, finished_at real, exit_code integer,
    facts text
);
create table job(
    id integer primary key,
    row integer, line integer,
    identity blob not null, occurrence integer not null, content blob,
    command text, username text, site text, lane_key text, lane integer, label text,
    params text, raw text not null,
    todo integer not null default 0,
    state text not null, prior text,
    code text, message text, http integer, attempts integer not null default 0,
    sent_at real, done_at real, epoch integer, answer integer, maybe integer not null default 0,
    profile text, text blob, similar integer, alike integer, due integer, mark text,
    meant integer not null default 0
);
create unique index job_identity on job(identity, occurrence);
create index job_row on job(row);
create index job_todo on job(lane, id) where todo = 1;
create index job_routed on job(profile, lane, id) where todo = 1 and profile is not null;
create table source(id integer primary key, lane_key text not null unique, fold text not null, site text not null);
create index source_fold on source(fold, site);
create table item(
    id integer primary key,
    job integer not null references job(id), pos integer not null, source integer references source(id),
    name text not null, fold text not null,
    todo integer not null default 0,
    state text not null default 'pending', prior text, code text, message text, maybe integer not null default 0
);
create index item_job on item(job, pos);
create index item_twin on item(source, fold);
create index item_todo on item(source, id) where todo = 1;
create index item_open on item(job) where todo = 1;
create table answer(id integer primary key, body text);
create table event(epoch integer, at real, kind text, seconds real, note text);
create table mended(job integer primary key, before blob not null, text blob, place text);
"""


_OWN = frozenset(re.findall(r"create (?:unique )?((?:table|index) [a-z_]+)", TABLES))


def check_parts(db: sqlite3.Connection, path: Path) -> None:
    """Raise `JournalError` where the journal at *path* holds a part that d3async does not make, such as a trigger.

    A view or a trigger would run its maker's statements inside ours. Reads the schema alone, and runs nothing of it.
    """
    db.execute("pragma trusted_schema = off")
    for kind, name, table, sql in db.execute("select type, name, tbl_name, coalesce(sql, '') from sqlite_schema"):
        virtual = sql.lower().split()[:2] == ["create", "virtual"]
        if name.startswith("sqlite_") and not virtual:
            continue
        if virtual or f"{kind} {name}" not in _OWN:
            what = f'{"virtual " if virtual else ""}{kind} "{name}"' + (f' on "{table}"' if kind == "trigger" else "")
            message = (
                f"{path} holds the {what}, which d3async never makes. The journal was changed from outside, so it is"
                " not used. Restore the journal from a copy, or start again with another folder (-o)."
            )
            raise JournalError(message, code="journal_changed")


def add_functions(db: sqlite3.Connection) -> None:
    """`d3_text(raw)`; `d3_similar`, `d3_alike` and `d3_due` of (command, site, params).

    `d3_marked` and `d3_unmarked` of (params, mark) are params with the mark and without it; null is no mark.
    """
    last: tuple[tuple[str | None, ...], LookAlike] = ((), LookAlike(None, None, None))

    def known(*row: str | None) -> LookAlike:
        nonlocal last
        if last[0] != row:
            command, site, params = row
            kind = all_commands().get(command or "")
            found = look_alike(kind, params, site or "") if kind and params else LookAlike(None, None, None)
            last = (row, found)
        return last[1]

    db.create_function("d3_marked", 2, partial(_changed, with_mark), deterministic=True)
    db.create_function("d3_unmarked", 2, partial(_changed, without_mark), deterministic=True)
    db.create_function("d3_text", 1, text_digest, deterministic=True)
    db.create_function("d3_similar", 3, lambda *row: known(*row).similar, deterministic=True)
    db.create_function("d3_alike", 3, lambda *row: known(*row).alike, deterministic=True)
    db.create_function("d3_due", 3, lambda *row: known(*row).due, deterministic=True)


def _changed(change: Callable[[str, str], str], params: str, mark: str | None) -> str:
    return params if mark is None else change(params, mark)


_ITEMS = "(select json_group_array(name) from (select name from item where item.job = job.id order by pos))"
_NEW_COLUMNS = (
    "text blob",
    "similar integer",
    "alike integer",
    "due integer",
    "mark text",
    "meant integer not null default 0",
)
_LOOK_ALIKE = (
    "update job set text = iif(code = 'changed_after_ok', null, d3_text(raw)),"
    " similar = d3_similar(command, site, params), alike = d3_alike(command, site, params),"
    " due = d3_due(command, site, params)"
)
_OCCURRENCES = (
    "update job set occurrence = found.place from ("
    " select id, row_number() over (partition by identity order by occurrence, id) - 1 as place from job"
    " where identity in (select identity from job group by identity having count(*) > 1)"
    ") found where job.id = found.id"
)


def upgrade(db: sqlite3.Connection, version: int) -> None:
    """Make a journal of an older *version* one of this one, in the open transaction."""
    if version == VERSION:
        return
    for newer in range(version + 1, VERSION + 1):
        for step in _STEPS[newer]:
            if isinstance(step, str):
                db.execute(step)
            else:
                step(db)
    db.execute("update meta set value = ? where key = 'schema'", (str(VERSION),))


def uid_of(meta: Mapping[str, str]) -> str:
    """What tells a journal from all others; of one older than version 3 always the same, for it keeps none."""
    return meta.get("uid") or digest("uid", meta.get("created_at", ""), meta.get("base_url", "")).hex()[:16]


def _identities(db: sqlite3.Connection) -> None:
    """Digests of version 3 in every row, identities of version 2 in those whose identity is what they ask for."""
    meta = dict(db.execute("select key, value from meta"))
    db.execute("insert or replace into meta values ('uid', ?), ('identity', ?)", (uid_of(meta), str(IDENTITY)))
    add_functions(db)
    db.create_function("d3_asks", 5, _asks, deterministic=True)
    _keep_marks(db, meta.get("created_at", ""))
    db.execute(_LOOK_ALIKE)
    db.execute("drop index job_identity")
    db.execute("create temp table asked(id integer primary key, asks blob)")
    known = ",".join("?" * len(all_commands()))
    db.execute(
        f"insert into asked select id, d3_asks(command, site, profile, d3_unmarked(params, mark), {_ITEMS}) from job"
        f" where params is not null and state != 'invalid' and command in ({known})",
        list(all_commands()),
    )
    # a row without an id of its own has the same digest twice
    db.execute(
        "update job set identity = iif(identity = content, asks, identity), content = asks"
        " from asked where job.id = asked.id"
    )
    db.execute("drop table asked")
    db.execute(_OCCURRENCES)
    db.execute("create unique index job_identity on job(identity, occurrence)")


def _asks(command: str, site: str, profile: str | None, params: str, items: str) -> bytes:
    return request_digest(all_commands()[command], params, site, profile, json.loads(items))


def _keep_marks(db: sqlite3.Connection, salt: str) -> None:
    """Keep the mark in what a row sent: it was made of the identity of then."""
    asked = (
        "select id, params, mark_of(identity, occurrence) from job where command = 'CreateTask' and instr(params, ?)"
    )
    db.create_function("mark_of", 2, lambda identity, occurrence: mark_of(salt, identity, occurrence))
    found = db.execute(asked, (MARK_START,)).fetchall()
    own = [(mark, job) for job, params, mark in found if mark_in(json.loads(params), mark)]
    db.executemany("update job set mark = ? where id = ?", own)


_STEPS: Mapping[int, Sequence[str | Callable[[sqlite3.Connection], None]]] = {
    2: (
        "alter table job add column profile text",
        "create index job_routed on job(profile, lane, id) where todo = 1 and profile is not null",
    ),
    3: (
        *(f"alter table job add column {column}" for column in _NEW_COLUMNS),
        _identities,
        "create table mended(job integer primary key, before blob not null, text blob, place text)",
    ),
}
"""What makes a journal of the version before one of that version."""
