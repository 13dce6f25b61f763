"""A fleet from files to results: real processes, a real database, D3s that let fifty requests a second in."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.stub import Stub, stub
from tests.database import running
from tests.end_to_end.ground import running as sandbox
from tests.fleet.ground import KEY, Fleet, Ran, fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.database import Postgres

IN_FLIGHT = 32
"""Requests in flight to one D3 at most: what a killed worker may leave unknown of each tenant."""


@contextmanager
def several(
    tmp_path: Path, postgres: Postgres, *, tenants: int, typed: Callable[..., Ran] | None = None, latency: float = 0.05
) -> Iterator[tuple[Fleet, Stub]]:
    with stub(limit=50, latency=latency, ports=tenants, count=True) as d3:
        urls = {f"t{number}": url for number, url in enumerate(d3.urls)}
        with fleet(tmp_path / "fleet", postgres.database(), urls, typed=typed) as found:
            yield found, d3


def assert_kept(found: Fleet, d3: Stub, counts: dict[str, int], *, unknown: int) -> None:
    """Nothing lost, nothing doubled, never above the limit, results whole and in order. Once *d3* has ended."""
    assert sum(seen["duplicates"] for seen in d3.all_seen) == 0
    assert sum(seen["refused"] for seen in d3.all_seen) == 0
    for run, count in counts.items():
        rows = found.results(run)
        became = Counter(row["_outcome"] for row in rows)
        assert [row["_row"] for row in rows] == [str(number) for number in range(1, count + 1)]
        assert set(became) <= {"ok", "unknown"}
        assert became["unknown"] <= unknown


def test_a_kill_and_a_crash_of_the_database_lose_nothing_and_double_nothing(
    tmp_path: Path, typed: Callable[..., Ran]
) -> None:
    with running() as server:
        with several(tmp_path, server, tenants=2, typed=typed) as (found, d3):
            files = [found.file("t0", 60), found.file("t1", 50)]
            submitted = found.run("submit", *files, "--processes", 1)
            first = found.worker("--stalled-after", "2s")
            found.worker("--stalled-after", "2s")
            found.wait(20, seconds=20)
            server.stop("immediate")
            server.start()
            found.wait(45, seconds=30)
            first.kill()
            found.wait(110, seconds=30)
            again = found.run("submit", *files, "--processes", 1)
            told = found.status()
            codes = found.end()

            assert submitted.code == 0
            assert "110 rows to send" in submitted.err
            assert "0 rows to send" in again.err
            assert codes == [-signal.SIGKILL, 0]
            assert "the database is away" in found.said()
            assert KEY not in submitted.err + again.err + found.said() + str(told)
            assert found.secret_free()
        assert_kept(found, d3, {"t0": 60, "t1": 50}, unknown=2 * IN_FLIGHT)


def test_a_worker_that_is_asked_to_end_leaves_the_rest_and_a_cancelled_run_is_taken_up_again(
    tmp_path: Path, postgres: Postgres, typed: Callable[..., Ran]
) -> None:
    with several(tmp_path, postgres, tenants=1, typed=typed) as (found, d3):
        file = found.file("t0", 90)
        found.run("submit", file)
        found.worker()
        found.wait(20, seconds=20)
        codes = found.end()
        drained = found.outcomes()
        during = found.results("t0")
        found.worker()
        found.wait(drained["ok"] + 10, seconds=20)
        cancelled = found.run("cancel", "t0")
        stood = found.outcomes()
        told = found.run("status", "t0")
        again = found.run("submit", file)
        found.wait(90, seconds=20)

        assert codes == [0]
        assert drained.keys() == {"ok", "pending"}
        assert [row["_row"] for row in during] == [str(number) for number in range(1, 91)]
        assert cancelled.code == 0
        assert stood.keys() == {"ok", "pending"}
        assert "stopped" in told.out
        assert "to go on" in told.out
        assert "90 known from before" in again.err
    assert_kept(found, d3, {"t0": 90}, unknown=0)


def test_a_worker_that_is_asked_twice_drops_what_is_in_flight_which_is_unknown(
    tmp_path: Path, postgres: Postgres, typed: Callable[..., Ran]
) -> None:
    with several(tmp_path, postgres, tenants=1, typed=typed, latency=60.0) as (found, _):
        found.run("submit", found.file("t0", 40))
        worker = found.worker()
        found.wait_for("select count(*) from d3async_job where state = 'sent'", 1, seconds=20)
        worker.send_signal(signal.SIGTERM)
        found.wait_for_words("again to cancel it", seconds=10)
        worker.send_signal(signal.SIGTERM)
        code = worker.wait(20)

        outcomes = found.outcomes()
        assert code == 0
        assert outcomes.keys() == {"unknown", "pending"}
        assert outcomes["unknown"] == 1, "one request is in flight until D3 has answered"


def test_a_worker_leaves_tenants_it_does_not_know_to_others_and_status_says_so(
    tmp_path: Path, postgres: Postgres, typed: Callable[..., Ran]
) -> None:
    with several(tmp_path, postgres, tenants=2, typed=typed) as (found, _):
        found.run("submit", found.file("t0", 10), found.file("t1", 10), "--processes", 1)
        found.write_config(["t0"])
        found.worker()
        found.wait(10, seconds=20)
        told = found.status()

        waiting = {run["run"]: (run["to_send"], run["served"]) for run in told["runs"]}
        assert waiting == {"t0": (0, True), "t1": (10, False)}


def test_unknown_rows_of_a_run_are_looked_up_in_its_tenants_d3(
    tmp_path: Path, postgres: Postgres, typed: Callable[..., Ran]
) -> None:
    def lost(ask: Any) -> str | None:
        return "drop-after" if ask.command == "CreateTask" and "lost" in ask.params["Task Name"] else None

    with sandbox(rate=0, faults=lost) as d3:
        key = d3.env["D3_API_KEY"]
        with fleet(tmp_path / "fleet", postgres.database(), {"t0": str(d3.url)}, typed=typed, key=key) as found:
            file = found.file("t0", 4)
            file.write_text(file.read_text().replace("user 2", "user 2 is lost"))
            found.run("submit", file)
            found.worker()
            found.wait(4, seconds=20)
            found.end()
            before = found.run("status", "t0")
            settled = found.run("reconcile", "t0")
            after = found.results("t0")
            nothing = found.run("reconcile", "t0")

    assert "1 unknown" in before.out
    assert "d3async reconcile t0" in before.out
    assert settled.code == 0
    assert "Settled 1 of 1" in settled.err
    assert [row["_outcome"] for row in after] == ["ok"] * 4
    assert nothing.code == 0
    assert "no row is unknown" in nothing.err


@pytest.fixture
def idle(tmp_path: Path, postgres: Postgres, typed: Callable[..., Ran]) -> Iterator[Fleet]:
    """A fleet without workers, two tenants."""
    urls = dict.fromkeys(("a", "b"), "http://127.0.0.1:9/x")
    with fleet(tmp_path / "fleet", postgres.database(), urls, typed=typed) as found:
        yield found


def test_one_invalid_row_in_one_file_and_nothing_of_any_is_submitted(idle: Fleet) -> None:
    good, bad = idle.file("a", 3), idle.file("b", 3)
    bad.write_text(bad.read_text().replace("user2", "", 1))

    refused = idle.run("submit", good, bad, "--processes", 2)
    nothing = idle.ask("select count(*) from d3async_run")
    left_out = idle.run("submit", good, bad, "--skip-invalid", "--json", "--processes", 1)

    assert refused.code == 3
    assert "assignee" in refused.err
    assert "line 3" in refused.err
    assert nothing == [(0,)]
    assert left_out.code == 0
    assert json.loads(left_out.out)["to_send"] == 5
    assert idle.outcomes() == {"pending": 5, "invalid": 1}


def test_a_run_is_forgotten_only_by_who_says_so(idle: Fleet) -> None:
    idle.run("submit", idle.file("a", 3))

    refused = idle.run("cancel", "a", "--forget")
    forgotten = idle.run("cancel", "a", "--forget", "--yes")

    assert refused.code == 2
    assert "add --yes" in refused.err
    assert forgotten.code == 0
    assert "forgotten: 3 rows" in forgotten.err
    assert idle.ask("select count(*) from d3async_row") == [(0,)]


def test_what_a_fleet_needs_is_said_where_it_is_missing(idle: Fleet) -> None:
    """In a process without psycopg, as after `pip install d3async`."""
    without = "import sys; sys.modules['psycopg'] = None; from d3async.cli.main import main; main()"
    idle.file("a", 1)
    for words in (["submit", "a.csv"], ["worker"], ["results", "x"]):
        done = subprocess.run(
            [sys.executable, "-c", without, *words], env=idle.environment, cwd=idle.folder, capture_output=True,
            text=True, check=False,
        )  # fmt: skip

        assert done.returncode == 2
        assert "pip install 'd3async[fleet]'" in done.stderr


def test_a_dry_run_submits_nothing(idle: Fleet) -> None:
    told = idle.run("submit", idle.file("a", 3), "--dry-run", "--json")

    assert told.code == 0
    assert json.loads(told.out)["submitted"] is False
    assert idle.ask("select count(*) from d3async_run") == [(0,)]


@pytest.mark.parametrize("name", ["mixed", "a"])
def test_a_profile_column_says_whom_rows_are_for(idle: Fleet, name: str) -> None:
    """Also of a file that is called like one of the profiles."""
    lines = idle.file(name, 4).read_text().splitlines()
    whom = ["profile", "b", "a", "b", "b"]
    (idle.folder / f"{name}.csv").write_text("".join(f"{who},{line}\n" for who, line in zip(whom, lines, strict=True)))

    told = idle.run("submit", f"{name}.csv")

    assert told.code == 0
    assert [(row["_row"], row["_line"], row["profile"]) for row in idle.results(f"{name}.b")] == [
        ("1", "2", "b"),
        ("2", "4", "b"),
        ("3", "5", "b"),
    ]
    assert [row["_line"] for row in idle.results(f"{name}.a")] == ["3"]


def test_a_profile_that_is_not_there_makes_its_row_invalid(idle: Fleet) -> None:
    lines = idle.file("mixed", 2).read_text().splitlines()
    whom = ["profile", "a", "c"]
    (idle.folder / "mixed.csv").write_text("".join(f"{who},{line}\n" for who, line in zip(whom, lines, strict=True)))

    told = idle.run("submit", "mixed.csv")

    assert told.code == 3
    assert 'line 3 "c" is no profile' in told.err
    assert idle.ask("select count(*) from d3async_run") == [(0,)]


def test_a_run_belongs_to_one_d3(idle: Fleet) -> None:
    idle.run("submit", idle.file("a", 1))
    moved = {name: url.replace(":9/", ":10/") for name, url in idle.tenants.items()}
    elsewhere = replace(idle, tenants=moved)

    told = elsewhere.run("submit", "a.csv")

    assert told.code == 2
    assert "another name with --run" in told.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["submit", "nobody.csv"], "Whom are these for: nobody.csv"),
        (["submit", "t0.csv", "--profile", "t9"], 'no profile "t9"'),
        (["submit", "-"], "not stdin"),
        (["submit", "t0.csv", "other/t0.csv"], 'would be the run "t0"'),
        (["submit", "t0.csv", "t1.csv", "--run", "x"], "--run names one run"),
        (["submit", "t0.csv", "--retry-unknown"], "add --yes"),
        (["submit", "missing.csv", "--profile", "t0"], "missing.csv"),
        (["status", "nothing"], "no run nothing"),
        (["cancel", "nothing"], "no run nothing"),
        (["results", "nothing"], "no run nothing"),
        (["worker", "--tenant", "t9"], 'no profile "t9"'),
        (["worker", "--stalled-after", "10ms"], "at least 1s"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line_with_exit_code_2(
    standing_fleet: Fleet, typed: Callable[..., Ran], arguments: list[str], says: str
) -> None:
    told = typed(standing_fleet, *arguments)

    assert told.code == 2
    assert says in told.err
    assert "Traceback" not in told.err


@pytest.fixture(scope="module")
def standing_fleet(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Fleet]:
    urls = dict.fromkeys(("t0", "t1"), "http://127.0.0.1:9/x")
    with fleet(tmp_path_factory.mktemp("standing") / "fleet", postgres.database(), urls) as found:
        for name in ("t0", "t1", "nobody"):
            found.file(name, 1)
        assert found.run("submit", "t0.csv").code == 0
        yield found


@pytest.mark.parametrize("arguments", [["submit", "t0.csv"], ["status"], ["worker"], ["cancel", "x"], ["results", "x"]])
def test_a_database_that_is_not_there_is_named_without_its_password(
    tmp_path: Path, typed: Callable[..., Ran], arguments: list[str]
) -> None:
    url = "postgresql://svc:s3cret@127.0.0.1:1/fleet"
    with fleet(tmp_path / "fleet", url, {"t0": "http://127.0.0.1:9/x"}, typed=typed) as found:
        found.file("t0", 1)
        told = found.run(*arguments)

        assert told.code == 2
        assert "s3cret" not in told.err + told.out
        assert "127.0.0.1" in told.err
