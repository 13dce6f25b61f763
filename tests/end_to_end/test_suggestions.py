"""Whatever a run prints to be typed next is typed, until nothing is printed any more: nothing exists twice then."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.end_to_end.ground import Cli, Ran, Site, running, summary_of

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "incident,name,description,assignee,due\n"
_LINE = re.compile(r"^(?:to go on|again|to settle|to mend) +(d3async .*)$", re.MULTILINE)


def task(number: int, assignee: str = "admin user", incident: str = "20220125-1") -> str:
    return f"{incident},Task {number},Look at it,{assignee},2027-05-01 12:00:00\n"


def write(path: Path, *rows: str) -> None:
    path.write_text(HEADER + "".join(rows))


_MEANT_ONCE = {
    "--fresh", "--yes", "--limit", "--where", "--retry-unknown", "--allow-duplicates", "--allow-similar",
}  # fmt: skip


def suggested(ran: Ran) -> list[list[str]]:
    return [shlex.split(line)[1:] for line in _LINE.findall(ran.err)]


def follow(cli: Cli, site: Site, first: Ran) -> list[str]:
    """Type what is suggested until nothing is; what was typed."""
    done, last = [], first
    while words := next(iter(suggested(last)), None):
        assert "--continue" in words or words[0] == "reconcile"
        assert not _MEANT_ONCE & set(words)
        done.append(shlex.join(words))
        assert len(done) < 6, done
        last = cli(*words, env=site.env)
    return done


def twice(site: Site) -> list[str]:
    names = Counter(task["Task Name"] for task in site.ledger()["tasks"])
    return [name for name, count in names.items() if count > 1]


def test_a_fresh_run_never_suggests_another_fresh_one(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", task(1), task(2, incident="19000101-1"))
    cli("run", "t.csv", env=d3.env)
    before = len(d3.ledger()["tasks"])
    write(tmp_path / "t.csv", task(3), task(2, incident="19000101-1"))
    first = cli("run", "t.csv", "--fresh", "--yes", "--allow-similar", "all", env=d3.env)

    assert "--fresh" not in first.err.partition("the old run folder is now")[2].partition("\n")[2]
    assert follow(cli, d3, first) == []
    assert "t.d3run/failed.csv: mend its rows" in first.err
    assert len(d3.ledger()["tasks"]) == before + 1
    told = summary_of(tmp_path / "t.d3run")
    assert told["next"] is None
    assert not {"argv", "command_line"} & told.keys()


def test_a_folder_put_aside_for_a_fresh_run_suggests_nothing(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", task(1), task(2))
    cli("run", "t.csv", "--limit", "1", env=d3.env)
    cli("run", "t.csv", "--fresh", "--allow-similar", "all", env=d3.env)
    old = next(path for path in tmp_path.glob("t.d3run.*"))

    told = cli("status", old, "--json")
    assert json.loads(told.out)["next"] == []


def test_a_pilot_goes_on_with_the_rest_and_then_ends(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", *map(task, range(1, 5)))
    first = cli("run", "t.csv", "--limit", "1", env=d3.env)

    assert follow(cli, d3, first) == ["run t.csv --continue"]
    assert sorted(task["Task Name"] for task in d3.ledger()["tasks"]) == [f"Task {n}" for n in range(1, 5)]
    assert "to go on" not in cli("run", "t.csv", "--limit", "1", env=d3.env).err


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("t.csv", ["--fresh", "--allow-similar", "all"]),
        ("v2.csv", ["--allow-similar", "all"]),
        ("v2.csv", ["--allow-similar", "2-4"]),
    ],
)
def test_a_pilot_of_rows_that_are_meant_goes_on_with_the_rest(
    d3: Site, cli: Cli, tmp_path: Path, name: str, options: list[str]
) -> None:
    write(tmp_path / "t.csv", *map(task, range(1, 4)))
    cli("run", "t.csv", env=d3.env)
    write(tmp_path / name, *map(task, range(1, 4)))
    first = cli("run", name, "--limit", "1", *options, env=d3.env)

    assert follow(cli, d3, first) == [f"run {name} --continue"]
    assert Counter(twice(d3)) == Counter(f"Task {n}" for n in range(1, 4))
    assert len(d3.ledger()["tasks"]) == 6


def test_rows_that_are_only_invalid_suggest_no_command(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", task(1), task(2, assignee=""))
    first = cli("run", "t.csv", "--skip-invalid", env=d3.env)

    assert first.code == 1
    assert suggested(first) == []
    assert "t.d3run/failed.csv: mend its rows" in first.err
    assert suggested(cli("run", "t.csv", "--skip-invalid", env=d3.env)) == []


def test_links_that_are_not_there_suggest_nothing(d3: Site, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "u.csv").write_text("source,linked\n20231025-130,19990101-1\n")
    first = cli("run", "u.csv", env=d3.env)

    assert first.code == 1
    assert summary_of(tmp_path / "u.d3run")["outcomes"]["failed"] == 1
    assert suggested(first) == []
    assert "to mend" not in first.err


def test_what_is_needed_to_read_the_file_is_in_the_command(d3: Site, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "my jobs.csv").write_text(
        "Nr;name;description;assignee;due\n20220125-1;A;x;admin user;24/03/2027\n20220125-1;B;x;admin user;25/03/2027\n"
    )
    first = cli(
        "run", "my jobs.csv", "-o", "elsewhere", "--map", "Nr=incident", "--date-format", "dd/MM/yyyy", "--limit", "1",
        "--delimiter", ";", env=d3.env,
    )  # fmt: skip
    done = follow(cli, d3, first)

    assert done == [
        "run 'my jobs.csv' -o elsewhere --map Nr=incident --date-format dd/MM/yyyy --delimiter ';' --continue"
    ]
    assert sorted(task["Task Name"] for task in d3.ledger()["tasks"]) == ["A", "B"]


def test_settings_that_lead_to_keys_are_in_the_last_lines_and_in_no_file(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", task(1), task(2))
    base = d3.env["D3_BASE_URL"]
    env = {name: value for name, value in d3.env.items() if name != "D3_BASE_URL"}
    first = cli("run", "t.csv", "--limit", "1", "--base-url", base, env=env)

    assert suggested(first) == [["run", "t.csv", "--base-url", base, "--continue"]]
    told = json.loads(cli("status", "t.d3run", "--json").out)
    assert told["next"] == []
    assert "as before, --base-url" in told["advice"][0]
    assert follow(cli, Site(d3.url, env), first)
    assert len(d3.ledger()["tasks"]) == 2


def test_rows_from_stdin_are_given_again_by_the_user(d3: Site, cli: Cli, tmp_path: Path) -> None:
    rows = (HEADER + task(1) + task(2)).encode()
    first = cli("run", "-", "-o", "t.d3run", "--limit", "1", env=d3.env, stdin=rows)
    assert suggested(first) == []
    assert "give the same rows on stdin again, with -o t.d3run and --continue" in first.err

    again = cli("run", "-", "-o", "t.d3run", "--continue", env=d3.env, stdin=rows)
    assert again.code == 0
    assert not twice(d3)


def test_identical_rows_are_not_meant_without_a_word(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", task(1), task(2), task(2))
    first = cli("run", "t.csv", "--allow-duplicates", "--limit", "1", env=d3.env)
    assert suggested(first) == []
    assert "identical rows are meant" in first.err


def test_continue_never_begins_a_run(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", task(1))
    ran = cli("run", "t.csv", "--continue", env=d3.env)

    assert ran.code == 2
    assert "There is no run to continue in t.d3run" in ran.err
    assert "with -o" in ran.err
    assert not (tmp_path / "t.d3run").exists()
    assert not d3.ledger()["tasks"]


@pytest.mark.parametrize("name", ["a b'c $x.csv", "-o.csv", "--yes"])
def test_a_file_with_an_odd_name_can_be_typed(d3: Site, cli: Cli, tmp_path: Path, name: str) -> None:
    write(tmp_path / name, task(1), task(2))
    first = cli("run", f"./{name}", "--format", "csv", "--limit", "1", env=d3.env)
    assert follow(cli, d3, first)
    assert len(d3.ledger()["tasks"]) == 2


def test_a_journal_that_was_handed_over_cannot_say_what_to_type(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", task(1), task(2))
    cli("run", "t.csv", "--limit", "1", env=d3.env)
    import sqlite3
    from contextlib import closing

    evil = {"next": "rm -rf ~", "command_line": "rm -rf ~", "argv": ["rm", "-rf", "~"]}
    with closing(sqlite3.connect(tmp_path / "t.d3run" / "journal.sqlite")) as db, db:
        db.execute("update run set facts = json_patch(facts, ?)", (json.dumps(evil),))
    cli("report", "t.d3run")
    cli("results", "t.d3run")
    told = cli("status", "t.d3run", "--json")

    assert json.loads(told.out)["next"] == ["d3async run t.csv --continue"]
    for name in ("summary.json", "report.html"):
        assert "rm -rf" not in (tmp_path / "t.d3run" / name).read_text()


def test_a_key_that_is_refused_suggests_no_command_and_burns_nothing(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", task(1), task(2))
    with running(rate=None) as site:
        first = cli("run", "t.csv", env={**site.env, "D3_API_KEY_CREATE_TASK": "wrong"})
        assert first.code == 5
        assert suggested(first) == []
        assert "d3async doctor says more; once D3 accepts it, run t.csv again" in first.err
        assert cli("run", "t.csv", "--continue", env=site.env).code == 0
        assert not twice(site)


def test_a_d3_that_is_away_costs_no_row(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", task(1), task(2))
    with running(rate=None) as site:
        url, env = site.url, dict(site.env)
    first = cli("run", "t.csv", "--fresh", "--max-attempts", "1", env=env, timeout=120)
    assert first.code == 5, first.err
    assert suggested(first) == []
    assert "2 rows are left: D3 could not be reached; once that is over, run t.csv again" in first.err
    told = json.loads(cli("status", "t.d3run", "--json").out)
    assert told["next"] == []
    port = int(re.search(r":(\d+)/", str(url))[1])  # type: ignore[index]
    with running(rate=None, port=port) as site:
        assert cli("run", "t.csv", "--continue", env={**env, **site.env}).code == 0
        assert len(site.ledger()["tasks"]) == 2
