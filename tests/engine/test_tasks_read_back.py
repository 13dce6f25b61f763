"""Tasks looked up in the logs of a sandbox: only those that are there are settled, exactly by their marks."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from d3async.d3.task_search import mark_of, marks_in
from d3async.engine.read_back import TaskCounts, reconcile_tasks
from d3async.errors import FencedError, JournalError
from d3async.journal.reconcile import LookupResult, mark_tasks
from d3async.journal.sqlite.session import hold
from tests.engine.ground import Ground, ground, link, task

INCIDENT = "20220125-1"


def lose(ask: Any) -> str | None:
    """A task is lost in the way its name says."""
    name = ask.params.get("Task Name", "")
    return next((fault for fault in ("drop-after", "drop-before") if fault in name), None)


def later() -> float:
    return time.time() + 60


@pytest.mark.asyncio
@pytest.mark.parametrize("shape", [1, 2])
@pytest.mark.parametrize("mark", [False, True])
async def test_of_many_lost_tasks_just_those_that_happened_are_ok(tmp_path: Path, shape: int, *, mark: bool) -> None:
    names = ["drop-after", "drop-before", "kept"]
    jobs = [task(n, f"20220125-{n % 4}", f"{names[n % 3]} {n}", f"Analyst {n % 5}") for n in range(1, 31)]
    async with ground(tmp_path, faults=lose, log_shape=shape) as site:
        await site.run(jobs, mark=mark)
        counts = await reconcile_tasks(site.client, site.unknown(), wall=later)

        happened = {entry["Task Name"] for entry in site.d3.ledger()["tasks"]}
        assert {
            job.asked.command.name for job, (state, _) in zip(jobs, site.rows(), strict=True) if state == "ok"
        } == happened
        assert (counts.found, counts.absent + counts.open) == (10, 10)
        assert counts.absent == (10 if mark else 0)


@pytest.mark.asyncio
async def test_the_same_task_for_two_people_is_told_apart(tmp_path: Path) -> None:
    """The user who creates tasks is named in the log of each of them."""
    jobs = [task(1, INCIDENT, "drop-after", "Bob Ray"), task(2, INCIDENT, "drop-before", "admin user")]
    async with ground(tmp_path, faults=lose, log_shape=2) as site:
        await site.run(jobs)
        await reconcile_tasks(site.client, site.unknown())

        assert site.rows() == [("ok", "found"), ("unknown", "connection_lost")]


@pytest.mark.asyncio
@pytest.mark.parametrize("shape", [1, 2])
async def test_of_two_rows_alike_one_trace_proves_one(tmp_path: Path, shape: int) -> None:
    faults = iter(["drop-after", "drop-before", *[None] * 9])
    async with ground(tmp_path, faults=lambda _: next(faults), log_shape=shape) as site:
        await site.run([task(1, INCIDENT, "Call"), task(2, INCIDENT, "Call")])
        counts = await reconcile_tasks(site.client, site.unknown())

        assert counts == TaskCounts(found=1, absent=0, open=1)
        assert [state for state, _ in site.rows()] == ["ok", "unknown"]
        assert "2 tasks of ours look like this one" in site.message(2)


@pytest.mark.asyncio
async def test_with_marks_it_is_known_which_of_two_rows_alike_it_was(tmp_path: Path) -> None:
    faults = iter(["drop-before", "drop-after", *[None] * 9])
    async with ground(tmp_path, faults=lambda _: next(faults)) as site:
        await site.run([task(1, INCIDENT, "Call"), task(2, INCIDENT, "Call")], mark=True)
        await reconcile_tasks(site.client, site.unknown())

        (created,) = site.d3.ledger()["tasks"]
        states = {
            marks_in(params).pop(): state for params, state in site.folder.db.execute("select params, state from job")
        }
        assert states.pop(marks_in(created["Task Description"]).pop()) == "ok"
        assert list(states.values()) == ["unknown"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("flag", "seconds", "outcome"),
    [(False, 60, "unknown"), (True, 60, "failed"), (True, 0, "unknown")],
    ids=["it is only said", "the user takes it for a no", "too early to say"],
)
async def test_a_mark_that_the_log_lacks(tmp_path: Path, seconds: float, outcome: str, *, flag: bool) -> None:
    async with ground(tmp_path, faults=lose) as site:
        await site.run([task(1, INCIDENT, "drop-before"), task(2, INCIDENT, "kept")], mark=True)
        await reconcile_tasks(site.client, site.unknown(), not_found_is_failed=flag, wall=lambda: time.time() + seconds)

        assert site.rows()[0] == (outcome, {"failed": "not_found"}.get(outcome, "connection_lost"))
        assert ("--not-found-is-failed" in site.message(1)) is (not flag)


@pytest.mark.asyncio
async def test_a_log_that_shows_none_of_the_others_proves_no_absence(tmp_path: Path) -> None:
    async with ground(tmp_path, faults=lose) as site:
        await site.run([task(1, INCIDENT, "drop-before"), task(2, INCIDENT, "kept")], mark=True)
        site.d3.state.tasks_of(INCIDENT).clear()
        await reconcile_tasks(site.client, site.unknown(), not_found_is_failed=True, wall=later)

        assert site.rows()[0][0] == "unknown"


@pytest.mark.asyncio
async def test_a_log_that_cannot_be_read_leaves_it_unknown_and_says_why(tmp_path: Path) -> None:
    def faults(ask: Any) -> str | None:
        return lose(ask) or ("error-500-before" if ask.command == "GetIncidentCommandCenterLogs" else None)

    async with ground(tmp_path, faults=faults) as site:
        await site.run([task(1, INCIDENT, "drop-after")])
        await reconcile_tasks(site.client, site.unknown())

        assert site.rows() == [("unknown", "connection_lost")]
        assert "log cannot be read" in site.message(1)


def sent(site: Ground) -> list[str]:
    told = site.folder.db.execute("select params from job order by row").fetchall()
    return [json.loads(params)["Task Description"] for (params,) in told]


@pytest.mark.asyncio
async def test_a_mark_stays_the_same_and_does_not_change_the_row(tmp_path: Path) -> None:
    jobs = [task(1, INCIDENT, "drop-before"), task(2, INCIDENT, "kept"), task(3, INCIDENT, "Call", "nobody")]
    async with ground(tmp_path, faults=lose) as site:
        await site.run(jobs, mark=True)
        first = sent(site)
        assert [state for state, _ in site.rows()] == ["unknown", "ok", "failed"]
        assert all(len(marks_in(text)) == 1 for text in first)

        site.again()
        await site.run(jobs, mark=True)

        assert sent(site) == first
        assert site.asked("CreateTask") == 4


@pytest.mark.asyncio
async def test_without_the_option_rows_still_to_be_sent_lose_their_marks(tmp_path: Path) -> None:
    jobs = [task(1, INCIDENT, "drop-before"), task(2, INCIDENT, "Call", "nobody")]
    async with ground(tmp_path, faults=lose) as site:
        await site.run(jobs, mark=True)
        kept = sent(site)[0]
        site.again()
        await site.run(jobs, mark=False)

        assert sent(site) == [kept, "Ask."]


@pytest.mark.asyncio
async def test_marks_belong_to_one_folder(tmp_path: Path) -> None:
    """The same row in a new folder is another task; it must not be proven by the old one."""
    async with ground(tmp_path / "one") as one, ground(tmp_path / "two") as two:
        await one.run([task(1, INCIDENT, "Call")], mark=True)
        await two.run([task(1, INCIDENT, "Call")], mark=True)

        assert sent(one) != sent(two)
        identity = one.folder.db.execute("select identity from job").fetchone()[0]
        assert mark_of(one.session().salt, identity, 0) in sent(one)[0]


@pytest.mark.asyncio
async def test_marking_leaves_links_alone(tmp_path: Path) -> None:
    async with ground(tmp_path) as site:
        await site.run([link(1, "1-1", "1-2")], mark=True)
        mark_tasks(site.session(), on=True)

        assert site.rows() == [("failed", "not_linked")]


@pytest.mark.asyncio
async def test_rows_an_owner_died_with_are_looked_up_too(tmp_path: Path) -> None:
    async with ground(tmp_path) as site:
        await site.run([task(1, INCIDENT, "Call")])
        site.folder.db.execute("update job set state = 'sent'")
        site.folder.close()
        site.folder = hold(tmp_path / "job.d3run", now=time.time())
        counts = await reconcile_tasks(site.client, site.unknown())

        assert counts.found == 1
        assert site.rows() == [("ok", "found")]
        site.folder.abandon()


@pytest.mark.asyncio
async def test_a_former_owner_settles_nothing(tmp_path: Path) -> None:
    async with ground(tmp_path, faults=lose) as site:
        await site.run([task(1, INCIDENT, "drop-after")])
        rows = site.unknown()
        site.folder.db.execute("update meta set value = '99' where key = 'epoch'")

        with pytest.raises(FencedError):
            rows.settle_tasks([LookupResult(1, None, "ok", "found", "")])
        assert site.rows() == [("unknown", "connection_lost")]


def test_a_folder_without_a_journal_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(JournalError):
        hold(tmp_path / "none.d3run", now=0.0)

    assert not (tmp_path / "none.d3run").exists()
