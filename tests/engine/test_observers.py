"""Hooks, log, spans and numbers: they tell of every attempt and outcome, and never what a row or an answer says."""

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from d3async import CreateTask, D3Client, Settings
from d3async.engine.observers import AttemptSeen, CallSeen, Observer, OutcomeSeen
from d3async.errors import NotSentError, RefusedError, UnauthorizedError, UnknownOutcomeError
from d3async.sandbox import serve

PRIVATE = "quarterly-secret-name"
KEY = "key-that-nobody-sees"


def task(number: int, **more: Any) -> CreateTask:
    fields = {"name": PRIVATE, "description": PRIVATE, "assignee": "admin user", "due": "2026-12-01 17:00:00"}
    return CreateTask(incident=f"{PRIVATE}-{number}", **{**fields, **more})


def settings(url: Any) -> Settings:
    return Settings.from_env(url.env, rate=2000, max_attempts=2)


@pytest.fixture
def log() -> Iterator[list[logging.LogRecord]]:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger = logging.getLogger("d3async")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield records
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


@pytest.mark.asyncio
async def test_hooks_hear_of_every_request_that_left_and_of_every_outcome() -> None:
    attempts: list[AttemptSeen] = []
    outcomes: list[OutcomeSeen] = []
    async with (
        serve(rate=0, faults=["error-429", None, "drop-after"], links=[("s-1", "a")]) as url,
        D3Client(settings(url), on_attempt=attempts.append, on_outcome=outcomes.append) as d3,
    ):
        await d3.execute(task(1))
        with pytest.raises(UnknownOutcomeError):
            await d3.execute(task(2))
        await d3.remove_linked_incidents("s-1", ["a", "b"])

    assert [(a.command, a.attempt, a.status, a.code) for a in attempts] == [
        ("CreateTask", 1, 429, "throttled"),
        ("CreateTask", 2, 200, ""),
        ("CreateTask", 1, None, "connection_lost"),
        ("RemoveLinkedIncidents", 1, 200, "partial"),
    ]
    assert attempts[1].limiter.throttled == 1
    assert [(o.command, o.outcome, o.items) for o in outcomes] == [
        ("CreateTask", "ok", (0, 0, 0)),
        ("CreateTask", "unknown", (0, 0, 0)),
        ("RemoveLinkedIncidents", "partial", (1, 1, 0)),
    ]


@pytest.mark.asyncio
async def test_a_call_without_a_last_answer_has_an_outcome_too() -> None:
    outcomes: list[OutcomeSeen] = []
    async with serve(rate=0, faults=["hang", "error-401"]) as url:
        async with D3Client(settings(url), on_outcome=outcomes.append) as d3:
            with pytest.raises(UnknownOutcomeError):
                await d3.execute(task(1), timeout=0.2)
            with pytest.raises(UnauthorizedError):
                await d3.execute(task(2))
        nowhere = Settings.from_env({**url.env, "D3_BASE_URL": "http://127.0.0.1:9/s/V"}, max_attempts=1)
        async with D3Client(nowhere, on_outcome=outcomes.append) as d3:
            with pytest.raises(NotSentError):
                await d3.execute(task(3))

    told = [(o.outcome, o.code) for o in outcomes]
    assert told == [("unknown", "timeout"), ("unsent", "unauthorized"), ("unsent", "unreachable")]


@pytest.mark.asyncio
async def test_in_a_run_hooks_name_the_row() -> None:
    seen: list[Any] = []
    async with serve(rate=0) as url, D3Client(settings(url), on_attempt=seen.append, on_outcome=seen.append) as d3:
        async for _ in d3.run([task(1), task(2)]):
            pass

    assert sorted(one.row for one in seen) == [1, 1, 2, 2]


class Broken(Observer):
    """Raises wherever it is asked."""

    @contextmanager
    def call(self, seen: CallSeen) -> Iterator[None]:
        yield
        raise ZeroDivisionError

    def attempt(self, seen: AttemptSeen) -> None:
        raise ZeroDivisionError

    def answered(self, seen: CallSeen, **_: Any) -> None:
        raise ZeroDivisionError

    def outcome(self, seen: OutcomeSeen) -> None:
        raise ZeroDivisionError


@pytest.mark.asyncio
async def test_a_hook_that_raises_is_logged_and_changes_nothing(log: list[logging.LogRecord]) -> None:
    async with serve(rate=0) as url, D3Client(settings(url), observers=[Broken()]) as d3:
        await d3.execute(task(1))
        got = [outcome.outcome async for outcome in d3.run([task(2)])]

    assert got == ["ok"]
    errors = [record for record in log if record.levelname == "ERROR"]
    assert len(errors) == 8, "attempt, answered, call and outcome; of the call and of the row"


@pytest.mark.asyncio
async def test_the_log_has_structure_and_neither_row_text_nor_secrets(log: list[logging.LogRecord]) -> None:
    async with serve(rate=0, keys={"*": KEY}, assignees=["admin user"]) as url, D3Client(settings(url)) as d3:
        with pytest.raises(RefusedError):
            await d3.execute(task(1, assignee=f"nobody {PRIVATE}"))
        async for _ in d3.run([task(2)]):
            pass

    attempt, outcome, *_ = log
    assert (attempt.levelname, attempt.command, attempt.attempt) == ("DEBUG", "CreateTask", 1)  # type: ignore[attr-defined]
    assert (attempt.status, attempt.code, attempt.row) == (200, "command_error", None)  # type: ignore[attr-defined]
    assert attempt.elapsed > 0  # type: ignore[attr-defined]
    assert (outcome.levelname, outcome.outcome) == ("INFO", "failed")  # type: ignore[attr-defined]
    assert {record.name for record in log} == {"d3async"}
    told = "".join(json.dumps(record.__dict__, default=repr) + record.getMessage() for record in log)
    assert PRIVATE not in told
    assert KEY not in told


@pytest.mark.asyncio
async def test_nobody_listening_costs_no_wrapping() -> None:
    async with serve(rate=0) as url, D3Client(settings(url)) as d3:
        assert d3._watch.carrier(d3._parts.delivery) is d3._parts.delivery


def test_run_verbose_shows_each_attempt_on_stderr(tmp_path: Path) -> None:
    """The text of rows and answers stays out."""
    jobs = tmp_path / "tasks.jsonl"
    jobs.write_text("".join(task(n).model_dump_json() + "\n" for n in range(3)))

    async def ran() -> tuple[str, str]:
        async with serve(rate=0, keys={"*": KEY}) as url:
            words = [sys.executable, "-m", "d3async", "run", str(jobs), "-v", "--yes", "--progress", "none"]
            done = await asyncio.to_thread(
                subprocess.run, words, env={**url.env, "PATH": "", "D3_CONFIG": "/dev/null"}, capture_output=True
            )
            return done.stdout.decode(), done.stderr.decode()

    out, err = asyncio.run(ran())
    assert out == ""
    assert [f"row {n} CreateTask, attempt 1: 200 after" in err for n in (1, 2, 3)] == [True] * 3
    assert KEY not in err
