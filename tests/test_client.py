"""D3Client in an app: one client for many tasks, whole runs awaited, and nothing left behind."""

import asyncio
import dataclasses
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from d3async import CreateTask, D3Client, LookAlikeError, RemoveLinkedIncidents, Settings
from d3async.errors import (
    FolderHeldError,
    NotSentError,
    RefusedError,
    SettingsError,
    UnauthorizedError,
    UnknownOutcomeError,
)
from d3async.jobs.job import Invalid, Job, Problem, request_of
from d3async.sandbox import serve

LINKS = [("s-1", "a"), ("s-1", "b"), ("s-2", "a")]


def settings(url: Any, **more: Any) -> Settings:
    return Settings.from_env(url.env, rate=2000, **more)


def task(number: int, **more: Any) -> CreateTask:
    fields = {"name": "Call the user", "description": "Ask.", "assignee": "admin user", "due": "2026-12-01 17:00:00"}
    return CreateTask(incident=f"2026-{number}", **{**fields, **more})


async def outcomes(run: Any) -> list[Any]:
    return [outcome async for outcome in run]


# -- runs


@pytest.mark.asyncio
async def test_the_same_jobs_over_the_same_journal_send_nothing_the_second_time(tmp_path: Path) -> None:
    jobs = [*(task(n) for n in range(20)), RemoveLinkedIncidents(source="s-1", linked=["a", "b"])]
    async with serve(rate=0, links=LINKS) as url:
        async with D3Client(settings(url)) as d3:
            first = await outcomes(d3.run(jobs, journal=tmp_path / "nightly"))
        sent = len(url.ledger()["requests"])
        async with D3Client(settings(url)) as d3:
            again = await outcomes(d3.run(jobs, journal=tmp_path / "nightly"))

        assert [sorted(o.row for o in got) for got in (first, again)] == [list(range(1, 22))] * 2
        assert {o.outcome for o in first + again} == {"ok"}
        assert sent == len(url.ledger()["requests"]) == 21
        assert not any(o.earlier for o in first)
        assert all(o.earlier for o in again)


@pytest.mark.asyncio
async def test_an_outcome_tells_its_command_who_asked_and_each_item() -> None:
    jobs = [
        (task(1), "bob", "Night Shift"),
        RemoveLinkedIncidents(source="s-1", linked=["a", "zzz"]),
        task(2, assignee="nobody at all"),
    ]
    async with serve(rate=0, links=LINKS, assignees=["admin user"]) as url, D3Client(settings(url)) as d3:
        first, second, third = sorted(await outcomes(d3.run(jobs)), key=lambda o: o.row)

        assert first.command == jobs[0][0]
        assert (first.username, first.site) == ("bob", "Night Shift")
        assert (second.outcome, [i.outcome for i in second.items]) == ("partial", ["ok", "failed"])
        assert second.command == jobs[1]
        assert (third.outcome, third.code, third.command) == ("failed", "command_error", jobs[2])


@pytest.mark.asyncio
async def test_jobs_may_come_from_an_async_iterable_and_from_a_row_reader() -> None:
    async def coming() -> AsyncIterator[Any]:
        for number in range(3):
            await asyncio.sleep(0)
            yield task(number)
        yield Job(9, 30, "x;y", request_of(task(7)), None, "")
        yield Invalid(10, 31, "broken", (Problem("due", "Due Date", "soon", "is not a date"),))

    async with serve(rate=0) as url, D3Client(settings(url)) as d3:
        got = sorted(await outcomes(d3.run(coming())), key=lambda o: o.row)

        assert [o.outcome for o in got] == ["ok"] * 4 + ["invalid"]
        assert got[4].code == "invalid.due"
        assert got[4].command is None


@pytest.mark.asyncio
async def test_identical_tasks_are_invalid_unless_they_are_meant() -> None:
    async with serve(rate=0) as url, D3Client(settings(url)) as d3:
        once = await outcomes(d3.run([task(1), task(1)]))
        both = await outcomes(d3.run([task(1), task(1)], allow_duplicates=True))

        assert sorted(o.outcome for o in once) == ["invalid", "ok"]
        assert [o.outcome for o in both] == ["ok", "ok"]


@pytest.mark.asyncio
async def test_jobs_that_look_like_jobs_done_before_are_an_error_that_shows_them(tmp_path: Path) -> None:
    """The same incident and name, due less than a day apart: over this journal, or from another folder."""
    async with serve(rate=0) as url, D3Client(settings(url)) as d3:
        await outcomes(d3.run([task(1), task(2)], journal=tmp_path / "n"))
        again = [task(1, due="2026-12-01 17:00:30"), task(2, assignee="other"), task(3)]
        for journal in ("n", "elsewhere"):
            with pytest.raises(LookAlikeError, match="2 rows look like rows sent before") as refused:
                await outcomes(d3.run(again, journal=tmp_path / journal))
            assert (refused.value.count, refused.value.sent) == (2, False)
            assert [(pair.line, pair.differs, pair.outcome) for pair in refused.value.pairs] == [
                (1, ("due",), "ok"),
                (2, ("assignee",), "ok"),
            ]
            assert refused.value.pairs[0].sent is not None
            assert refused.value.pairs[0].sent["due"] == "2026-12-01 17:00:00"
        assert not (tmp_path / "elsewhere").exists()
        assert len(url.ledger()["tasks"]) == 2

        meant = await outcomes(d3.run(again, journal=tmp_path / "n", allow_similar=True))
        assert [o.outcome for o in meant] == ["ok"] * 3
        assert len(url.ledger()["tasks"]) == 5
        assert [o.earlier for o in await outcomes(d3.run(again, journal=tmp_path / "n"))] == [True] * 3


@pytest.mark.asyncio
async def test_without_a_journal_nothing_is_looked_up_or_remembered(tmp_path: Path, state_of_its_own: Path) -> None:
    async with serve(rate=0) as url, D3Client(settings(url)) as d3:
        for _ in range(2):
            assert [o.outcome for o in await outcomes(d3.run([task(1)]))] == ["ok"]
        assert not (state_of_its_own / "d3async" / "sent.sqlite").exists()
        assert [o.outcome for o in await outcomes(d3.run([task(1)], journal=tmp_path / "n"))] == ["ok"]


@pytest.mark.asyncio
async def test_marked_tasks_carry_what_reconcile_finds_them_by(tmp_path: Path) -> None:
    async with serve(rate=0) as url, D3Client(settings(url)) as d3:
        await outcomes(d3.run([task(1)], journal=tmp_path / "n", mark_tasks=True))
        again = await outcomes(d3.run([task(1)], journal=tmp_path / "n", mark_tasks=True))

        (created,) = url.ledger()["tasks"]
        assert created["Task Description"].removesuffix("</p>") != "<p>Ask."
        assert [o.earlier for o in again] == [True]


@pytest.mark.asyncio
async def test_what_is_no_job_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    async with serve(rate=0) as url, D3Client(settings(url)) as d3:
        with pytest.raises(TypeError, match="job 2 is a dict"):
            await outcomes(d3.run([task(1), {"incident": "1"}], journal=tmp_path / "n"))  # type: ignore[list-item]

        assert url.ledger()["requests"] == []
        assert not (tmp_path / "n").exists()


@pytest.mark.asyncio
async def test_a_wrong_key_ends_the_run_with_its_error_after_every_job_has_an_outcome(tmp_path: Path) -> None:
    async with serve(rate=0) as url:
        env = {**url.env, "D3_API_KEY": "wrong", "D3_API_KEY_CREATE_TASK": "wrong"}
        got = []
        async with D3Client(Settings.from_env(env, rate=2000, concurrency=2)) as d3:
            with pytest.raises(UnauthorizedError):  # noqa: PT012 - what came before the error counts
                async for outcome in d3.run((task(n) for n in range(50)), journal=tmp_path / "n"):
                    got.append(outcome)  # noqa: PERF401 - a comprehension would be lost with the error

        assert sorted(o.row for o in got) == list(range(1, 51))
        assert {o.outcome for o in got} == {"unsent"}
        async with D3Client(settings(url)) as d3:
            again = await outcomes(d3.run((task(n) for n in range(50)), journal=tmp_path / "n"))
        assert {o.outcome for o in again} == {"ok"}
        assert len(url.ledger()["tasks"]) == 50


@pytest.mark.asyncio
async def test_a_halt_rule_leaves_the_rest_unsent_and_says_so() -> None:
    async with serve(rate=0, assignees=["admin user"]) as url, D3Client(settings(url, concurrency=1)) as d3:
        jobs = [task(n, assignee="nobody at all") for n in range(30)]
        run = d3.run(jobs, halts=["failed=3"])
        with pytest.raises(NotSentError) as caught:
            await outcomes(run)

        assert caught.value.code == "halt"
        assert run.counts["failed"] + run.counts["unsent"] == 30
        assert run.counts["failed"] < 10


@pytest.mark.asyncio
async def test_a_command_without_a_key_is_refused_before_anything_is_sent() -> None:
    async with serve(rate=0) as url:
        env = {name: value for name, value in url.env.items() if "REMOVE" not in name and name != "D3_API_KEY"}
        async with D3Client(Settings.from_env({**env, "D3_API_KEY_CREATE_TASK": "k"})) as d3:
            with pytest.raises(SettingsError, match="REMOVE_LINKED"):
                await outcomes(d3.run([task(1), RemoveLinkedIncidents(source="s-1", linked="a")]))
        assert url.ledger()["requests"] == []


@pytest.mark.asyncio
async def test_one_folder_has_one_run_at_a_time_and_belongs_to_one_d3(tmp_path: Path) -> None:
    async with serve(rate=0, latency=0.05) as url, serve(rate=0) as other:
        async with D3Client(settings(url)) as d3:
            async for _ in d3.run((task(n) for n in range(2000)), journal=tmp_path / "n"):
                with pytest.raises(FolderHeldError):
                    await outcomes(d3.run([task(1)], journal=tmp_path / "n"))
                break
        async with D3Client(settings(other)) as d3:
            with pytest.raises(SettingsError, match="holds a run against"):
                await outcomes(d3.run([task(1)], journal=tmp_path / "n"))


@pytest.mark.asyncio
async def test_who_iterates_slowly_is_not_run_ahead_of() -> None:
    """Memory: at most `ahead` outcomes and what is in flight wait to be taken."""
    async with serve(rate=0) as url, D3Client(settings(url, concurrency=4)) as d3:
        taken = 0
        async for _ in d3.run(task(n) for n in range(400)):
            taken += 1
            await asyncio.sleep(0.02 if taken == 1 else 0)
            assert len(url.ledger()["requests"]) <= taken + 100 + 2 * 4

        assert taken == 400


@pytest.mark.asyncio
async def test_leaving_the_loop_lets_what_is_in_flight_finish_and_sends_nothing_new(tmp_path: Path) -> None:
    async with serve(rate=0, latency=0.05) as url:
        async with D3Client(settings(url, concurrency=3)) as d3:
            async for _ in d3.run((task(n) for n in range(60)), journal=tmp_path / "n"):
                break
        sent = len(url.ledger()["requests"])
        assert sent < 20
        async with D3Client(settings(url)) as d3:
            again = await outcomes(d3.run((task(n) for n in range(60)), journal=tmp_path / "n"))

        assert {o.outcome for o in again} == {"ok"}
        assert sum(o.earlier for o in again) == sent
        assert len(url.ledger()["tasks"]) == 60


@pytest.mark.asyncio
async def test_what_does_not_drain_in_time_is_unknown(tmp_path: Path) -> None:
    plan = [None, "hang", "hang", "hang"]
    async with serve(rate=0, faults=plan) as url:
        async with D3Client(settings(url, concurrency=2)) as d3:
            async for _ in d3.run([task(n) for n in range(9)], journal=tmp_path / "n", drain=0.1):
                break
        url.set_faults(None)
        async with D3Client(settings(url)) as d3:
            again = await outcomes(d3.run([task(n) for n in range(9)], journal=tmp_path / "n"))

        unknown = [o for o in again if o.outcome == "unknown"]
        assert 1 <= len(unknown) <= 2
        assert all(o.earlier for o in unknown)
        assert len(url.ledger()["requests"]) == 9, "what may have happened is not sent again by itself"


@pytest.mark.asyncio
async def test_an_error_in_the_loop_is_raised_as_it_is_and_the_folder_is_free_again(tmp_path: Path) -> None:
    async with serve(rate=0) as url, D3Client(settings(url)) as d3:
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - it is raised inside the loop
            async with d3.run([task(1), task(2)], journal=tmp_path / "n") as run:
                async for _ in run:
                    raise ZeroDivisionError

        assert len(await outcomes(d3.run([task(1), task(2)], journal=tmp_path / "n"))) == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("loading", [True, False], ids=["while jobs still come", "while sending"])
async def test_a_client_that_closes_ends_its_runs_and_whoever_iterates_is_told(loading: bool) -> None:
    async def coming() -> AsyncIterator[CreateTask]:
        for number in range(20):
            yield task(number)
        if loading:
            await asyncio.sleep(30)

    async with serve(rate=0, latency=0.05) as url:
        async with D3Client(settings(url, concurrency=1)) as d3:
            iterating = asyncio.create_task(outcomes(d3.run(coming())))
            await asyncio.sleep(0.2)
        with pytest.raises(NotSentError) as caught:
            await iterating

    assert caught.value.code == "interrupted"


@pytest.mark.asyncio
async def test_a_run_is_iterated_over_once() -> None:
    async with serve(rate=0) as url, D3Client(settings(url)) as d3:
        run = d3.run([task(1)])
        await outcomes(run)
        with pytest.raises(RuntimeError, match="once"):
            await outcomes(run)


@pytest.mark.asyncio
async def test_the_command_line_reads_a_journal_the_library_wrote(tmp_path: Path) -> None:
    async with serve(rate=0) as url, D3Client(settings(url)) as d3:
        await outcomes(d3.run([task(1), task(1)], journal=tmp_path / "n"))

    def typed(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "d3async", *words, str(tmp_path / "n")], check=False, capture_output=True
        )
        assert done.returncode in {0, 1}, done.stderr.decode()
        return done.stdout.decode() + done.stderr.decode()

    assert "1 ok · 1 invalid" in typed("status")
    assert "results.jsonl" in typed("results")


# -- one client, its loop, its session


@pytest.mark.asyncio
async def test_one_client_serves_many_tasks_under_one_limit() -> None:
    async with serve(rate=200, limiter="sliding") as url, D3Client(settings(url, concurrency=8)) as d3:
        fields = {"name": "n", "description": "d", "assignee": "admin user", "due": "2026-12-01 17:00:00"}
        await asyncio.gather(*(d3.create_task(incident=f"i-{n}", **fields) for n in range(40)))

        assert len(url.ledger()["tasks"]) == 40
        assert d3.limiter.in_flight == d3.limiter.waiting == 0


@pytest.mark.asyncio
async def test_before_and_after_async_with_the_error_says_what_to_do() -> None:
    async with serve(rate=0) as url:
        d3 = D3Client(settings(url))
        with pytest.raises(RuntimeError, match="not open: use `async with"):
            await d3.call("GetIncidents", {})
        with pytest.raises(RuntimeError, match="not open"):
            d3.run([task(1)])
        async with d3:
            with pytest.raises(RuntimeError, match="entered already"):
                await d3.__aenter__()
        with pytest.raises(RuntimeError, match="is closed"):
            await d3.remove_linked_incidents("s-1", ["a"])


def test_a_second_event_loop_is_refused_by_name() -> None:
    here, there = asyncio.new_event_loop(), asyncio.new_event_loop()

    async def opened() -> D3Client:
        return await D3Client(Settings(base_url="http://127.0.0.1:1", username="u", site="s")).__aenter__()

    d3 = here.run_until_complete(opened())
    try:
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            there.run_until_complete(d3.call("GetIncidents", {}))
    finally:
        here.run_until_complete(d3.__aexit__(None, None, None))
        here.close()
        there.close()


@pytest.mark.asyncio
async def test_a_session_that_was_given_is_used_and_stays_open() -> None:
    """Our trace works on it: a request whose connection is lost after sending is known to have been sent."""
    async with serve(rate=0, faults=[None, "drop-after"]) as url, aiohttp.ClientSession() as session:
        async with D3Client(settings(url), session=session) as d3, D3Client(settings(url), session=session):
            await d3.execute(task(1))
            with pytest.raises(UnknownOutcomeError) as caught:
                await d3.execute(task(2))

        assert caught.value.sent
        assert not session.closed
        assert session.trace_configs == []


@pytest.mark.asyncio
async def test_two_tasks_never_ask_about_one_source_at_the_same_time() -> None:
    async with serve(rate=0, latency=0.02, links=LINKS) as url, D3Client(settings(url)) as d3:
        pairs = [("s-1", "a"), (" S-1", "b"), ("s-1", "zzz")]
        await asyncio.gather(*(d3.remove_linked_incidents(source, [item]) for source, item in pairs))
        assert url.ledger()["in_flight_max_per_source"] == url.ledger()["in_flight_max"] == 1
        assert len(d3._carrier._locks) == 0, "locks live while they are held"
        await asyncio.gather(*(d3.remove_linked_incidents(source, ["a"]) for source in ("s-1", "s-2")))
        assert url.ledger()["in_flight_max"] == 2, "other sources need not wait"


# -- time-outs


@pytest.mark.asyncio
async def test_a_timeout_before_the_wire_proves_that_it_did_not_happen() -> None:
    async with serve(rate=0) as url, D3Client(Settings.from_env(url.env, rate=0.5)) as d3:
        await d3.execute(task(1))
        with pytest.raises(NotSentError) as caught:
            await d3.execute(task(2), timeout=0.05)

        assert (caught.value.code, caught.value.sent, caught.value.attempts) == ("timeout", False, 0)
        assert len(url.ledger()["requests"]) == 1


@pytest.mark.asyncio
async def test_a_timeout_after_the_wire_proves_nothing() -> None:
    async with serve(rate=0, faults=["hang"]) as url, D3Client(settings(url)) as d3:
        with pytest.raises(UnknownOutcomeError) as caught:
            await d3.execute(task(1), timeout=0.2)

        assert (caught.value.code, caught.value.sent, caught.value.attempts) == ("timeout", True, 1)
        assert d3.limiter.in_flight == 0


@pytest.mark.asyncio
async def test_a_timeout_while_waiting_to_try_again_remembers_what_the_first_attempt_may_have_done() -> None:
    links = RemoveLinkedIncidents(source="s-1", linked=["a"])
    async with (
        serve(rate=0, links=LINKS, faults=["drop-after"] + ["error-429"] * 50) as url,
        D3Client(settings(url)) as d3,
    ):
        with pytest.raises(UnknownOutcomeError) as caught:
            await d3.remove_linked_incidents(links.source, links.linked, timeout=1.0)

        assert caught.value.code == "timeout"
        assert caught.value.attempts >= 1


@pytest.mark.asyncio
async def test_a_refusal_is_raised_and_refused_links_come_back() -> None:
    async with serve(rate=0, links=LINKS, assignees=["admin user"]) as url, D3Client(settings(url)) as d3:
        with pytest.raises(RefusedError):
            await d3.execute(task(1, assignee="nobody at all"))
        done = await d3.remove_linked_incidents("s-1", ["a", "zzz"])

        assert done.removed == ["a"]
        assert [error.incident for error in done.refused] == ["zzz"]


# -- what the limiter went through


def events(folder: Path) -> list[tuple[str, float, str]]:
    with closing(sqlite3.connect(folder / "journal.sqlite")) as db:
        return db.execute("select kind, seconds, note from event order by rowid").fetchall()


@pytest.mark.asyncio
async def test_a_run_notes_what_its_limiter_went_through_also_where_a_call_beside_it_met_the_429(
    tmp_path: Path,
) -> None:
    """The report of an app's run then shows why it was slow."""
    refused = ["once"]

    def beside(ask: Any) -> str | None:
        return "error-429-before" if ask.params["Task Name"] == "beside" and refused and refused.pop() else None

    async with serve(rate=0, faults=beside, retry_after="seconds") as url, D3Client(settings(url)) as d3:
        run = d3.run((task(n) for n in range(400)), journal=tmp_path / "one")
        seen, call = 0, None
        async for outcome in run:
            seen += outcome.outcome == "ok"
            call = call or asyncio.create_task(d3.execute(task(1000, name="beside")))
        assert call is not None
        await call

    noted = events(tmp_path / "one")
    assert seen == 400
    assert [seconds for kind, seconds, _ in noted if kind == "throttled"] == [1.0]
    assert {"pause", "rate"} <= {kind for kind, _, _ in noted}


@pytest.mark.asyncio
async def test_a_run_notes_nothing_of_what_was_before_it_and_an_outage_while_it_lasts(tmp_path: Path) -> None:
    async with serve(rate=0, faults=["error-429-before"], retry_after="seconds") as url, D3Client(settings(url)) as d3:
        await d3.execute(task(1))
        await outcomes(d3.run([task(2)], journal=tmp_path / "quiet"))
    assert events(tmp_path / "quiet") == []

    nowhere = dataclasses.replace(settings(url), max_attempts=2)
    async with D3Client(nowhere) as d3:
        with pytest.raises(NotSentError):
            await outcomes(d3.run([task(3)], journal=tmp_path / "out"))
    assert [kind for kind, _, _ in events(tmp_path / "out")][:1] == ["outage"]
