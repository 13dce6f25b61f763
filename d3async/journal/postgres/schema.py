"""Tables of the fleet's journal in PostgreSQL; made where they are missing, migrated step by step, in place."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from psycopg import errors

from d3async.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from psycopg import AsyncConnection, Connection

VERSION = 3
OLDEST = 2
"""The first version whose tables `migrations.migrate` brings up to date."""

TABLES = """
create table d3async_schema(version integer not null);
create table d3async_run(
    id integer generated always as identity primary key,
    name text not null unique, tenant text not null,
    created_at double precision not null, cancelled_at double precision,
    round integer not null default 0, epoch integer not null default 0, serial boolean not null default false,
    meta text not null default '{}',
    uid text not null default left(md5(gen_random_uuid()::text), 16),
    identity integer not null default 2
);
create table d3async_round(
    run integer not null, round integer not null, started_at double precision, finished_at double precision,
    exit_code integer, facts text not null default '{}', who text not null, primary key (run, round)
);
create table d3async_chunk(
    run integer not null, chunk integer not null, round integer not null,
    lo bigint not null, hi bigint not null, rows integer not null,
    epoch integer not null default 0, stopped boolean not null default false,
    untouched boolean not null default false,
    who text, since double precision, closed_at double precision, primary key (run, chunk)
) with (fillfactor = 50);
create table d3async_row(
    run integer not null, id integer not null, row integer, line integer,
    identity bytea not null, occurrence integer not null default 0, content bytea,
    command text, username text, site text, source bigint, lane_key text, label text, params text, raw text not null,
    sent_raw text, mark text, meant boolean,
    primary key (run, id)
);
create table d3async_similar(
    run integer not null, id integer not null, similar_key bigint not null, alike_key bigint, due_key bigint,
    primary key (run, id)
);
create index d3async_similar_name on d3async_similar(similar_key);
create index d3async_similar_person on d3async_similar(alike_key, due_key);
create table d3async_entered(run integer primary key, last integer not null);
create table d3async_job(
    run integer not null, id integer not null, gone boolean not null default false,
    lane bigint, todo boolean not null default false,
    state text not null, prior text, attempts integer not null default 0, http integer,
    sent_at double precision, done_at double precision, round integer, epoch integer, answer bigint,
    maybe boolean not null default false, code text, message text,
    primary key (run, id)
) with (fillfactor = 70);
create index d3async_job_lane on d3async_job(run, lane, id) where lane is not null;
create table d3async_source(
    run integer not null, id bigint not null, lane_key text not null, fold text not null, site text not null,
    primary key (run, id)
);
create unique index d3async_source_key on d3async_source(run, lane_key);
create index d3async_source_fold on d3async_source(run, fold, site);
create table d3async_item(
    run integer not null, id bigint generated always as identity, job integer not null, pos integer not null,
    source bigint, name text not null, fold text not null, todo boolean not null default false,
    state text not null default 'pending', prior text, code text, message text, maybe boolean not null default false,
    primary key (run, job, id)
) with (fillfactor = 70);
create index d3async_item_twin on d3async_item(run, source, fold);
create index d3async_item_source on d3async_item(run, source, id);
create table d3async_answer(
    run integer not null, id bigint not null, body text, primary key (run, id)
);
create sequence d3async_call;
create table d3async_writer(id bigint primary key, written bigint not null, since double precision not null);
create table d3async_event(
    run integer not null, round integer not null, at double precision, kind text, seconds double precision, note text
);
create index d3async_event_run on d3async_event(run, round);
"""


# run       what on one machine is a run folder. `epoch` counts owners of its chunks: each gets a number of its own
#           `uid` is random; `identity` is the version of the identities of its rows, see `convert`
# round     one `submit` of it; what on one machine is one run over the folder
# chunk     a slice of the lanes of the last round, `lo` to `hi`. `epoch` is that of its present owner
#           `untouched` = no worker has opened it since it was cut from a new run of plain rows: none of them is in job
#           yet; all are pending and to be sent, each in the lane of its own id, and ids are what lo and hi are. Every
#           row that job does not have is in such a chunk, see `untouched`
# writer    one process; `written` is the last group it has stored, by which it finds out after a broken connection
# answer.id of a call with one row the row's, of any other the negative of a number from d3async_call
# row       what the file says; written once, changed by a re-run alone. `content` is null where it is the identity:
#           of rows without a key of their own, and of those that are invalid
#           `sent_raw` is the text of a row as it was sent, null while that is `raw`, "" where it is not known
#           `meant` = the user wants it sent although it looks like a row that was sent
# similar   what is compared with new rows, of rows that must not be sent twice: see `entered`. The digests are those of
#           `journal.sqlite.schema`
# entered   the rows of the run up to `last` are in similar; a run that no other one was compared with has none there
# job       what became of it; small, as it is written again for each claim and each outcome, and indexed by nothing
#           that changes then, so that both stay within their page. `gone` = no longer in the file
# job.epoch the owner that claimed last. Other columns are those of the journal on one machine, see
# `journal.sqlite.schema` source.id a digest of lane_key, see `incoming.source_number`; row.source is null for rows
# without items times     seconds since 1970, UTC, of the machine that wrote texts     see `texts`: PostgreSQL takes no
# NUL and no half of a surrogate pair


async def check(connection: AsyncConnection[Any]) -> None:
    """Raise `JournalError` unless the database has the tables this d3async knows, and these are only tables.

    *code* is `journal_missing`, `journal_newer`, `journal_older` or `journal_changed`; `migrate` cures the first and
    the third.
    """
    judge(await version_of(connection))


async def version_of(connection: AsyncConnection[Any]) -> int | None:
    """The version of the database's tables; None where there are none. Raises `JournalError`, `journal_changed`."""
    judge_part(await (await connection.execute(_FOREIGN_PART)).fetchone())
    exists = await (await connection.execute(_EXISTS)).fetchone()
    if exists is None or not exists[0]:
        return None
    found = await (await connection.execute(_VERSION)).fetchone()
    return None if found is None else int(found[0])


def check_now(connection: Connection[Any]) -> None:
    """`check` over a connection that blocks."""
    judge_part(connection.execute(_FOREIGN_PART).fetchone())
    exists = connection.execute(_EXISTS).fetchone()
    found = None
    if exists is not None and exists[0]:
        found = connection.execute(_VERSION).fetchone()
    judge(None if found is None else found[0])


_EXISTS = "select to_regclass('d3async_schema') is not null"
_VERSION = "select version from d3async_schema"
# triggers, rules and policies of others would run inside our statements, with our rights
_OURS = ",".join(re.findall(r"create table (\w+)", TABLES))
_FOREIGN_PART = f"""
select case
    when c.relkind = 'v' then 'the view "' || c.relname || '"'
    when c.relkind = 'f' then 'the foreign table "' || c.relname || '"'
    when c.relkind <> 'r' then '"' || c.relname || '", no plain table,'
    when t.tgname is not null then 'the trigger "' || t.tgname || '" on "' || c.relname || '"'
    when w.rulename is not null then 'the rule "' || w.rulename || '" on "' || c.relname || '"'
    else 'the policy "' || p.polname || '" on "' || c.relname || '"' end
from unnest('{{{_OURS}}}'::text[]) ours(name)
join pg_catalog.pg_class c on c.oid = to_regclass(ours.name)
left join pg_catalog.pg_trigger t on t.tgrelid = c.oid and not t.tgisinternal
left join pg_catalog.pg_rewrite w on w.ev_class = c.oid
left join pg_catalog.pg_policy p on p.polrelid = c.oid
where c.relkind <> 'r' or t.oid is not null or w.oid is not null or p.oid is not null
order by 1 limit 1""".encode()


def judge_part(found: Sequence[Any] | None) -> None:
    """Raise `JournalError` where a part of the journal was *found* that d3async does not make, such as a trigger."""
    if found is not None:
        message = (
            f"The database holds {found[0]}, which d3async never makes. The journal was changed from outside, so it is"
            " not used. Let the database's owner drop that part, or restore the database from a backup."
        )
        raise JournalError(message, code="journal_changed")


def judge(version: int | None) -> None:
    """Raise `JournalError` unless *version* is ours; None where there is none."""
    if version is None:
        message = "The database has no tables of d3async: `d3async submit` makes them."
        raise JournalError(message, code="journal_missing")
    if version > VERSION:
        message = (
            f"The database was set up by a newer d3async (journal version {version}; this one knows {VERSION}):"
            " use that version, or another database."
        )
        raise JournalError(message, code="journal_newer")
    if version < OLDEST:
        message = (
            f"The database was set up by a d3async before its first release (journal version {version}): use another."
        )
        raise JournalError(message, code="journal_older")
    if version < VERSION:
        message = (
            f"The database was set up by an older d3async (journal version {version}; this one needs {VERSION})."
            " `d3async submit` and `d3async worker` of this version bring its tables up to date; no row is lost."
        )
        raise JournalError(message, code="journal_older")


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
            found = await version_of(connection)
            if found is None:
                await _execute(connection, f"{TABLES};insert into d3async_schema values ({VERSION})")
            elif found in STEPS:
                await connection.execute("select set_config('lock_timeout', %s, true)", (f"{wait * 1000:.0f}ms",))
                await _execute(connection, script(found))
            await check(connection)
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
    steps = [STEPS[step].strip() for step in range(version, VERSION)]
    return "\n".join([*steps, f"update d3async_schema set version = {VERSION};"])


async def _execute(connection: AsyncConnection[Any], statements: str) -> None:
    for statement in statements.split(";"):
        if statement.strip():
            await connection.execute(statement.encode())


async def _no_right(connection: AsyncConnection[Any], error: Exception) -> JournalError:
    """What a role reads that may not make or change the tables."""
    said = str(error).splitlines()[0]
    found = await version_of(connection)
    if found is None:
        message = f"The tables of d3async cannot be made: {said}. Let the database's owner grant CREATE on the schema."
        return JournalError(message, code="journal_rights")
    asked = "select current_user, tableowner from pg_tables where tablename = 'd3async_run'"
    role, owner = await (await connection.execute(asked)).fetchone() or ("", "their owner")
    return JournalError(
        f"The database was set up by an older d3async (journal version {found}; this one needs {VERSION}), and"
        f" {role} may not change its tables ({said}). Let {owner} type the same command once, or run this SQL:\n"
        f"begin;\n{script(found)}\ncommit;",
        code="journal_rights",
    )


QUEUE = "d3async_queue"
"""The schema of procrastinate's tables, and of ours beside them."""
_QUEUE_LOCK = 5_317_002

# d3async_released   procrastinate does not notify when a lock is free again: tenants would wait until a worker polls
# d3async_worker     which worker serves which tenants; deleted with its row among procrastinate's workers
# d3async_migration  the last migration of procrastinate's that the queue has
# d3async_try        how often in a row a chunk was taken without any use, and the error of its last try
_QUEUE_TABLES = """
create function {schema}.d3async_released() returns trigger language plpgsql as $$
begin
    if exists (select 1 from {schema}.procrastinate_jobs where lock = old.lock and status = 'todo') then
        perform pg_notify('procrastinate_queue_v1#' || old.queue_name, '{{"type": "job_inserted", "job_id": 0}}');
    end if;
    return null;
end $$;
create trigger d3async_released after update of status or delete on {schema}.procrastinate_jobs
    for each row when (old.status = 'doing' and old.lock is not null)
    execute function {schema}.d3async_released();
create table {schema}.d3async_worker(
    id bigint primary key references {schema}.procrastinate_workers on delete cascade,
    who text not null, version text not null, places integer not null, tenants text[] not null,
    since timestamptz not null default now()
);
create table {schema}.d3async_migration(name text not null);
create table {schema}.d3async_try(
    run integer, round integer, chunk integer, tries integer not null, code text, message text,
    primary key (run, round, chunk)
);
"""


async def install_queue(
    connection: AsyncConnection[Any], tables: bytes, migrations: Sequence[tuple[str, bytes]]
) -> None:
    """Make the queue from procrastinate's *tables* where it is missing; else apply what is missing of its *migrations*.

    These are names and texts, in order. Safe to be called by many at once; commits nothing by itself. Raises
    `JournalError` (`journal_newer`) where a newer procrastinate has made the queue.
    """
    await connection.execute("select pg_advisory_xact_lock(%s)", (_QUEUE_LOCK,))
    found = await connection.execute("select to_regclass(%s)", (f"{QUEUE}.procrastinate_jobs",))
    missing = (await found.fetchone() or (None,))[0] is None
    if missing:
        await connection.execute(f"create schema if not exists {QUEUE}")
    await connection.execute(f"set local search_path to {QUEUE}")
    if missing:
        await connection.execute(tables)
        await connection.execute(_QUEUE_TABLES.format(schema=QUEUE).encode())
        await connection.execute("insert into d3async_migration values (%s)", (migrations[-1][0],))
    else:
        await _migrate_queue(connection, migrations)
    await connection.execute("set local search_path to default")


async def _migrate_queue(connection: AsyncConnection[Any], migrations: Sequence[tuple[str, bytes]]) -> None:
    found = await connection.execute("select name from d3async_migration")
    last = str((await found.fetchone() or ("",))[0])
    newest = migrations[-1][0]
    if last > newest:
        message = "The fleet's queue was made by a newer procrastinate: pip install --upgrade 'd3async[fleet]'"
        raise JournalError(message, code="journal_newer")
    for name, text in migrations:
        if name > last:
            await connection.execute(text)
    await connection.execute("update d3async_migration set name = %s", (newest,))


async def look_in_queue(connection: AsyncConnection[Any]) -> None:
    """Have *connection* look for tables without a schema in the queue's."""
    await connection.execute(f"set search_path to {QUEUE}")


async def note_worker(
    connection: AsyncConnection[Any], worker: int, who: str, version: str, tenants: Sequence[str], *, places: int
) -> None:
    """Note that *worker*, whose number is procrastinate's, serves *tenants*, *places* of them at a time."""
    await connection.execute(
        f"insert into {QUEUE}.d3async_worker(id, who, version, places, tenants) values (%s, %s, %s, %s, %s)"
        " on conflict (id) do nothing",
        (worker, who, version, places, list(tenants)),
    )
