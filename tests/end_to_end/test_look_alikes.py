"""Rows that look like rows sent before stop the run; a file that comes every week with new dates does not."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.end_to_end.ground import Cli, Ran, Site, rows_of, running, summary_of

HEADER = "incident,name,description,assignee,due\n"
DUE = "2027-03-24 13:28:13"


def task(incident: str = "20270101-1", name: str = "Call", due: str = DUE, who: str = "admin user") -> str:
    return f"{incident},{name},Look at it,{who},{due}\n"


def write(folder: Path, *rows: str, name: str = "tasks.csv", header: str = HEADER) -> None:
    (folder / name).write_text(header + "".join(rows))


@pytest.fixture
def state(state_of_its_own: Path) -> Path:
    return state_of_its_own


def tasks(d3: Site) -> int:
    return len(d3.ledger()["tasks"])


def stopped(ran: Ran, count: int) -> None:
    rows = "1 row looks like a row" if count == 1 else f"{count} rows look like rows"
    assert f"Nothing was sent. {rows} sent before" in ran.err, ran.err
    assert ran.code == 2


def test_a_file_saved_again_by_a_spreadsheet_sends_nothing_twice(d3: Site, cli: Cli, tmp_path: Path) -> None:
    a, b = task("20270101-1"), task("20270101-2", due="2027-03-24 13:28:59")
    write(tmp_path, a, b, task("20270101-3", who=""))
    assert cli("run", "tasks.csv", "--skip-invalid", env=d3.env).code == 1
    saved = [
        task("20270101-1", due="3/24/2027 13:28"),
        task("20270101-2", due="3/24/2027 13:28"),
        task("20270101-3", due="3/24/2027 13:28"),
    ]
    write(tmp_path, *saved)

    again = cli("run", "tasks.csv", "--date-format", "M/d/yyyy HH:mm", env=d3.env)

    stopped(again, 2)
    assert "due  sent 2027-03-24 13:28:13  now 2027-03-24 13:28:00" in again.err
    assert "due  sent 2027-03-24 13:28:59  now 2027-03-24 13:28:00" in again.err
    assert "--allow-similar 2-3 (or: --allow-similar all)" in again.err
    assert tasks(d3) == 2

    write(tmp_path, a, b, task("20270101-3"))
    assert cli("run", "tasks.csv", env=d3.env).code == 0
    assert tasks(d3) == 3


def test_a_file_saved_under_another_name_is_known(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path, task(), task("20270101-2"))
    cli("run", "tasks.csv", env=d3.env)
    write(tmp_path, task(), task("20270101-2"), task("20270101-3"), name="tasks-v2.csv")

    again = cli("run", "tasks-v2.csv", env=d3.env)

    stopped(again, 2)
    assert f"from {tmp_path / 'tasks.d3run'}" in again.err
    assert not (tmp_path / "tasks-v2.d3run").exists()
    assert tasks(d3) == 2


def test_rows_that_failed_elsewhere_are_no_look_alikes(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path, task(), task("no-such"))
    assert cli("run", "tasks.csv", env=d3.env).code == 1
    write(tmp_path, task("no-such"), name="rest.csv")

    assert "sent before" not in cli("run", "rest.csv", env=d3.env).err


def test_of_a_run_folder_that_is_gone_the_index_still_knows(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path, task(), task("no-such"))
    cli("run", "tasks.csv", env=d3.env)
    for path in (tmp_path / "tasks.d3run").iterdir():
        path.unlink()
    (tmp_path / "tasks.d3run").rmdir()

    again = cli("run", "tasks.csv", env=d3.env)

    stopped(again, 1)
    assert f"its due date was {DUE}" in again.err
    assert tasks(d3) == 1


def test_an_index_holds_nothing_but_digests(d3: Site, cli: Cli, tmp_path: Path, state: Path) -> None:
    write(tmp_path, task("20270101-77", name="Confidential", who="analyst.one"))
    cli("run", "tasks.csv", env=d3.env)

    index = state / "d3async" / "sent.sqlite"
    held = index.read_bytes()
    assert not [word for word in (b"20270101-77", b"Confidential", b"analyst.one", b"127.0.0.1") if word in held]
    assert index.stat().st_mode & 0o777 == 0o600


def test_another_d3_is_another_matter(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path, task())
    cli("run", "tasks.csv", env=d3.env)
    write(tmp_path, task(), name="there.csv")
    with running(rate=None) as other:
        assert cli("run", "there.csv", env=other.env).code == 0


@pytest.mark.parametrize("options", [["--id-column", "key"], []], ids=["ids changed", "id column forgotten"])
def test_other_ids_send_nothing_twice(d3: Site, cli: Cli, tmp_path: Path, options: list[str]) -> None:
    header = f"key,{HEADER}"
    write(tmp_path, f"1,{task()}", f"2,{task('20270101-2')}", header=header)
    assert cli("run", "tasks.csv", "--id-column", "key", env=d3.env).code == 0
    write(tmp_path, f"A1,{task()}", f"A2,{task('20270101-2')}", header=header)

    stopped(cli("run", "tasks.csv", *options, env=d3.env), 2)
    assert tasks(d3) == 2


def test_leading_zeros_that_a_spreadsheet_dropped_are_seen(cli: Cli, tmp_path: Path, d3: Site) -> None:
    write(tmp_path, task("20270101-001"))
    cli("run", "tasks.csv", env=d3.env)
    before = tasks(d3)
    write(tmp_path, task("20270101-1"))

    again = cli("run", "tasks.csv", env=d3.env)

    assert before == 1
    stopped(again, 1)
    assert "incident  sent 20270101-001  now 20270101-1" in again.err
    assert tasks(d3) == before


def test_allowed_lines_are_sent_and_stay_allowed(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path, task(), task("20270101-2"))
    cli("run", "tasks.csv", env=d3.env)
    write(tmp_path, task(), task("20270101-2"), name="more.csv")

    stopped(cli("run", "more.csv", "--allow-similar", "3", env=d3.env), 1)
    first = cli("run", "more.csv", "--allow-similar", "2-3", "--limit", "1", env=d3.env)
    assert first.code in {0, 5}, first.err
    assert tasks(d3) == 3
    # what is suggested goes on with the other one, which was allowed and not among the rows to be sent
    assert "d3async run more.csv --continue" in first.err
    assert cli("run", "more.csv", "--continue", env=d3.env).code == 0
    assert tasks(d3) == 4


def test_yes_is_no_answer_to_it(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path, task())
    cli("run", "tasks.csv", env=d3.env)
    write(tmp_path, task(), name="more.csv")

    stopped(cli("run", "more.csv", "--yes", env=d3.env), 1)


def test_check_and_a_dry_run_say_what_a_run_would_stop_for(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path, task())
    cli("run", "tasks.csv", env=d3.env)
    before = (tmp_path / "tasks.d3run" / "journal.sqlite").read_bytes()
    write(tmp_path, task(due="2027-03-24 13:28:00"))

    checked = cli("check", "tasks.csv", "--json", env=d3.env)
    dry = cli("run", "tasks.csv", "--dry-run", env=d3.env)

    stopped(dry, 1)
    assert dry.out == ""
    assert checked.code == 2
    assert "1 row looks like a row sent before" in checked.err
    assert "Nothing is wrong" not in checked.err
    told = json.loads(checked.out)["similar"]
    assert (told["rows"], told["lines"], told["pairs"][0]["sent"]["due"]) == (1, "2", DUE)
    assert cli("check", "tasks.csv", "--allow-similar", "2", env=d3.env).code == 0
    assert (tmp_path / "tasks.d3run" / "journal.sqlite").read_bytes() == before

    write(tmp_path, task(), name="copy.csv")
    assert cli("check", "copy.csv", env=d3.env).code == 2
    assert not (tmp_path / "copy.d3run").exists()
    write(tmp_path, task())
    assert cli("check", "tasks.csv", env=d3.env).code == 0


def test_a_weekly_file_is_not_held_up(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path, task(), task("20270101-2"))
    cli("run", "tasks.csv", env=d3.env)
    write(tmp_path, task(due="2027-03-31 13:28:13"), task("20270101-2", due="2027-03-31 13:28:13"))

    again = cli("run", "tasks.csv", env=d3.env)

    assert again.code == 0
    assert "2 with incident and name of a task sent before, due on another day" in again.err
    assert tasks(d3) == 4


def test_other_names_for_the_same_people_are_not_held_up(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path, task(), task("20270101-2"))
    cli("run", "tasks.csv", env=d3.env)
    write(tmp_path, task(name="Write"), task("20270101-2", name="Write"))

    again = cli("run", "tasks.csv", env=d3.env)

    assert again.code == 0
    assert "2 with incident, assignee and due date of a task sent before, under another name" in again.err
    assert tasks(d3) == 4


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_new_rows_for_the_same_people_beside_done_ones_are_not_held_up(
    d3: Site, cli: Cli, tmp_path: Path, count: int
) -> None:
    done = [task(f"20270101-{n}") for n in range(count)]
    write(tmp_path, *done)
    cli("run", "tasks.csv", env=d3.env, timeout=300)
    write(tmp_path, *done, *[task(f"20270101-{n}", name="Write") for n in range(count)])

    again = cli("run", "tasks.csv", env=d3.env, timeout=300)

    assert again.code == 0, again.err
    assert "sent before" not in again.err
    assert tasks(d3) == 2 * count


def test_links_never_stop_a_run(d3: Site, cli: Cli, tmp_path: Path) -> None:
    for name in ("links.csv", "links-2.csv"):
        (tmp_path / name).write_text("source,linked\n20231025-130,20210127-198\n")
    cli("run", "links.csv", env=d3.env)

    assert "sent before" not in cli("run", "links-2.csv", env=d3.env).err
    assert cli("run", "links.csv", "--fresh", env=d3.env).code != 2


def test_starting_anew_without_a_terminal_has_to_be_meant(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path, task(), task("20270101-2"))
    cli("run", "tasks.csv", env=d3.env)

    for options in (["--fresh"], ["--fresh", "--yes"], ["--fresh", "--allow-similar", "2-3"]):
        refused = cli("run", "tasks.csv", *options, env=d3.env)
        assert refused.code == 2
        assert "2 rows were sent from tasks.d3run" in refused.err
        assert "--fresh --allow-similar all" in refused.err
    assert [path.name for path in tmp_path.glob("*.d3run*")] == ["tasks.d3run"]
    assert cli("run", "tasks.csv", "--fresh", "--allow-similar", "all", env=d3.env).code == 0
    assert tasks(d3) == 4


def test_a_copy_of_a_run_folder_knows_what_the_other_one_sent(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path, task(), task("20270101-2"))
    cli("run", "tasks.csv", "--limit", "1", env=d3.env)
    shutil.copytree(tmp_path / "tasks.d3run", tmp_path / "copy.d3run")
    assert cli("run", "tasks.csv", env=d3.env).code == 0

    stopped(cli("run", "tasks.csv", "-o", "copy.d3run", env=d3.env), 1)
    assert tasks(d3) == 2


@pytest.mark.parametrize("spoil", ["rubbish", "folder", "newer"])
def test_an_index_that_cannot_be_used_is_said_and_the_run_goes_on(
    d3: Site, cli: Cli, tmp_path: Path, state: Path, spoil: str
) -> None:
    index = state / "d3async" / "sent.sqlite"
    index.parent.mkdir(parents=True)
    if spoil == "rubbish":
        index.write_bytes(b"rubbish " * 500)
    elif spoil == "folder":
        index.mkdir()
    else:
        with closing(sqlite3.connect(index)) as db:
            db.execute("pragma user_version = 99")
    write(tmp_path, task())

    ran = cli("run", "tasks.csv", env=d3.env)

    assert ran.code == 0
    assert tasks(d3) == 1
    if spoil == "rubbish":
        assert index.with_name("sent.sqlite.damaged").read_bytes() == b"rubbish " * 500
        write(tmp_path, task(), name="copy.csv")
        stopped(cli("run", "copy.csv", env=d3.env), 1)
    else:
        assert "rows that were sent from other run folders are not looked for" in ran.err


def test_rows_of_a_run_that_was_killed_are_known(d3: Site, cli: Cli, tmp_path: Path, state: Path) -> None:
    write(tmp_path, task(), task("20270101-2"))
    cli("run", "tasks.csv", "--limit", "1", env=d3.env)
    index = state / "d3async" / "sent.sqlite"
    with closing(sqlite3.connect(index)) as db, db:
        # as a killed run leaves it: entered, and never corrected
        db.execute("update sent set open = 1")
        db.execute("insert into sent(similar, run, job, due, alike) select similar + 1, run, 2, due, alike from sent")
    assert cli("run", "tasks.csv", env=d3.env).code == 0

    with closing(sqlite3.connect(index)) as db:
        assert db.execute("select job, open from sent order by job").fetchall() == [(1, 0), (2, 0)]
    assert rows_of(tmp_path / "tasks.d3run" / "results.csv")[1]["_outcome"] == "ok"
    assert summary_of(tmp_path / "tasks.d3run")["requests"] == 1


def test_a_row_changed_under_its_id_into_one_that_was_done_and_taken_out_is_a_new_row(
    d3: Site, cli: Cli, tmp_path: Path
) -> None:
    header, options = f"key,{HEADER}", ("--id-column", "key")
    write(tmp_path, f"k1,{task()}", f"k2,{task('no-such', name='Other')}", header=header)
    assert cli("run", "tasks.csv", *options, env=d3.env).code == 1
    write(tmp_path, f"k2,{task()}", header=header)

    stopped(cli("run", "tasks.csv", *options, env=d3.env), 1)
    stopped(cli("run", "tasks.csv", *options, env=d3.env), 1)
    assert tasks(d3) == 1

    meant = cli("run", "tasks.csv", *options, "--allow-similar", "2", env=d3.env)
    assert meant.code == 0, meant.err
    assert tasks(d3) == 2


def test_a_row_that_was_refused_and_is_sent_again_is_no_new_row(d3: Site, cli: Cli, tmp_path: Path) -> None:
    """Its like was there when it was sent first: nothing is new about it when that one is taken out."""
    write(tmp_path, task("20270101-1"), task("20270101-1", due="2027-03-24 15:28:13", who="ghost"))
    with running(rate=None, unknown_assignees=["ghost"]) as site:
        assert cli("run", "tasks.csv", env=site.env).code == 1
    write(tmp_path, task("20270101-1", due="2027-03-24 15:28:13", who="ghost"))

    again = cli("run", "tasks.csv", env=site.env)

    assert "sent before" not in again.err


def test_a_refused_row_that_is_mended_under_its_id_does_not_look_like_itself(
    d3: Site, cli: Cli, tmp_path: Path
) -> None:
    header, options = f"key,{HEADER}", ("--id-column", "key")
    write(tmp_path, f"k1,{task(name='Other')}", f"k2,{task(who='ghost')}", header=header)
    with running(rate=None, unknown_assignees=["ghost"]) as site:
        assert cli("run", "tasks.csv", *options, env=site.env).code == 1
        write(tmp_path, f"k1,{task(name='Other')}", f"k2,{task()}", header=header)

        again = cli("run", "tasks.csv", *options, env=site.env)

        assert again.code == 0, again.err
        assert tasks(site) == 2
