"""Cancelled at any step of the event loop, a call or a run leaves no slot, token, connection, task or row behind."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from d3async import CreateTask, D3Client, RemoveLinkedIncidents, Settings
from d3async.sandbox import serve

FIELDS = {"name": "n", "description": "d", "assignee": "admin user", "due": "2026-12-01 17:00:00"}


async def cancelled_after(steps: int, work: Awaitable[Any]) -> bool:
    """Cancel *work* after so many turns of the event loop; whether it was done before."""
    task = asyncio.ensure_future(work)
    for _ in range(steps):
        if task.done():
            break
        await asyncio.sleep(0)
    done = task.done()
    task.cancel()
    await asyncio.wait([task])
    if done:
        task.result()
    else:
        assert task.cancelled() or task.exception() is None, task
    return done


async def nothing_left(d3: D3Client, before: set[asyncio.Task[Any]]) -> None:
    """Nothing of d3async runs or waits; a closed connection's last words may take a few turns more."""
    connector = d3._parts.transport._way._session.connector  # type: ignore[union-attr]
    for _ in range(200):
        left = [task for task in asyncio.all_tasks() - before if "d3async" in task.get_name()]
        if not left and not connector._acquired:  # type: ignore[union-attr]
            break
        await asyncio.sleep(0.005)
    assert not left
    assert not connector._acquired  # type: ignore[union-attr]
    assert (d3.limiter.in_flight, d3.limiter.waiting) == (0, 0)
    assert not d3._carrier._locks


Call = Callable[[D3Client, int], Awaitable[Any]]
CALLS: dict[str, Call] = {
    "create a task": lambda d3, n: d3.create_task(incident=f"i-{n}", **FIELDS),  # type: ignore[arg-type]
    "remove links": lambda d3, n: d3.remove_linked_incidents("s-1", ["a", "b"]),
    "any command": lambda d3, n: d3.call("GetLinkedIncidentsOfAnIncident", {"Incident Number": "s-1"}),
    "with a timeout": lambda d3, n: d3.create_task(incident=f"i-{n}", timeout=30, **FIELDS),  # type: ignore[arg-type]
}


@pytest.mark.asyncio
@pytest.mark.parametrize("rate", [2000.0, 60.0], ids=["at once", "waiting for a token"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_call_cancelled_at_any_step_leaves_nothing_behind(call: Call, rate: float) -> None:
    async with (
        serve(rate=0, links=[("s-1", "a"), ("s-1", "b")]) as url,
        D3Client(Settings.from_env(url.env, rate=rate, concurrency=1)) as d3,
    ):
        before, steps, done = asyncio.all_tasks(), 0, False
        while not done and steps < 60:
            done = await cancelled_after(steps, call(d3, steps))
            await nothing_left(d3, before)
            steps += 1 if steps < 40 else 5

        await asyncio.wait_for(call(d3, 999), 10)


@pytest.mark.asyncio
async def test_a_token_nobody_used_is_not_lost() -> None:
    """Cancelled before the wire, a call costs those behind it nothing: the limiter counts what was really sent."""
    async with serve(rate=0) as url, D3Client(Settings.from_env(url.env, rate=200)) as d3:
        for steps in range(8):
            await cancelled_after(steps, d3.create_task(incident=f"i-{steps}", **FIELDS))  # type: ignore[arg-type]
        await asyncio.sleep(0.05)

        assert d3.limiter.granted == len(url.ledger()["requests"])


JOBS = [
    *(CreateTask(incident=f"i-{n}", **FIELDS) for n in range(6)),  # type: ignore[arg-type]
    RemoveLinkedIncidents(source="s-1", linked=["a", "b"]),
]


async def exhaust(run: Any) -> list[Any]:
    return [outcome async for outcome in run]


async def steps_of(work: Awaitable[Any]) -> int:
    task = asyncio.ensure_future(work)
    steps = 0
    while not task.done():
        await asyncio.sleep(0)
        steps += 1
    task.result()
    return steps


def spread(total: int, points: int) -> Iterator[int]:
    yield from range(min(8, points))
    yield from (total * at // points for at in range(1, points + 1))


async def cancelled_run(url: Any, folder: Path, steps: int) -> None:
    async with D3Client(Settings.from_env(url.env, rate=2000, concurrency=2)) as d3:
        before = asyncio.all_tasks()
        await cancelled_after(steps, exhaust(d3.run(JOBS, journal=folder, allow_similar=True)))
        await nothing_left(d3, before)
    check_folder(folder)


def check_folder(folder: Path) -> None:
    """Nobody holds it, and what was sent has an outcome."""
    assert not (folder / ".lock").exists()
    if folder.exists():
        with closing(sqlite3.connect(folder / "journal.sqlite")) as db:
            assert db.execute("select count(*) from job where state = 'sent'").fetchone() == (0,)
            assert db.execute("select count(*) from meta where key = 'owner'").fetchone() == (0,)


async def cancelled_everywhere(tmp_path: Path, points: int) -> None:
    links = [("s-1", "a"), ("s-1", "b")]
    async with serve(rate=0, links=links, latency=0.002) as url:
        async with D3Client(Settings.from_env(url.env, rate=2000, concurrency=2)) as d3:
            total = await steps_of(exhaust(d3.run(JOBS, journal=tmp_path / "whole", allow_similar=True)))
        for steps in spread(total, points):
            url.reset()
            folder = tmp_path / f"at-{steps}"
            await cancelled_run(url, folder, steps)
            async with D3Client(Settings.from_env(url.env, rate=2000)) as d3:
                again = await exhaust(d3.run(JOBS, journal=folder, allow_similar=True))

            assert sorted(outcome.row for outcome in again) == list(range(1, 8))
            assert {outcome.outcome for outcome in again} <= {"ok", "unknown"}
            counts = url.ledger()["counts"]
            assert counts["tasks_repeated"] == 0
            created = sum(o.outcome == "ok" for o in again if o.row < 7)
            assert created <= counts["tasks"] <= 6, "a task that is ok exists, one that exists is ok or unknown"


@pytest.mark.asyncio
async def test_a_run_cancelled_at_any_step_is_resumed_without_loss_or_repetition(tmp_path: Path) -> None:
    await cancelled_everywhere(tmp_path, 15)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_run_cancelled_at_any_step_many_times_over(tmp_path: Path) -> None:
    await cancelled_everywhere(tmp_path, 400)


@pytest.mark.asyncio
async def test_cancelled_twice_a_run_drops_what_is_in_flight_at_once(tmp_path: Path) -> None:
    async with serve(rate=0, faults=lambda _: "hang") as url:
        async with D3Client(Settings.from_env(url.env, rate=2000)) as d3:
            task = asyncio.ensure_future(exhaust(d3.run(JOBS, journal=tmp_path / "n")))
            while len(url.ledger()["requests"]) < len(JOBS):  # noqa: ASYNC110 - the server has no event to wait for
                await asyncio.sleep(0.005)
            task.cancel()
            await asyncio.sleep(0.05)
            assert not task.done(), "the first cancel drains"
            task.cancel()
            await asyncio.wait([task], timeout=5)
            assert task.cancelled()
        url.set_faults(None)
        async with D3Client(Settings.from_env(url.env, rate=2000)) as d3:
            again = await exhaust(d3.run(JOBS, journal=tmp_path / "n"))

        assert [o.outcome for o in sorted(again, key=lambda o: o.row)] == ["unknown"] * 6 + ["failed"]
