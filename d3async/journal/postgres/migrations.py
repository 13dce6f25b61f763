"""Tables of the fleet's journal: made where they are missing, and brought up to date step by step, in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import errors

from d3async.errors import JournalError
from d3async.journal.postgres import schema

if TYPE_CHECKING:
    from typing import Any

    from psycopg import AsyncConnection

_LOCK = 0x0D3A_517C
"""Number of the advisory lock: of several processes that migrate at once one does, the others wait for it."""
STEPS = {
    2: """
alter table d3async_run add column uid text not null default left(md5(gen_random_uuid()::text), 16),
    add column identity integer not null default 1;
alter table d3async_run alter column identity set default 2;
alter table d3async_row add column sent_raw text, add column mark text, add column meant boolean;
create table d3async_similar(
    run integer not null, id integer not null, similar_key bigint not null, alike_key bigint, due_key bigint,
    primary key (run, id)
);
create index d3async_similar_name on d3async_similar(similar_key);
create index d3async_similar_person on d3async_similar(alike_key, due_key);
create table d3async_entered(run integer primary key, last integer not null);""",
}
"""SQL that makes tables of that version those of the next one. No row is rewritten, so that it is quick."""


async def migrate(connection: AsyncConnection[Any], *, wait: float = 5.0) -> None:
    """Make the tables where they are missing, bring older ones up to date, and commit.

    Many may do so at once; tables that others use are waited for, *wait* seconds each. Raises `JournalError`:
    `journal_newer` for tables of a newer d3async, `journal_rights` when the role may not change the tables,
    `journal_busy` when they are in use by others for longer.
    """
    try:
        async with connection.transaction():
            await connection.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))
            found = await schema.version_of(connection)
            if found is None:
                await _execute(connection, f"{schema.TABLES};insert into d3async_schema values ({schema.VERSION})")
            elif found in STEPS:
                await connection.execute("select set_config('lock_timeout', %s, true)", (f"{wait * 1000:.0f}ms",))
                await _execute(connection, script(found))
            await schema.check(connection)
    except errors.InsufficientPrivilege as error:
        raise await _no_right(connection, error) from None
    except (errors.LockNotAvailable, errors.DeadlockDetected):
        raise JournalError(
            "The database's tables have to be brought up to date, and others are using them: wait until `results` and"
            " `submit` of other processes are done, or stop the workers; then type the same command again.",
            code="journal_busy",
        ) from None


def script(version: int) -> str:
    """The SQL that makes tables of *version* those of this d3async."""
    steps = [STEPS[step].strip() for step in range(version, schema.VERSION)]
    return "\n".join([*steps, f"update d3async_schema set version = {schema.VERSION};"])


async def _execute(connection: AsyncConnection[Any], statements: str) -> None:
    for statement in statements.split(";"):
        if statement.strip():
            await connection.execute(statement.encode())


async def _no_right(connection: AsyncConnection[Any], error: Exception) -> JournalError:
    """What a role reads that may not make or change the tables."""
    said = str(error).splitlines()[0]
    found = await schema.version_of(connection)
    if found is None:
        message = f"The tables of d3async cannot be made: {said}. Let the database's owner grant CREATE on the schema."
        return JournalError(message, code="journal_rights")
    asked = "select current_user, tableowner from pg_tables where tablename = 'd3async_run'"
    role, owner = await (await connection.execute(asked)).fetchone() or ("", "their owner")
    return JournalError(
        f"The database was set up by an older d3async (journal version {found}; this one needs {schema.VERSION}), and"
        f" {role} may not change its tables ({said}). Let {owner} type the same command once, or run this SQL:\n"
        f"begin;\n{script(found)}\ncommit;",
        code="journal_rights",
    )
