"""A finished file is not read again row by row, unless something has changed that its rows depend on."""

from pathlib import Path

import pytest

from tests.end_to_end.ground import Cli, Site, rows_of, summary_of

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


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        (ROWS[:5], [], "1 no longer in the file; 5 done, 0 to send"),
        ([*ROWS, "20270101-9,Task 9,Look,admin user,2027-05-01 12:00:00\n"], [], "1 new; 6 done, 1 to send"),
        (ROWS, ["--set", "required=Yes"], "6 new"),
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
