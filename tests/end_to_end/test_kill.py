"""kill -9 at any moment, frozen and thawed, a second run beside the first: never twice, never lost."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.ground import rows_of

CONCURRENCY = 16
SERVER = """
import asyncio, json, sys
from d3async.sandbox import serve
async def main():
    links = [("20231025-130", f"20210127-{n}") for n in range(5000)]
    async with serve(rate=0, latency=0.15, jitter=0.14, links=links, seed=1) as url:
        print(json.dumps({"env": url.env, "ledger": url.ledger_url}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
asyncio.run(main())
"""


@dataclass
class Ground:
    """A sandbox in a process of its own, and a folder to run in."""

    env: dict[str, str]
    ledger_url: str
    folder: Path

    def ledger(self) -> dict[str, Any]:
        with urllib.request.urlopen(self.ledger_url) as answer:
            found: dict[str, Any] = json.loads(answer.read())
        return found

    def start(self, *options: str, file: str = "rows.csv", rate: float = 2_000) -> subprocess.Popen[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("D3_")}
        return subprocess.Popen(
            [sys.executable, "-m", "d3async", "run", file, "--yes", "--progress", "none", *options],
            env={
                **clean,
                **self.env,
                "D3_CONFIG": os.devnull,
                "D3_RATE": str(rate),
                "D3_CONCURRENCY": str(CONCURRENCY),
            },
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, *options: str, **start: Any) -> tuple[int, str]:
        run = self.start(*options, **start)
        _, told = run.communicate(timeout=300)
        assert "Traceback" not in told, told
        return run.returncode, told

    def write_tasks(self, count: int) -> None:
        rows = "".join(f"20220125-{n % 90 + 1},Task {n},x,admin user,2027-01-01 10:00:00\n" for n in range(count))
        (self.folder / "rows.csv").write_text("incident,name,description,assignee,due\n" + rows)

    def write_links(self, count: int) -> None:
        rows = "".join(f"20231025-130,20210127-{n}\n" for n in range(count))
        (self.folder / "rows.csv").write_text("source,linked\n" + rows)

    def results(self) -> list[dict[str, str]]:
        return rows_of(self.folder / "rows.d3run" / "results.csv")


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    with sandbox_process() as told:
        yield Ground(told["env"], told["ledger"], tmp_path)


@contextmanager
def sandbox_process() -> Iterator[dict[str, Any]]:
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdin
    assert server.stdout
    try:
        yield json.loads(server.stdout.readline())
    finally:
        server.stdin.close()
        server.wait(30)
        server.stdout.close()


def kill_and_run_again(ground: Ground, kills: int, *options: str, rate: float, longest: float) -> None:
    """Kill *kills* runs, each at a moment of its own, from before its first line to long after its first request."""
    dice = random.Random(4)
    for _ in range(kills):
        run = ground.start(*options, rate=rate)
        time.sleep(dice.uniform(0.1, longest))
        run.send_signal(signal.SIGKILL)
        run.communicate(timeout=60)


def assert_never_twice_never_lost(ground: Ground, rows: int, kills: int) -> Counter[str]:
    results = ground.results()
    outcomes = Counter(row["_outcome"] for row in results)
    made = Counter(task["Task Name"] for task in ground.ledger()["tasks"])
    by_name = {row["name"]: row["_outcome"] for row in results}

    assert max(made.values()) == 1, "a task was made twice"
    assert {by_name[name] for name in made} <= {"ok", "unknown"}, "a task that exists is called something else"
    assert {name for name, outcome in by_name.items() if outcome == "ok"} <= set(made), "a row is ok without a task"
    assert len(results) == rows == sum(outcomes.values())
    assert set(outcomes) <= {"ok", "unknown"}
    assert outcomes["unknown"] <= kills * CONCURRENCY
    return outcomes


def test_a_few_kills_make_no_task_twice_and_lose_none(ground: Ground) -> None:
    ground.write_tasks(200)
    kill_and_run_again(ground, 5, rate=50, longest=2.5)
    code, _ = ground.finish()

    outcomes = assert_never_twice_never_lost(ground, 200, 5)
    assert code == (4 if outcomes["unknown"] else 0)


@pytest.mark.slow
def test_two_hundred_kills_make_no_task_twice_and_lose_none(ground: Ground) -> None:
    ground.write_tasks(2_000)
    kill_and_run_again(ground, 200, rate=25, longest=3.0)
    code, told = ground.finish()

    assert code in {0, 4}, told
    outcomes = assert_never_twice_never_lost(ground, 2_000, 200)
    print(f"200 kills over 2,000 rows: {dict(outcomes)}")  # noqa: T201 - the figure for whoever asked for the slow run


def test_links_whose_run_was_killed_are_removed_and_ok(ground: Ground) -> None:
    """Removing is repeatable: what was in flight is asked for again, and "not linked" then means that it was us."""
    ground.write_links(60)
    kill_and_run_again(ground, 2, "--max-links-per-call", "2", rate=25, longest=2.5)
    code, _ = ground.finish("--max-links-per-call", "2")

    assert Counter(row["_outcome"] for row in ground.results()) == {"ok": 60}
    assert (code, ground.ledger()["counts"]["links_removed"]) == (0, 60)


@pytest.mark.parametrize("frozen", [0.5, pytest.param(20.0, marks=pytest.mark.slow)])
def test_a_frozen_run_keeps_its_folder_and_goes_on_when_thawed(ground: Ground, frozen: float) -> None:
    ground.write_tasks(80)
    run = ground.start(rate=40)
    wait_for_tasks(ground, 20)
    run.send_signal(signal.SIGSTOP)
    code, told = ground.finish()
    time.sleep(frozen)
    run.send_signal(signal.SIGCONT)
    _, said = run.communicate(timeout=120)

    assert code == 2
    assert f"pid {run.pid} on " in told
    assert "since" in told
    assert "Traceback" not in said
    assert run.returncode in {0, 4}
    assert_never_twice_never_lost(ground, 80, 1)


@pytest.mark.slow
def test_two_runs_started_together_share_nothing(ground: Ground) -> None:
    ground.write_tasks(40)
    runs = [ground.start(rate=100) for _ in range(4)]
    ended = [(run.communicate(timeout=120)[1], run.returncode) for run in runs]

    assert sorted(code for _, code in ended).count(2) >= 1
    assert all("Traceback" not in told for told, _ in ended)
    ground.finish()
    assert assert_never_twice_never_lost(ground, 40, 0)["ok"] == 40


@pytest.mark.slow
def test_a_row_added_between_kills_is_sent_once(ground: Ground) -> None:
    ground.write_tasks(100)
    kill_and_run_again(ground, 2, rate=60, longest=2.5)
    ground.write_tasks(140)
    ground.finish()

    assert_never_twice_never_lost(ground, 140, 2)


@pytest.mark.parametrize(
    ("number", "code"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_a_signal_drains_and_the_same_command_goes_on(ground: Ground, number: signal.Signals, code: int) -> None:
    ground.write_tasks(80)
    run = ground.start(rate=40)
    wait_for_tasks(ground, 20)
    run.send_signal(number)
    _, told = run.communicate(timeout=60)
    outcomes = Counter(row["_outcome"] for row in ground.results())

    assert run.returncode == code, told
    assert set(outcomes) == {"ok", "unsent"}, "what was in flight was waited for"
    assert ground.finish()[0] == 0
    assert_never_twice_never_lost(ground, 80, 0)


@pytest.mark.slow
def test_a_second_signal_drops_what_is_in_flight(ground: Ground) -> None:
    ground.write_tasks(120)
    run = ground.start("--drain-timeout", "60s", rate=40)
    wait_for_tasks(ground, 20)
    for _ in range(2):
        run.send_signal(signal.SIGINT)
        time.sleep(0.05)
    _, told = run.communicate(timeout=60)

    assert run.returncode == 130, told
    ground.finish()
    assert_never_twice_never_lost(ground, 120, 1)


def wait_for_tasks(ground: Ground, count: int) -> None:
    for _ in range(600):
        if ground.ledger()["counts"]["tasks"] >= count:
            return
        time.sleep(0.05)
    pytest.fail("the run does not get going")
