"""A journal that was changed from outside: what it holds is not run, and the file alone says what is sent."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.end_to_end.ground import Cli, Site

HEADER = "incident,name,description,assignee,due\n"
ROW = "20220125-1,Call the user,Now,admin user,2026-12-01 17:00:00\n"
OTHER = "20220125-1,Ask the user,Now,admin user,2026-12-02 17:00:00\n"

FOREIGN = {
    "trigger": 'create trigger "more" after update on job begin update job set params = old.params; end',
    "recursive view": (
        'create view "endless" as with recursive n(i) as (select 1 union all select i + 1 from n) select i from n'
    ),
    "view for a table": (
        "alter table meta rename to meta_2; create view meta as with recursive n(key, value) as"
        " (select 'schema', '3' union all select key, value from n) select key, value from n"
    ),
    "virtual table": "create virtual table more using fts5(text)",
    "table": "create table more(text)",
    "index": "create index more on job(label)",
}


def changed(folder: Path, sql: str) -> None:
    with closing(sqlite3.connect(folder / "journal.sqlite")) as db:
        db.executescript(sql)


@pytest.mark.parametrize("part", FOREIGN)
def test_a_journal_with_parts_that_d3async_never_makes_is_refused_by_every_command(
    cli: Cli, d3: Site, tmp_path: Path, part: str
) -> None:
    (tmp_path / "t.csv").write_text(HEADER + ROW)
    assert cli("run", "t.csv", "--yes", env=d3.env).code == 0
    changed(tmp_path / "t.d3run", FOREIGN[part])

    for words in (
        ("status", "t.d3run"),
        ("run", "t.csv", "--yes"),
        *((("results", "t.d3run"), ("report", "t.d3run")) if part == "trigger" else ()),
        *((("settle", "t.d3run", "ok", "1"), ("reconcile", "t.d3run")) if part == "trigger" else ()),
    ):
        done = cli(*words, env=d3.env)
        assert (done.code, "which d3async never makes" in done.err) == (2, True), (words, done.err)
        assert "Traceback" not in done.err
    assert len(d3.ledger()["tasks"]) == 1


def test_what_a_row_not_yet_sent_asks_for_is_read_from_the_file_again(cli: Cli, d3: Site, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEADER + ROW + OTHER)
    cli("run", "t.csv", "--yes", "--limit", "1", env=d3.env)
    changed(tmp_path / "t.d3run", "update job set params = replace(params, 'Ask', 'Pay') where state = 'pending'")

    cli("run", "t.csv", "--yes", env=d3.env)

    assert sorted(task["Task Name"] for task in d3.ledger()["tasks"]) == ["Ask the user", "Call the user"]


def test_a_command_stored_in_a_journal_is_never_shown(cli: Cli, d3: Site, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEADER + ROW + OTHER)
    cli("run", "t.csv", "--yes", "--limit", "1", env=d3.env)
    changed(tmp_path / "t.d3run", """update run set facts = json_set(facts, '$.next', 'rm -rf x')""")

    for words in (("status", "t.d3run"), ("report", "t.d3run"), ("results", "t.d3run")):
        done = cli(*words)
        assert "rm -rf x" not in done.out + done.err
    assert "rm -rf x" not in (tmp_path / "t.d3run" / "report.html").read_text()
