"""The main job, as a user does it: every row comes back with its outcome, and repeating sends only what is missing."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from d3async.sandbox.state import SEED, read_links, sample
from tests.end_to_end.ground import Cli, Site, rows_of, running, summary_of

RESULTS = [
    "_row", "_line", "_outcome", "_code", "_message", "_http", "_attempts", "_sent_at", "_done_at",
    "_items_ok", "_items_failed", "_items_unknown",
]  # fmt: skip
HEADER = "incident,name,description,assignee,due\n"


def tasks(count: int, start: int = 0) -> str:
    return "".join(
        f"20270101-{n % 7},Task {n},Look at it,admin user,2027-05-01 12:00:00\n" for n in range(start, start + count)
    )


@pytest.mark.parametrize("name", ["tasks.csv", "tasks.jsonl"])
def test_tasks_are_created_once_each_and_a_second_run_sends_nothing(
    d3: Site, cli: Cli, tmp_path: Path, name: str
) -> None:
    shutil.copy(sample(name), tmp_path)

    first = cli("run", name, env=d3.env)
    second = cli("run", name, env=d3.env)

    told = summary_of(tmp_path / "tasks.d3run")
    created = [(task["Incident Number"], task["Task Name"], task["Due Date"]) for task in d3.ledger()["tasks"]]
    assert (first.code, second.code) == (0, 0), first.err
    assert len(created) == told["input"]["rows"] == told["outcomes"]["ok"]
    assert len(set(created)) == len(created)
    assert told["requests"] == 0


def test_results_stand_in_input_order_and_keep_every_column(d3: Site, cli: Cli, tmp_path: Path) -> None:
    shutil.copy(sample("tasks.csv"), tmp_path)
    cli("run", "tasks.csv", env=d3.env)

    given = rows_of(tmp_path / "tasks.csv")
    results = rows_of(tmp_path / "tasks.d3run" / "results.csv")

    assert list(results[0]) == RESULTS + list(given[0])
    assert [{name: row[name] for name in given[0]} for row in results] == given
    assert [int(row["_row"]) for row in results] == list(range(1, 201))


def test_appended_rows_are_all_that_is_sent(d3: Site, cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text(HEADER + tasks(20))
    cli("run", "t.csv", env=d3.env)
    with file.open("a") as more:
        more.write(tasks(5, start=20))

    again = cli("run", "t.csv", "--json", env=d3.env)

    assert json.loads(again.out)["requests"] == 5
    assert len(d3.ledger()["tasks"]) == 25
    assert "5 new; 20 done, 5 to send" in again.err


def test_rows_are_told_apart_by_what_they_say_not_where_they_stand(d3: Site, cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    lines = tasks(9).splitlines(keepends=True)
    file.write_text(HEADER + "".join(lines))
    cli("run", "t.csv", env=d3.env)
    file.write_text(HEADER + "".join(reversed(lines[:-1])) + tasks(1, start=50))

    again = cli("run", "t.csv", "--json", env=d3.env)

    told = json.loads(again.out)
    assert (told["requests"], told["vanished"], told["outcomes"]["ok"]) == (1, 1, 9)


def test_links_are_gone_exactly_for_the_items_called_ok(d3: Site, cli: Cli, tmp_path: Path) -> None:
    shutil.copy(sample("unlink.csv"), tmp_path)
    before = set(map(frozenset, read_links(sample(SEED))))

    ran = cli("run", "unlink.csv", env=d3.env)

    folder = tmp_path / "unlink.d3run"
    left = {frozenset((source, other)) for source, others in d3.ledger()["links"].items() for other in others}
    items = rows_of(folder / "items.csv")
    ok = {frozenset((item["_source"], item["_item"])) for item in items if item["_outcome"] == "ok"}
    assert ran.code == 1
    assert ok & left == set()
    assert before - left <= ok
    for row in rows_of(folder / "results.csv"):
        counted = sum(int(row[f"_items_{outcome}"]) for outcome in ("ok", "failed", "unknown"))
        assert counted == sum(item["_row"] == row["_row"] for item in items)
        if row["_outcome"] == "partial":
            failed = [item for item in items if item["_row"] == row["_row"] and item["_outcome"] == "failed"]
            assert all(item["_message"] in row["_message"] for item in failed[:3])


def test_a_wrong_key_stops_the_run_and_burns_nothing(d3: Site, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEADER + tasks(100))
    wrong = {name: "wrong" if name.startswith("D3_API_KEY") else value for name, value in d3.env.items()}

    stopped = cli("run", "t.csv", env={**wrong, "D3_RATE": "50"})
    told = summary_of(tmp_path / "t.d3run")
    done = cli("run", "t.csv", env=d3.env)

    assert (stopped.code, told["outcomes"]["unsent"], done.code) == (5, 100, 0)
    assert told["requests"] <= 5
    assert len(d3.ledger()["tasks"]) == 100
    assert "d3async doctor" in stopped.err


def test_an_invalid_file_sends_nothing_and_leaves_no_journal(d3: Site, cli: Cli, tmp_path: Path) -> None:
    bad = (
        "20270101-1,No assignee,Look,,2027-05-01 12:00:00\n"
        "20270101-1,Odd date,Look,admin user,24/03/2027\n"
        ",No incident,Look,admin user,2027-05-01 12:00:00\n"
    )
    (tmp_path / "t.csv").write_text(HEADER + tasks(2) + bad)

    ran = cli("run", "t.csv", env=d3.env)

    assert ran.code == 3
    assert d3.ledger()["requests"] == []
    assert not (tmp_path / "t.d3run" / "journal.sqlite").exists()
    for told in (
        "assignee",
        "line 4",
        "due",
        "line 5",
        '"24/03/2027"',
        "--date-format dd/MM/yyyy",
        "incident",
        "line 6",
    ):
        assert told in ran.err, told
    assert len(rows_of(tmp_path / "t.d3run" / "errors.csv")) == 3


def test_invalid_rows_may_stay_out_and_are_sent_once_mended(d3: Site, cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text(HEADER + tasks(3) + "20270101-1,Odd date,Look,admin user,24/03/2027\n")

    first = cli("run", "t.csv", "--skip-invalid", env=d3.env)
    outcomes = [row["_outcome"] for row in rows_of(tmp_path / "t.d3run" / "results.csv")]
    file.write_text(HEADER + tasks(3) + "20270101-1,Odd date,Look,admin user,2027-03-24 00:00:00\n")
    second = cli("run", "t.csv", "--json", env=d3.env)

    assert (first.code, outcomes) == (1, ["ok", "ok", "ok", "invalid"])
    assert (second.code, json.loads(second.out)["requests"]) == (0, 1)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("missing.csv", None, "missing.csv"),
        ("empty.csv", b"", "empty"),
        ("header.csv", HEADER.encode(), "no rows"),
        ("columns.csv", b"a,b\n1,2\n", "--command"),
        ("near.csv", b"incident,name,description,asignee,due\n1,2,3,4,5\n", "assignee"),
        ("binary.csv", bytes(range(256)) * 4, "binary"),
        ("odd.txt", b"x", "odd.txt"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_cannot_be_used_is_said_so_without_a_traceback(
    d3: Site, cli: Cli, tmp_path: Path, name: str, content: bytes | None, told: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)

    ran = cli("run", name, env=d3.env)

    assert ran.code == 2
    assert told in ran.err.lower() or told in ran.err
    assert not list(tmp_path.glob("*.d3run"))


def test_bad_json_names_its_line(d3: Site, cli: Cli, tmp_path: Path) -> None:
    good = json.dumps({"incident": "1", "name": "n", "description": "d", "assignee": "a", "due": "2027-01-01 10:00:00"})
    lines = [good.replace('"n"', f'"n{n}"') for n in range(6)]
    (tmp_path / "t.jsonl").write_text("\n".join([*lines, "{bad", ""]))

    ran = cli("run", "t.jsonl", env=d3.env)

    assert ran.code == 3
    assert "line 7" in ran.err


def test_missing_settings_are_all_named_with_variable_and_option(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEADER + tasks(1))

    ran = cli("run", "t.csv")

    assert ran.code == 2
    for told in ("D3_BASE_URL", "--base-url", "D3_USERNAME", "--username", "D3_SITE", "--site"):
        assert told in ran.err


def test_a_missing_key_names_its_variable_before_anything_is_written(d3: Site, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEADER + tasks(1))
    env = {name: value for name, value in d3.env.items() if not name.startswith("D3_API_KEY")}

    ran = cli("run", "t.csv", env=env)

    assert ran.code == 2
    assert "D3_API_KEY_CREATE_TASK" in ran.err
    assert not list(tmp_path.glob("*.d3run"))


def test_another_d3_is_refused_with_the_way_out(d3: Site, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEADER + tasks(1))
    cli("run", "t.csv", env=d3.env)

    ran = cli("run", "t.csv", env={**d3.env, "D3_BASE_URL": "https://other.example/site/VSOC"})

    assert ran.code == 2
    assert "-o" in ran.err
    assert "--fresh" in ran.err


def test_fresh_moves_the_old_folder_aside_and_keeps_it(d3: Site, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEADER + tasks(2))
    cli("run", "t.csv", env=d3.env)

    ran = cli("run", "t.csv", "--fresh", "--allow-similar", "all", env=d3.env)

    assert ran.code == 0
    assert len(list(tmp_path.glob("t.d3run*"))) == 2
    assert len(d3.ledger()["tasks"]) == 4


def test_dry_run_prints_the_requests_without_the_key_and_sends_nothing(d3: Site, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEADER + tasks(3))

    ran = cli("run", "t.csv", "--dry-run", env=d3.env)

    printed = [json.loads(line) for line in ran.out.splitlines()]
    assert ran.code == 0
    assert [request["body"]["CommandParams"]["Task Name"] for request in printed] == ["Task 0", "Task 1", "Task 2"]
    assert printed[0]["url"] == f"{d3.url}/api/Command/CreateTask"
    assert not any(key in ran.out for key in d3.url.keys.values())
    assert d3.ledger()["requests"] == []
    assert not list(tmp_path.glob("*.d3run"))


def test_a_pilot_leaves_the_rest_unsent(d3: Site, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEADER + tasks(10))

    pilot = cli("run", "t.csv", "--limit", "3", "--json", env=d3.env)
    rest = cli("run", "t.csv", "--json", env=d3.env)

    assert json.loads(pilot.out)["outcomes"] == {
        "ok": 3, "partial": 0, "failed": 0, "unknown": 0, "invalid": 0, "unsent": 7,
    }  # fmt: skip
    assert json.loads(rest.out)["requests"] == 7


def test_stdin_needs_a_folder_and_then_works(d3: Site, cli: Cli, tmp_path: Path) -> None:
    rows = (HEADER + tasks(2)).encode()

    without = cli("run", "-", "--format", "csv", env=d3.env, stdin=rows)
    given = cli("run", "-", "--format", "csv", "-o", "here.d3run", env=d3.env, stdin=rows)

    assert (without.code, given.code) == (2, 0), given.err
    assert "-o" in without.err
    assert (tmp_path / "here.d3run" / "results.csv").exists()


def test_json_puts_the_summary_and_nothing_else_on_stdout(d3: Site, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEADER + tasks(2))

    told = json.loads(cli("run", "t.csv", "--json", env=d3.env).out)

    needed = {
        "version", "command", "input", "base_url", "outcomes", "requests", "throttled", "paused_s", "started_at",
        "finished_at", "elapsed_s", "rate", "exit_code", "next",
    }  # fmt: skip
    assert needed <= set(told)
    assert {"path", "sha256", "rows"} <= set(told["input"])
    assert told == summary_of(tmp_path / "t.d3run")


def test_what_nobody_can_know_is_unknown_and_not_sent_again(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEADER + tasks(30))
    with running(rate=None, faults={"drop-after": 0.3}, seed=7) as d3:
        first = cli("run", "t.csv", "--halt", "unknown=1000", env=d3.env)
        second = cli("run", "t.csv", env=d3.env)
        created = d3.ledger()["tasks"]

    outcomes = [row["_outcome"] for row in rows_of(tmp_path / "t.d3run" / "results.csv")]
    assert (first.code, second.code) == (4, 4)
    assert set(outcomes) == {"ok", "unknown"}
    assert len({task["Task Name"] for task in created}) == len(created)
    assert len(rows_of(tmp_path / "t.d3run" / "unknown.csv")) == outcomes.count("unknown")
    assert "reconcile" in second.err


def test_failed_rows_come_back_as_a_file_that_can_be_mended_and_run(d3: Site, cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text(HEADER + tasks(2) + '19000101-1,"No ""such"" incident",Look,admin user,2027-05-01 12:00:00\n')

    ran = cli("run", "t.csv", env=d3.env)

    failed = tmp_path / "t.d3run" / "failed.csv"
    assert ran.code == 1
    head, row = failed.read_text().splitlines()
    assert head == f"{HEADER.strip()},_row"
    assert row.rpartition(",")[0] == file.read_text().splitlines()[-1]
    assert "does not exist" in rows_of(tmp_path / "t.d3run" / "results.csv")[2]["_message"]


def test_ctrl_c_drains_writes_everything_and_the_same_command_goes_on(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEADER + tasks(200))
    with running(rate=None, latency=0.05) as d3:
        env = {**os.environ, **d3.env, "D3_RATE": "60", "D3_CONFIG": os.devnull}
        process = subprocess.Popen(
            [sys.executable, "-m", "d3async", "run", "t.csv"], cwd=tmp_path, env=env, stderr=subprocess.PIPE
        )
        while len(d3.ledger()["tasks"]) < 20:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        stopped = summary_of(tmp_path / "t.d3run")
        rest = cli("run", "t.csv", env=d3.env)
        created = d3.ledger()["tasks"]

    assert process.returncode == 130, said
    assert stopped["outcomes"]["unsent"] > 0
    assert stopped["outcomes"]["unknown"] == 0
    assert rest.code == 0
    assert len(created) == len({task["Task Name"] for task in created}) == 200


def test_a_second_run_says_who_holds_the_folder(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEADER + tasks(1000))
    with running(rate=None) as d3:
        env = {**os.environ, **d3.env, "D3_RATE": "5", "D3_CONFIG": os.devnull}
        process = subprocess.Popen(
            [sys.executable, "-m", "d3async", "run", "t.csv"], cwd=tmp_path, env=env, stderr=subprocess.PIPE
        )
        while len(d3.ledger()["tasks"]) < 3:
            time.sleep(0.02)
        second = cli("run", "t.csv", env=d3.env)
        looked = cli("status", "t.d3run", env=d3.env)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)

    assert second.code == 2
    assert f"pid {process.pid}" in second.err
    assert (looked.code, process.returncode) == (0, 143)


def test_a_disk_that_is_full_stops_the_run_and_nothing_done_is_lost(d3: Site, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEADER + tasks(2000))
    limited = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1500000, 1500000)); "
    limited += "sys.argv[0] = 'd3async'; runpy.run_module('d3async', run_name='__main__')"
    env = {**os.environ, **d3.env, "D3_RATE": "2000", "D3_CONFIG": os.devnull}
    first = subprocess.run(
        [sys.executable, "-c", limited, "run", "t.csv", "--drain-timeout", "1s"],
        cwd=tmp_path, env=env, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    rest = cli("run", "t.csv", "--halt", "unknown=2000", env=d3.env)

    created = [task["Task Name"] for task in d3.ledger()["tasks"]]
    outcomes = [row["_outcome"] for row in rows_of(tmp_path / "t.d3run" / "results.csv")]
    assert first.returncode not in {0, 1}
    assert b"Traceback" not in first.stderr, first.stderr.decode()
    assert rest.code in {0, 4}
    assert len(created) == len(set(created))
    assert outcomes.count("ok") + outcomes.count("unknown") == 2000


def test_no_secret_reaches_any_output_file_or_error(cli: Cli, tmp_path: Path) -> None:
    """The canary is the key; the server says it back in its answers."""
    canary = "canary-6f1d9c0e5b"
    (tmp_path / "t.csv").write_text(HEADER + tasks(4))
    (tmp_path / "u.csv").write_text("source,linked\n20231025-130,20210127-198\n")
    said = ""
    with running(rate=None, keys={"*": canary}) as d3:
        env = {**d3.env, "D3_API_KEY": canary}
        for command in (
            ("run", "t.csv", "-v"), ("run", "u.csv", "--progress", "json"), ("run", "t.csv", "--dry-run"), ("doctor",),
            ("status", "t.d3run"), ("results", "t.d3run"), ("report", "t.d3run"), ("check", "t.csv"),
            ("call", "CreateTask", "-p", f"Task Name={'x'}"), ("run", "t.csv", "--fresh", "--base-url", f"{d3.url}x"),
        ):  # fmt: skip
            ran = cli(*command, env=env)
            said += ran.out + ran.err
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())

    assert canary not in said
    assert canary.encode() not in kept


def test_the_run_folder_is_for_its_owner_alone(d3: Site, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEADER + tasks(1))
    cli("run", "t.csv", env=d3.env)

    folder = tmp_path / "t.d3run"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {
        path.name: "0o600" for path in folder.iterdir()
    }


def test_the_template_can_be_run_as_it_is(d3: Site, cli: Cli, tmp_path: Path) -> None:
    for name in ("create-task", "remove-linked-incidents"):
        template = cli("template", name)
        (tmp_path / f"{name}.csv").write_text(template.out)
        assert next(csv.reader([template.out.splitlines()[0]]))
        assert cli("check", f"{name}.csv", env=d3.env).code == 0, name


def test_call_prints_the_answer_and_says_what_was_refused(d3: Site, cli: Cli) -> None:
    given = [
        "-p", "Task Name=A", "-p", "Task Type=Default", "-p", "Task Description=B", "-p", "Assignee=admin user",
        "-p", "Due Date=2027-01-01 10:00:00", "-p", "Required=No",
    ]  # fmt: skip
    good = cli("call", "CreateTask", *given, "-p", "Incident Number=20270101-1", env=d3.env)
    bad = cli("call", "CreateTask", *given, "-p", "Incident Number=19000101-1", env=d3.env)

    assert (good.code, json.loads(good.out)["returnData"]) == (0, "Successful")
    assert (bad.code, bad.out) == (1, "")
    assert "does not exist" in bad.err
