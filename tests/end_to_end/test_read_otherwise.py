"""A row that was sent stays the row that was sent, whatever the next run reads its text as."""

import unicodedata
from pathlib import Path

import pytest

from tests.end_to_end.ground import Cli, Site, rows_of

COLUMNS = ["Nr", "incident", "name", "note", "description", "assignee", "due"]
ROWS = [
    ["1", "20270101-1", "Call the user", "Call", "Look at it", "admin user", "01.05.2027 12:00"],
    ["2", "20270101-2", "Réset the password", "Reset", "Look at it", "admin user", "02.05.2027 13:30"],
    ["3", "20270101-2", "Write a report", "Write", "Look at it", "admin user", "13.05.2027 13:30"],
]
DATES = ("--date-format", "dd.MM.yyyy HH:mm")
ZONES = ("--time-zone", "Europe/Berlin", "--server-time-zone", "Asia/Shanghai")
THEN = "3 rows are done as they were read then; 3 done, 0 to send"
BEFORE = "as before; 3 done, 0 to send"


def write(folder: Path, *, name: str = "tasks.csv", form: str = "NFC") -> None:
    text = "".join(",".join(cells) + "\n" for cells in [COLUMNS, *ROWS])
    (folder / name).write_text(unicodedata.normalize(form, text), encoding="utf-8")


@pytest.mark.parametrize("forgotten", [False, True], ids=["added", "forgotten"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (ZONES, THEN),
        (("--time-zone", "UTC", "--server-time-zone", "Asia/Tokyo"), THEN),
        (("--id-column", "Nr"), BEFORE),
        (("--map", "note=name", "--map", "name="), THEN),
        (("--set", "required=Yes"), THEN),
        (("--set", "type=Default"), BEFORE),
    ],
    ids=["zones", "other zones", "id column", "map", "set", "set to the default"],
)
def test_an_option_added_or_forgotten_on_the_second_run_sends_nothing_twice(
    d3: Site, cli: Cli, tmp_path: Path, options: tuple[str, ...], said: str, forgotten: bool
) -> None:
    write(tmp_path)
    first, second = ((*DATES, *options), DATES) if forgotten else (DATES, (*DATES, *options))
    sent = cli("run", "tasks.csv", *first, env=d3.env)
    again = cli("run", "tasks.csv", *second, env=d3.env)
    back = cli("run", "tasks.csv", *first, env=d3.env)

    assert (sent.code, again.code, back.code) == (0, 0, 0), sent.err + again.err
    assert len(d3.ledger()["tasks"]) == 3
    assert said in again.err
    assert "3 done, 0 to send" in back.err


def test_a_date_format_that_reads_other_days_sends_nothing_twice(d3: Site, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "tasks.csv").write_text(
        "incident,name,description,assignee,due\n20270101-1,Call,x,admin user,03/04/2027\n"
    )
    sent = cli("run", "tasks.csv", "--date-format", "dd/MM/yyyy", env=d3.env)
    again = cli("run", "tasks.csv", "--date-format", "MM/dd/yyyy", env=d3.env)

    assert (sent.code, again.code, len(d3.ledger()["tasks"])) == (0, 0, 1)
    assert "1 row is done as it was read then; 1 done, 0 to send" in again.err


@pytest.mark.parametrize("skip", [True, False])
def test_a_date_format_that_was_forgotten_leaves_rows_that_are_done_as_they_are(
    d3: Site, cli: Cli, tmp_path: Path, skip: bool
) -> None:
    """Without it no row can be read: they are wrong, not new."""
    write(tmp_path)
    cli("run", "tasks.csv", *DATES, env=d3.env)
    again = cli("run", "tasks.csv", *(["--skip-invalid"] if skip else []), env=d3.env)
    back = cli("run", "tasks.csv", *DATES, env=d3.env)

    assert (again.code, back.code) == (0 if skip else 3, 0), again.err
    assert len(d3.ledger()["tasks"]) == 3
    assert {row["_outcome"] for row in rows_of(tmp_path / "tasks.d3run" / "results.csv")} == {"ok"}
    assert "3 done, 0 to send" in back.err


@pytest.mark.parametrize(("first", "second"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_file_saved_with_accents_taken_apart_is_the_same_file(
    d3: Site, cli: Cli, tmp_path: Path, first: str, second: str
) -> None:
    """The text of one row is another, what it asks for is not; what is sent stays as it was written."""
    write(tmp_path, form=first)
    cli("run", "tasks.csv", *DATES, env=d3.env)
    write(tmp_path, form=second)
    again = cli("run", "tasks.csv", *DATES, env=d3.env)

    assert (again.code, BEFORE in again.err) == (0, True), again.err
    names = [task["Task Name"] for task in d3.ledger()["tasks"]]
    assert sorted(names) == sorted(unicodedata.normalize(first, row[2]) for row in ROWS)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_two_rows_that_differ_in_how_accents_are_written_are_duplicates(cli: Cli, tmp_path: Path, form: str) -> None:
    rows = [["1", *ROWS[1][1:]], ["2", *(unicodedata.normalize(form, cell) for cell in ROWS[1][1:])]]
    text = "".join(",".join(cells) + "\n" for cells in [COLUMNS, *rows])
    (tmp_path / "tasks.csv").write_text(text, encoding="utf-8")

    checked = cli("check", "tasks.csv", *DATES)

    assert checked.code == 3
    assert "the same as line 2" in checked.err
