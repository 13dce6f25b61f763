"""Rows nobody knows about, over real sockets: reconcile settles just those that happened."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from d3async.cli.main import cli as command_line
from d3async.cli.main import exit_code_of
from d3async.journal.sqlite.run_folder import open_folder
from tests.end_to_end.ground import Cli, Ran, Site, rows_of, running, summary_of

HERE = Callable[..., Ran]
HEADER = ("incident", "name", "description", "assignee", "due")
DUE = "2026-12-31 17:00:00"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> HERE:
    """As `cli`, without the time that starting an interpreter takes."""

    def run(*args: str, env: dict[str, str]) -> Ran:
        with monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("D3_")]:
                patch.delenv(name)
            for name, value in {"D3_CONFIG": os.devnull, "D3_RATE": "2000", **env}.items():
                patch.setenv(name, value)
            patch.chdir(tmp_path)
            patch.setattr(sys, "argv", ["d3async", *args])
            code = exit_code_of(command_line, list(args))
        told = capsys.readouterr()
        return Ran(code, told.out, told.err)

    return run


def lost(ask: Any) -> str | None:
    """Tasks named after, and links removed from incidents numbered by, what happens to the connection."""
    word = ask.params.get("Task Name", "").split()[:1] or [
        {"1": "drop-after", "2": "drop-before"}.get(ask.incident[-1:])
    ]
    changes = ask.command in {"CreateTask", "RemoveLinkedIncidents"}
    return word[0] if changes and word[0] in {"drop-after", "drop-before"} else None


def write_tasks(path: Path, rows: list[tuple[str, ...]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])


def outcomes(folder: Path) -> list[tuple[str, str]]:
    return [(row["_outcome"], row["_code"]) for row in rows_of(folder / "results.csv")]


TASKS = [
    ("20220125-1", "drop-after one", "Ask & <wait>.", "Bob Ray", DUE),
    ("20220125-1", "drop-before two", "Ask.", "Bob Ray", DUE),
    ("20220125-1", "three", "Ask.", "Ann Lee", DUE),
    ("20220125-2", "drop-after four", "Ask.", "Ann Lee", DUE),
    ("20220125-2", "drop-before five", "Ask.", "Ann Lee", DUE),
    ("20220125-3", "six", "Ask.", "Ann Lee", DUE),
]
UNKNOWN = ("unknown", "connection_lost")


@pytest.mark.parametrize("shape", [1, 2])
def test_tasks_that_happened_are_found_in_the_log_and_the_others_stay_unknown(
    here: HERE, tmp_path: Path, shape: int
) -> None:
    write_tasks(tmp_path / "tasks.csv", TASKS)
    folder = tmp_path / "tasks.d3run"
    with running(rate=None, faults=lost, log_shape=shape) as d3:
        ran = here("run", "tasks.csv", "--yes", env=d3.env)
        assert ran.code == 4, ran.err
        assert "d3async reconcile tasks.d3run" in ran.err
        before = d3.ledger()

        looked = here("reconcile", "tasks.d3run", env=d3.env)
        after = d3.ledger()

    assert looked.code == 4, looked.err
    assert outcomes(folder) == [("ok", "found"), UNKNOWN, ("ok", ""), ("ok", "found"), UNKNOWN, ("ok", "")]
    assert len(before["tasks"]) == len(after["tasks"]) == 4
    assert "which does not prove its absence" in rows_of(folder / "results.csv")[1]["_message"]
    assert "Settled 2 of 4. 2 left unknown." in looked.err
    assert [row["name"] for row in rows_of(folder / "unknown.csv")] == ["drop-before two", "drop-before five"]
    told = summary_of(folder)
    assert told["outcomes"]["ok"] == 4
    assert told["reconciled"]["tasks"] == {"found": 2, "absent": 0, "open": 2}
    assert told["exit_code"] == 4


def test_reconciling_twice_says_the_same_once(here: HERE, tmp_path: Path) -> None:
    write_tasks(tmp_path / "tasks.csv", TASKS)
    with running(rate=None, faults=lost) as d3:
        here("run", "tasks.csv", "--yes", env=d3.env)
        here("reconcile", "tasks.d3run", env=d3.env)
        once = (tmp_path / "tasks.d3run" / "results.csv").read_bytes()
        here("reconcile", "tasks.d3run", env=d3.env)

    assert (tmp_path / "tasks.d3run" / "results.csv").read_bytes() == once


def test_links_that_are_gone_are_ok_and_links_still_there_did_not_happen(cli: Cli, tmp_path: Path) -> None:
    pairs = [(f"2023102{source}-{source}", f"20210127-{n}") for source in (1, 2, 3) for n in (7, 8)]
    (tmp_path / "links.csv").write_text("source,linked\n" + "\n".join(map(",".join, pairs)))
    folder = tmp_path / "links.d3run"
    with running(rate=None, faults=lost, links=[*pairs, ("20231022-2", "20210127-9")]) as d3:
        ran = cli("run", "links.csv", "--yes", "--max-attempts", "1", env=d3.env)
        assert ran.code == 4, ran.err

        looked = cli("reconcile", "links.d3run", "--json", env=d3.env)
        assert looked.code == 0, looked.err
        links = d3.ledger()["links"]
        assert links["20231022-2"] == ["20210127-7", "20210127-8", "20210127-9"]

    assert outcomes(folder) == [("ok", "removed")] * 2 + [("failed", "still_linked")] * 2 + [("ok", "")] * 2
    assert json.loads(looked.out) == {
        "unknown_before": 4,
        "unknown_left": 0,
        "links": {"gone": 2, "linked": 2, "cannot_tell": 0},
    }
    assert not (folder / "unknown.csv").exists()
    assert len(rows_of(folder / "failed.csv")) == 2
    assert summary_of(folder)["exit_code"] == 1


def test_the_next_run_sends_what_was_still_linked_and_nothing_else(here: HERE, tmp_path: Path) -> None:
    (tmp_path / "links.csv").write_text("source,linked\n20231021-1,20210127-7\n20231022-2,20210127-7\n")
    with running(rate=None, faults=lost, links=[("20231021-1", "20210127-7"), ("20231022-2", "20210127-7")]) as d3:
        here("run", "links.csv", "--yes", "--max-attempts", "1", env=d3.env)
        here("reconcile", "links.d3run", env=d3.env)
        d3.url.set_faults(None)
        before = len(d3.ledger()["requests"])
        again = here("run", "links.csv", "--yes", env=d3.env)

        assert again.code == 0, again.err
        assert [entry["incident"] for entry in d3.ledger()["requests"][before:]] == ["20231022-2"]
    assert [outcome for outcome, _ in outcomes(tmp_path / "links.d3run")] == ["ok", "ok"]


def test_the_recursive_command_proves_only_that_links_are_gone(here: HERE, tmp_path: Path) -> None:
    (tmp_path / "links.csv").write_text("source,linked\n20231021-1,20210127-7\n20231022-2,20210127-7\n")
    with running(rate=None, faults=lost, links=[("20231021-1", "20210127-7"), ("20231022-2", "20210127-7")]) as d3:
        here("run", "links.csv", "--yes", "--max-attempts", "1", env=d3.env)
        looked = here("reconcile", "links.d3run", "--using", "get-linked-incidents", env=d3.env)

    assert looked.code == 4, looked.err
    assert outcomes(tmp_path / "links.d3run") == [("ok", "removed"), UNKNOWN]
    assert "perhaps through another incident" in rows_of(tmp_path / "links.d3run" / "results.csv")[1]["_message"]


def own_keys(d3: Site, *commands: str) -> dict[str, str]:
    """The environment of *d3* with a key for each of *commands* and none for every command."""
    kept = {f"D3_API_KEY_{command}" for command in commands}
    return {name: value for name, value in d3.env.items() if not name.startswith("D3_API_KEY") or name in kept}


def test_without_a_key_to_read_with_it_names_the_variable(here: HERE, tmp_path: Path) -> None:
    write_tasks(tmp_path / "tasks.csv", TASKS[:2])
    (tmp_path / "links.csv").write_text("source,linked\n20231021-1,20210127-7\n")
    with running(rate=None, faults=lost) as d3:
        env = own_keys(d3, "CREATE_TASK", "REMOVE_LINKED_INCIDENTS")
        here("run", "tasks.csv", "--yes", env=env)
        here("run", "links.csv", "--yes", "--max-attempts", "1", env=env)
        tasks = here("reconcile", "tasks.d3run", env=env)
        links = here("reconcile", "links.d3run", env=env)
        chosen = here("reconcile", "links.d3run", "--using", "get-incidents", env=env)

    assert (tasks.code, links.code, chosen.code) == (2, 2, 2)
    assert "D3_API_KEY_GET_INCIDENT_COMMAND_CENTER_LOGS" in tasks.err
    assert "D3_API_KEY_GET_INCIDENTS" in links.err
    assert "D3_API_KEY_GET_LINKED_INCIDENTS_OF_AN_INCIDENT" in links.err
    assert "D3_API_KEY_GET_INCIDENTS" in chosen.err


def test_a_key_d3_does_not_accept_is_exit_5_and_changes_nothing(here: HERE, tmp_path: Path) -> None:
    write_tasks(tmp_path / "tasks.csv", TASKS[:2])
    with running(rate=None, faults=lost) as d3:
        here("run", "tasks.csv", "--yes", env=d3.env)
        env = {**d3.env, "D3_API_KEY_GET_INCIDENT_COMMAND_CENTER_LOGS": "wrong-key"}
        looked = here("reconcile", "tasks.d3run", env=env)

    assert looked.code == 5, looked.err
    assert "does not accept the key" in looked.err
    assert outcomes(tmp_path / "tasks.d3run") == [UNKNOWN, UNKNOWN]


def test_another_d3_proves_nothing(here: HERE, tmp_path: Path) -> None:
    write_tasks(tmp_path / "tasks.csv", TASKS[:2])
    with running(rate=None, faults=lost) as d3, running(rate=None) as other:
        here("run", "tasks.csv", "--yes", env=d3.env)
        looked = here("reconcile", "tasks.d3run", env=other.env)
        requests = other.ledger()["requests"]

    assert looked.code == 2
    assert "proves nothing" in looked.err
    assert requests == []


def test_a_folder_without_unknown_rows_asks_nobody(here: HERE, tmp_path: Path) -> None:
    write_tasks(tmp_path / "tasks.csv", TASKS[5:])
    with running(rate=None) as d3:
        here("run", "tasks.csv", "--yes", env=d3.env)
        looked = here("reconcile", "tasks.d3run", env=d3.env)
        requests = d3.ledger()["requests"]

    assert (looked.code, len(requests)) == (0, 1)


def test_a_folder_in_use_is_left_alone(here: HERE, tmp_path: Path) -> None:
    write_tasks(tmp_path / "tasks.csv", TASKS[:2])
    with running(rate=None, faults=lost) as d3:
        here("run", "tasks.csv", "--yes", env=d3.env)
        held = open_folder(tmp_path / "tasks.d3run")
        looked = here("reconcile", "tasks.d3run", env=d3.env)
        held.abandon()

    assert looked.code == 2
    assert outcomes(tmp_path / "tasks.d3run") == [UNKNOWN, UNKNOWN]


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_settled_and_lets_the_folder_go(cli: Cli, tmp_path: Path) -> None:
    pairs = [(f"20231021-{n}1", "20210127-7") for n in range(1, 40)]
    (tmp_path / "links.csv").write_text("source,linked\n" + "\n".join(map(",".join, pairs)))
    with running(rate=None, faults=lost, links=pairs) as d3:
        cli("run", "links.csv", "--yes", "--max-attempts", "1", "--halt", "unknown=99", env=d3.env)
        d3.url.backend.latency = lambda: 0.6
        words = [sys.executable, "-m", "d3async", "reconcile", "links.d3run", "--using", "get-linked-incidents"]
        env = {**os.environ, "D3_CONFIG": os.devnull, **d3.env}
        with subprocess.Popen(words, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True) as looking:
            while len([1 for entry in d3.ledger()["requests"] if entry["status"] == 200]) < 10:
                time.sleep(0.05)
            looking.send_signal(signal.SIGINT)
            told = looking.communicate(timeout=30)[1]
        d3.url.backend.latency = None
        again = cli("reconcile", "links.d3run", env=d3.env)

    assert looking.returncode == 130, told
    assert "Interrupted; what was settled stands." in told
    assert again.code == 0, again.err
    assert outcomes(tmp_path / "links.d3run") == [("ok", "removed")] * 39
