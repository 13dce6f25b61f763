"""A tenant's turn: whatever goes wrong with one chunk, it ends, says why, and the other chunks go on."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from prometheus_client import generate_latest

from d3async.config.database_urls import needed
from d3async.config.settings import Settings
from d3async.errors import SettingsError
from d3async.fleet.metrics import Metrics
from d3async.fleet.queue import prepare
from d3async.fleet.run_chunk import RETRY_BOUNDS, ChunkRunner, Tenants
from d3async.fleet.worker import pooled
from d3async.journal.model import Selection
from d3async.journal.postgres import runs
from d3async.journal.postgres.chunk_owners import create_job_rows_of_run
from d3async.journal.postgres.group_commit import Writer
from d3async.journal.postgres.submission import submission
from d3async.policy.halt_and_exit_codes import Stop
from d3async.ratelimit.limiter import Limiter
from d3async.sandbox import serve
from tests.fleet.ground import OUTCOMES
from tests.fleet.test_late_words import a_job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from tests.database import Postgres


def submit(
    url: str, base_url: str, *, name: str = "run", count: int = 3, chunk_rows: int = 500, halts: Sequence[str] = ()
) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        new = submission(connection, name, "tenant", now=time.time())
        new.add([a_job(row) for row in range(1, count + 1)])
        list(new.duplicates(allow=False))
        new.adopt({"rows": str(count), "base_url": base_url})
        new.begin(Selection(), now=time.time(), facts={"halts": halts}, chunk_rows=chunk_rows)
        new.commit()


def lay(url: str) -> None:
    """As if somebody had opened every chunk of the first run."""
    with psycopg.connect(url, autocommit=True) as connection:
        create_job_rows_of_run(connection, 1)


@asynccontextmanager
async def unshared(settings: Settings) -> AsyncIterator[Limiter]:
    yield Limiter(rate=2000, concurrency=settings.concurrency)


@asynccontextmanager
async def turning(url: str, settings_of: Callable[[str], Settings]) -> AsyncIterator[tuple[ChunkRunner, Metrics]]:
    address = needed(url, {})
    async with pooled(address, most=2) as pool, Writer(address.conninfo) as writer:
        metrics = Metrics(lambda: tenants.known(), host="here")  # noqa: PLW0108 - made below
        tenants = Tenants(settings_of, unshared, metrics.attempt)
        try:
            yield ChunkRunner(pool, writer, tenants, metrics, who="pid 1 on here", drain=1.0), metrics
        finally:
            await tenants.aclose()


def settings_at(base_url: str, key: str = "none") -> Settings:
    environ = {
        "D3_BASE_URL": base_url,
        "D3_USERNAME": "u",
        "D3_SITE": "Site",
        "D3_API_KEY": key,
        "D3_CONFIG": "/dev/null",
    }
    return Settings.from_env(environ, max_attempts=1)


async def ready(postgres: Postgres) -> str:
    url = postgres.database()
    await prepare(needed(url, {}))
    return url


async def asked(url: str, question: str) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        return await (await connection.execute(question.encode())).fetchall()


async def told(url: str) -> tuple[Any, ...]:
    """Outcome, code and message of the first row, and the exit code of the run."""
    [found] = await asked(
        url,
        "select coalesce(j.state, 'pending'), j.code, j.message, coalesce(j.todo, true), o.exit_code"
        " from d3async_round o left join d3async_job j on j.run = o.run and j.id = 1 where o.run = 1",
    )
    return found


@pytest.mark.asyncio
async def test_a_chunk_is_sent_and_its_run_finished_and_counted(postgres: Postgres) -> None:
    url = await ready(postgres)
    async with serve(rate=0) as d3:
        submit(url, str(d3), count=5, chunk_rows=2)
        async with turning(url, lambda _: settings_at(str(d3), d3.env["D3_API_KEY"])) as (turn, metrics):
            again = await turn("tenant")
            empty = await turn("tenant")
            text = generate_latest(metrics.registry).decode()

    assert again is None
    assert empty is None
    assert await told(url) == ("ok", "", "", False, 0)
    assert 'd3async_rows_total{outcome="ok",tenant="tenant"} 5.0' in text
    assert 'd3async_requests_total{code="200",tenant="tenant"} 5.0' in text
    assert 'd3async_chunks_total{end="done",tenant="tenant"} 3.0' in text
    assert 'd3async_limiter_rate{tenant="tenant"}' in text


@pytest.mark.asyncio
async def test_a_chunk_that_breaks_every_worker_is_given_up_and_the_run_says_so(postgres: Postgres) -> None:
    url = await ready(postgres)
    submit(url, "http://127.0.0.1:9/x")

    def poison(tenant: str) -> Settings:
        raise ZeroDivisionError

    async with turning(url, poison) as (turn, _):
        waits = [await turn("tenant") for _ in range(RETRY_BOUNDS["crashed"].tries)]

    state, code, message, todo, exit_code = await told(url)
    assert waits == [1, 2, 4, 8, 16, 30, 30, None]
    assert (state, code, todo, exit_code) == ("pending", "crashed", False, 5)
    assert "given up after 8 tries" in message


@pytest.mark.asyncio
async def test_a_chunk_whose_workers_are_lost_one_after_the_other_is_given_up_too(postgres: Postgres) -> None:
    url = await ready(postgres)
    submit(url, "http://127.0.0.1:9/x")
    async with turning(url, lambda _: settings_at("http://127.0.0.1:9/x")) as (turn, _):
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute(
                "insert into d3async_queue.d3async_try values (1, 1, 0, %s, 'crashed', 'the worker was lost')",
                (RETRY_BOUNDS["crashed"].tries,),
            )
        again = await turn("tenant")

    state, code, message, _, exit_code = await told(url)
    assert again is None
    assert (state, code, exit_code) == ("pending", "crashed", 5)
    assert "the worker was lost" in message


@pytest.mark.asyncio
async def test_a_tenant_whose_profile_cannot_be_used_waits_and_what_is_wrong_is_kept(postgres: Postgres) -> None:
    url = await ready(postgres)
    submit(url, "http://127.0.0.1:9/x")

    def broken(tenant: str) -> Settings:
        raise SettingsError("profile tenant has no username")

    async with turning(url, broken) as (turn, _):
        waits = [await turn("tenant"), await turn("tenant")]

    [trouble] = await asked(url, "select tries, code, message from d3async_queue.d3async_try")
    assert waits == [30, 60]
    assert trouble == (2, "settings", "profile tenant has no username")
    assert (await told(url))[0] == "pending"


@pytest.mark.asyncio
async def test_a_profile_that_leads_to_another_d3_by_now_sends_nothing(postgres: Postgres) -> None:
    url = await ready(postgres)
    async with serve(rate=0) as d3:
        submit(url, "http://127.0.0.1:9/x")
        async with turning(url, lambda _: settings_at(str(d3), d3.env["D3_API_KEY"])) as (turn, _):
            again = await turn("tenant")
        requests = d3.backend.ledger.counts()["requests"]

    assert again == 30
    assert requests == 0


@pytest.mark.asyncio
async def test_a_wrong_key_stops_the_tenant_for_a_while_and_is_read_anew(postgres: Postgres) -> None:
    url = await ready(postgres)
    keys = ["wrong"]
    async with serve(rate=0) as d3:
        submit(url, str(d3))
        async with turning(url, lambda _: settings_at(str(d3), keys[-1])) as (turn, _):
            first = await turn("tenant")
            keys.append(d3.env["D3_API_KEY"])
            second = await turn("tenant")

    assert first == 60
    assert second is None
    assert (await told(url))[0] == "ok"


@pytest.mark.asyncio
async def test_a_worker_that_is_to_end_gives_its_chunk_back_uncounted(postgres: Postgres) -> None:
    url = await ready(postgres)
    async with serve(rate=0) as d3:
        submit(url, str(d3))
        async with turning(url, lambda _: settings_at(str(d3), d3.env["D3_API_KEY"])) as (turn, _):
            turn.stop(Stop("terminated", "SIGTERM"))
            again = await turn("tenant")

    assert again == 0.0
    assert (await told(url))[:1] == ("pending",)
    assert await asked(url, "select who from d3async_chunk") == [(None,)]


@pytest.mark.asyncio
async def test_too_many_unknown_rows_stop_the_whole_run(postgres: Postgres) -> None:
    url = await ready(postgres)
    async with serve(rate=0, faults={"error-500-after": 1.0}) as d3:
        submit(url, str(d3), count=300, chunk_rows=100)
        async with turning(url, lambda _: settings_at(str(d3), d3.env["D3_API_KEY"])) as (turn, _):
            again = await turn("tenant")

    outcomes = dict(await asked(url, OUTCOMES))
    [(facts, code)] = await asked(url, "select facts, exit_code from d3async_round")
    assert again is None
    assert 50 <= outcomes["unknown"] <= 100
    assert outcomes["pending"] >= 200
    assert "--halt unknown=50" in facts
    assert code == 5


@pytest.mark.parametrize("rule", ["unknown=150", "unknown=50%"])
@pytest.mark.asyncio
async def test_a_halt_rule_speaks_of_the_whole_run_whatever_its_chunks(postgres: Postgres, rule: str) -> None:
    url = await ready(postgres)
    async with serve(rate=0, faults={"error-500-after": 1.0}) as d3:
        submit(url, str(d3), count=300, chunk_rows=100, halts=[rule])
        async with turning(url, lambda _: settings_at(str(d3), d3.env["D3_API_KEY"])) as (turn, _):
            again = await turn("tenant")

    outcomes = dict(await asked(url, OUTCOMES))
    [(facts, code)] = await asked(url, "select facts, exit_code from d3async_round")
    events = await asked(url, "select note from d3async_event where kind = 'stop'")
    assert again is None
    assert 150 <= outcomes["unknown"] <= 182
    assert f"--halt {rule}: 150 rows unknown" in facts
    assert events == [(f"halt: --halt {rule}: 150 rows unknown",)]
    assert code == 5


@pytest.mark.asyncio
async def test_a_rule_reached_by_a_worker_that_was_lost_before_it_could_say_so_stops_the_run(
    postgres: Postgres,
) -> None:
    """Only what this round's answers tell counts: not what lost workers had in flight, nor an earlier round."""
    url = await ready(postgres)
    async with serve(rate=0) as d3:
        submit(url, str(d3), count=9, halts=["failed=50%", "unknown=3"])
        lay(url)
        async with turning(url, lambda _: settings_at(str(d3), d3.env["D3_API_KEY"])) as (turn, _):
            async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
                about = "update d3async_job set todo = false, done_at = 5, round = 1, state = 'unknown' where id <= 4"
                await connection.execute(about)
                await connection.execute("update d3async_job set done_at = null, code = 'interrupted' where id = 3")
                await connection.execute("update d3async_job set round = 0 where id = 4")
                at = await runs.next_chunk(connection, "tenant")
                assert at is not None
                before = await runs.so_far(connection, at)
                await connection.execute("update d3async_job set done_at = 6 where id = 3")
            again = await turn("tenant")
        requests = d3.backend.ledger.counts()["requests"]

    [(facts, code)] = await asked(url, "select facts, exit_code from d3async_round")
    assert (before.counts, before.rows) == ({"unknown": 2}, 9)
    assert (again, requests, code) == (None, 0, 5)
    assert "--halt unknown=3: 3 rows unknown" in facts


@pytest.mark.asyncio
async def test_a_run_that_was_submitted_again_since_is_not_stopped_for_what_was_before(postgres: Postgres) -> None:
    url = await ready(postgres)
    submit(url, "http://127.0.0.1:9/x")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        before = await runs.next_chunk(connection, "tenant")
        submit(url, "http://127.0.0.1:9/x")
        assert before is not None
        await runs.stop(connection, before, Stop("halt", "--halt failed=1: 1 rows failed"), now=5.0)
        now = await runs.next_chunk(connection, "tenant")

    assert now is not None
    assert (before.round, now.round) == (1, 2)


@pytest.mark.asyncio
async def test_a_run_that_is_over_is_finished_though_its_worker_could_not_say_so(postgres: Postgres) -> None:
    url = await ready(postgres)
    submit(url, "http://127.0.0.1:9/x")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        before = await runs.sweep(connection, now=5.0)
        lay(url)
        await connection.execute("update d3async_job set state = 'ok', todo = false")
        after = await runs.sweep(connection, now=5.0)

    assert before == {"tenant"}
    assert after == set()
    assert (await told(url))[-1] == 0
