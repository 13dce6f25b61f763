"""Digests of the rows of a run (`d3async_similar`), by which rows that are submitted later are compared with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from d3async.commands import all_commands
from d3async.journal.postgres.scripts import run_all
from d3async.journal.postgres.texts import told
from d3async.sansio.identity import look_alike

if TYPE_CHECKING:
    from psycopg import Connection

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
                    copy.write_row((id_, *look_alike(kinds[command], params, told(site))))
    db.execute(_ENTER.encode(), {"run": run})
