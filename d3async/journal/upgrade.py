"""A journal of an older version becomes one of this version: an ordered list of steps, in one transaction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from d3async.commands import all_commands
from d3async.journal.functions import add_functions
from d3async.journal.schema import VERSION
from d3async.sansio.identity import VERSION as IDENTITY
from d3async.sansio.identity import digest, request_digest
from d3async.sansio.marks import MARK_START, mark_in, mark_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence

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
    """Digests of version 3 in every row, identities of version 2 in those that are told apart by what they ask for."""
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
