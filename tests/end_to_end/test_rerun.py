"""A finished file is not read again row by row, unless something has changed that its rows depend on."""

import json
from pathlib import Path

import pytest

from tests.end_to_end.ground import Cli, Site, rows_of, running, summary_of

HEADER = "incident,name,description,assignee,due\n"
ROWS = [f"20270101-{n},Task {n},Look at it,admin user,2027-05-01 12:00:00\n" for n in range(6)]
DONE = "tasks.csv: as before; 6 done, 0 to send"


def write(folder: Path, rows: list[str]) -> None:
    (folder / "tasks.csv").write_text(HEADER + "".join(rows))


def test_a_finished_file_says_and_writes_what_it_did_before(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    cli("run", "tasks.csv", env=d3.env)
    before = rows_of(tmp_path / "tasks.d3run" / "results.csv")
    (tmp_path / "tasks.d3run" / "results.csv").unlink()

    again = cli("run", "tasks.csv", env=d3.env)

    told = summary_of(tmp_path / "tasks.d3run")
    assert again.code == 0
    assert "6 rows, CreateTask" in again.err
    assert DONE in again.err
    assert rows_of(tmp_path / "tasks.d3run" / "results.csv") == before
    assert (told["requests"], told["outcomes"]["ok"], told["input"]["rows"]) == (0, 6, 6)
    assert len(d3.ledger()["tasks"]) == 6


@pytest.mark.parametrize("name", ["tasks.csv", "unlink.csv"])
def test_results_that_lie_there_as_they_were_written_are_left_alone(cli: Cli, tmp_path: Path, name: str) -> None:
    write(tmp_path, ROWS)
    (tmp_path / "unlink.csv").write_text("source,linked\n20231025-130,20210127-198\n")
    folder = (tmp_path / name).with_suffix(".d3run")
    wanted = [folder / "results.csv", *([folder / "items.csv"] if name == "unlink.csv" else [])]
    with running(links=[("20231025-130", "20210127-198")], rate=None) as site:
        assert cli("run", name, env=site.env).code == 0
        before = [path.stat().st_ino for path in wanted]
        report = (folder / "report.html").stat().st_ino
        assert cli("run", name, env=site.env).code == 0
        assert cli("run", name, env=site.env).code == 0

    assert [path.stat().st_ino for path in wanted] == before
    assert (folder / "report.html").stat().st_ino != report


@pytest.mark.parametrize("spoil", ["edited", "taken away", "same size"])
def test_results_that_somebody_changed_are_written_again(d3: Site, cli: Cli, tmp_path: Path, spoil: str) -> None:
    write(tmp_path, ROWS)
    cli("run", "tasks.csv", env=d3.env)
    cli("run", "tasks.csv", env=d3.env)
    results = tmp_path / "tasks.d3run" / "results.csv"
    whole = results.read_bytes()
    if spoil == "taken away":
        results.unlink()
    else:
        results.write_bytes(b"mine" + whole[4 if spoil == "same size" else 0 :])

    cli("run", "tasks.csv", env=d3.env)

    assert results.read_bytes() == whole


def test_results_in_another_format_are_kept_up_too(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    cli("run", "tasks.csv", env=d3.env)
    cli("results", "tasks.d3run", "--format", "jsonl")
    told = tmp_path / "tasks.d3run" / "results.jsonl"
    whole = told.read_bytes()
    told.write_bytes(b"")

    cli("run", "tasks.csv", env=d3.env)

    assert told.read_bytes() == whole


def test_the_zones_due_dates_were_read_in_are_those_of_this_run(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    first = cli("run", "tasks.csv", "--json", env=d3.env)
    again = cli("run", "tasks.csv", "--json", env=d3.env)

    assert json.loads(first.out)["due_zones"] == {"China Standard Time": 6}
    assert "due dates were read in China Standard Time" in first.err
    assert json.loads(again.out)["due_zones"] == {}
    assert "due dates" not in again.err


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        (ROWS[:5], [], "1 no longer in the file; 5 done, 0 to send"),
        ([*ROWS, "20270101-9,Task 9,Look,admin user,2027-05-01 12:00:00\n"], [], "1 new; 6 done, 1 to send"),
        (ROWS, ["--set", "required=Yes"], "6 rows are done as they were read then; 6 done, 0 to send"),
        (ROWS[::-1], [], "as before; 6 done, 0 to send"),
    ],
    ids=["shorter", "longer", "read another way", "in another order"],
)
def test_a_change_of_the_file_or_of_how_it_is_read_is_seen(
    d3: Site, cli: Cli, tmp_path: Path, rows: list[str], options: list[str], said: str
) -> None:
    write(tmp_path, ROWS)
    cli("run", "tasks.csv", env=d3.env)
    cli("run", "tasks.csv", env=d3.env)
    write(tmp_path, rows)

    again = cli("run", "tasks.csv", *options, env=d3.env)

    assert said in again.err
    assert len(rows_of(tmp_path / "tasks.d3run" / "results.csv")) == len(rows)


def test_rows_that_stayed_unsent_are_sent_though_the_file_is_the_same(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    cli("run", "tasks.csv", "--limit", "4", env=d3.env)

    again = cli("run", "tasks.csv", env=d3.env)

    assert "4 done, 2 to send" in again.err
    assert summary_of(tmp_path / "tasks.d3run")["requests"] == 2
