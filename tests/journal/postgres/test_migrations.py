"""Tables of every released version become those of the present one, in place, whatever else goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from d3async.errors import JournalError
from d3async.journal.postgres import schema
from d3async.journal.postgres.group_commit import Writer
from d3async.journal.postgres.reader import FleetRunReader
from d3async.journal.postgres.schema import migrate
from d3async.journal.postgres.submission import submission
from tests.journal.ground import NOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.database import Postgres

RELEASED = Path(__file__).parent / "released"
_COLUMNS = """
select table_name, column_name, data_type, is_nullable from information_schema.columns
where table_name like 'd3async%' order by 1, 2"""
_INDEXES = "select tablename, indexdef from pg_indexes where tablename like 'd3async%' order by 1, 2"
_ROWS = """
select r.run, r.id, r.raw, j.state, j.code, j.todo from d3async_row r left join d3async_job j using (run, id)
order by 1, 2"""


def released(server: Postgres, version: int = 2) -> str:
    """The URL of a database as the released code of *version* left it."""
    url = server.database()
    with psycopg.connect(url) as db:
        for statement in (RELEASED / f"version_{version}.sql").read_text(encoding="utf-8").split(";\n"):
            db.execute(statement.encode())
    return url


async def migrated(url: str, processes: int = 1, **how: float) -> list[Any]:
    async def one() -> None:
        async with await psycopg.AsyncConnection.connect(url) as connection:
            await migrate(connection, **how)

    return await asyncio.gather(*(one() for _ in range(processes)), return_exceptions=True)


def asked(url: str, question: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as db:
        return db.execute(question.encode()).fetchall()


@pytest.mark.parametrize("version", [2])
def test_a_released_database_gets_the_tables_of_a_new_one_and_keeps_its_rows(postgres: Postgres, version: int) -> None:
    old, new = released(postgres, version), postgres.database()
    before = asked(old, _ROWS)

    assert asyncio.run(migrated(old)) == asyncio.run(migrated(new)) == [None]

    assert asked(old, "select version from d3async_schema") == [(schema.VERSION,)]
    for about in (_COLUMNS, _INDEXES):
        assert asked(old, about) == asked(new, about)
    assert asked(old, _ROWS) == before
    assert len(before) == 27
    uids = [uid for (uid,) in asked(old, "select uid from d3async_run")]
    assert {len(uid) for uid in uids} == {16}
    assert len(set(uids)) == len(uids) == 7


@pytest.mark.parametrize("start", [released, lambda server: server.database()], ids=["older tables", "no tables"])
def test_of_several_processes_at_once_one_migrates(postgres: Postgres, start: Callable[[Postgres], str]) -> None:
    url = start(postgres)

    assert asyncio.run(migrated(url, processes=8)) == [None] * 8
    assert asked(url, "select version from d3async_schema") == [(schema.VERSION,)]


def test_older_tables_are_not_read_and_the_message_says_what_brings_them_up_to_date(postgres: Postgres) -> None:
    url = released(postgres)

    def read() -> None:
        FleetRunReader(url, "a").close()

    def submit() -> None:
        with psycopg.connect(url, autocommit=True) as db:
            submission(db, "a", "a", now=NOW)

    def work() -> None:
        async def opened() -> None:
            async with Writer(url):
                pass

        asyncio.run(opened())

    for refused in (read, submit, work):
        with pytest.raises(JournalError, match=r"version 2; this one needs \d.*d3async submit.*bring") as caught:
            refused()
        assert caught.value.code == "journal_older"
    asyncio.run(migrated(url))
    for taken in (read, work):
        taken()


def test_tables_of_a_newer_version_and_none_at_all_are_refused(postgres: Postgres) -> None:
    url = postgres.database()
    with psycopg.connect(url, autocommit=True) as db:
        with pytest.raises(JournalError) as missing:
            submission(db, "a", "soc", now=NOW)
        asyncio.run(migrated(url))
        submission(db, "a", "soc", now=NOW).abandon()
        assert missing.value.code == "journal_missing"
        for version, code in ((schema.VERSION + 1, "journal_newer"), (schema.OLDEST - 1, "journal_older")):
            db.execute("update d3async_schema set version = %s", (version,))
            with pytest.raises(JournalError) as refused:
                submission(db, "a", "soc", now=NOW)
            [again] = asyncio.run(migrated(url))
            assert (refused.value.code, again.code) == (code, code)


def test_a_role_that_may_not_change_the_tables_reads_the_sql_that_does(postgres: Postgres) -> None:
    url = released(postgres)
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("do $$ begin create role limited login; exception when duplicate_object then null; end $$")
        db.execute("grant all on all tables in schema public to limited")
    limited = url.replace("postgres@", "limited@")

    [refused] = asyncio.run(migrated(limited))

    assert isinstance(refused, JournalError)
    assert refused.code == "journal_rights"
    assert "limited may not change its tables" in refused.message
    assert "Let postgres type the same command once" in refused.message
    assert asked(url, "select version from d3async_schema") == [(2,)]
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(refused.message.partition("SQL:\n")[2].encode())
    assert asyncio.run(migrated(limited)) == [None]


def test_a_role_that_may_not_make_tables_reads_which_right_is_missing(postgres: Postgres) -> None:
    url = postgres.database()
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("do $$ begin create role limited login; exception when duplicate_object then null; end $$")
        db.execute("revoke create on schema public from public")

    [refused] = asyncio.run(migrated(url.replace("postgres@", "limited@")))

    assert refused.code == "journal_rights"
    assert "grant CREATE on the schema" in refused.message


def test_tables_that_others_use_for_long_are_left_as_they_are(
    postgres: Postgres,
) -> None:
    url = released(postgres)
    with psycopg.connect(url) as reader:
        reader.execute("select from d3async_run")
        [refused] = asyncio.run(migrated(url, wait=0.1))

    assert isinstance(refused, JournalError)
    assert refused.code == "journal_busy"
    assert asked(url, "select version from d3async_schema") == [(2,)]
    assert asyncio.run(migrated(url)) == [None]


FOREIGN = {
    'the trigger "again" on "d3async_job"': """
create function more() returns trigger language plpgsql as 'begin return new; end';
create trigger again after update on d3async_job for each row execute function more()""",
    'the rule "more" on "d3async_job"': "create rule more as on update to d3async_job do also nothing",
    'the view "d3async_schema"': """
alter table d3async_schema rename to kept;
create view d3async_schema as with recursive n(version) as (select 3 union all select version from n)
select version from n""",
    'the foreign table "d3async_event"': """
drop table d3async_event;
create extension if not exists postgres_fdw;
create server other foreign data wrapper postgres_fdw;
create foreign table d3async_event(run integer) server other""",
    'the policy "more" on "d3async_row"': "create policy more on d3async_row using (true)",
}


@pytest.mark.parametrize(("named", "part"), FOREIGN.items())
def test_a_database_with_parts_that_d3async_never_makes_is_refused(postgres: Postgres, named: str, part: str) -> None:
    url = postgres.database()
    assert asyncio.run(migrated(url)) == [None]
    with psycopg.connect(url, autocommit=True) as db:
        schema.check_now(db)
        try:
            db.execute(part.encode())
        except psycopg.errors.FeatureNotSupported as missing:
            pytest.skip(f"this server has no postgres_fdw: {missing}")
        with pytest.raises(JournalError, match=named) as error:
            schema.check_now(db)

    assert error.value.code == "journal_changed"
    [refused] = asyncio.run(migrated(url))
    assert getattr(refused, "code", None) == "journal_changed"
