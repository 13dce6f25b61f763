"""The writer: one transaction for many, and no outcome lost or made up when the database goes away in the middle."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import pytest_asyncio

from d3async.d3.response import Reply
from d3async.errors import FencedError, JournalError
from d3async.journal.model import CallResult, Event, Selection
from d3async.journal.postgres import runs
from d3async.journal.postgres.group_commit import PostgresJournal, Writer, open_chunk
from d3async.journal.postgres.schema import migrate
from d3async.journal.postgres.submission import submission
from d3async.policy.outcome import judge
from tests.database import running
from tests.journal.ground import NOW, links, numbered, task
from tests.journal.postgres.proxy import between

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from d3async.d3.call import Call
    from d3async.journal.model import RowOutcome
    from tests.database import Postgres
    from tests.journal.ground import Entry

OK = Reply("ok")
pytestmark = pytest.mark.asyncio


def submit(url: str, entries: Sequence[Entry], name: str = "run", *, chunk_rows: int = 1000) -> int:
    with psycopg.connect(url) as db:
        going = submission(db, name, "soc", now=NOW)
        going.add(numbered(entries))
        list(going.duplicates(allow=False))
        going.adopt({"rows": str(len(entries))})
        going.begin(Selection(), now=NOW, facts={}, chunk_rows=chunk_rows)
        going.commit()
        return going.id


@pytest_asyncio.fixture
async def url(postgres: Postgres) -> str:
    return await made(postgres)


async def opened(writer: Writer, run: int, chunk: int = 0) -> PostgresJournal:
    return await open_chunk(writer, run, chunk, round=1, who="pid 1 on test", now=NOW)


async def calls(journal: PostgresJournal) -> list[Call]:
    return [
        found
        for lane, call in await journal.lanes(-1, 1000)
        for found in [call or await journal.take(lane, 50)]
        if found is not None
    ]


def settlement(call: Call) -> CallResult:
    return CallResult(call, judge(call, OK), '{"error":""}', NOW + 1)


async def answered(journal: PostgresJournal, call: Call) -> list[RowOutcome]:
    await journal.claim(call, NOW)
    return await journal.settle(settlement(call))


def states(url: str) -> list[tuple[Any, ...]]:
    """(state, attempts, to be sent) of each row."""
    with psycopg.connect(url) as db:
        return db.execute("select state, attempts, todo from d3async_job order by run, id").fetchall()


async def test_what_many_chunks_ask_for_at_once_is_stored_in_few_transactions(url: str) -> None:
    runs_ = [submit(url, [task(f"{name}{n}") for n in range(20)], name) for name in "abc"]
    async with Writer(url) as writer:
        journals = [await opened(writer, run) for run in runs_]
        asked = [(journal, call) for journal in journals for call in await calls(journal)]
        with psycopg.connect(url) as db:
            before = db.execute("select written from d3async_writer").fetchone()
            await asyncio.gather(*(journal.claim(call, NOW) for journal, call in asked))
            await asyncio.gather(*(journal.settle(settlement(call)) for journal, call in asked))
            after = db.execute("select written from d3async_writer").fetchone()
        for journal in journals:
            journal.note(Event(NOW, "pause", 1.0, "a\x00b"))
            assert await journal.aclose() == 0

    assert before is not None
    assert after is not None
    assert after[0] - before[0] <= 4
    assert states(url) == [("ok", 1, False)] * 60


async def test_what_one_chunk_asks_in_vain_hurts_no_other(url: str) -> None:
    """A number the database has no room for: a defect of whoever asked."""
    run = submit(url, [task("a")])
    async with Writer(url) as writer:
        journal = await opened(writer, run)
        (call,) = await calls(journal)
        absurd, good = await asyncio.gather(
            journal.claim(type(call)(**{**_fields(call), "job": 1 << 40}), NOW),
            journal.claim(call, NOW),
            return_exceptions=True,
        )
        assert isinstance(absurd, JournalError)
        assert good is None
        await journal.settle(settlement(call))

    assert states(url) == [("ok", 1, False)]


def _fields(call: Call) -> dict[str, Any]:
    return {name: getattr(call, name) for name in getattr(call, "_fields", None) or call.__dataclass_fields__}


async def test_an_outcome_whose_commit_never_arrived_is_stored_again(url: str) -> None:
    run = submit(url, [task("a"), links("a-1;b-2")])
    async with between(url) as (proxy, through), Writer(through) as writer:
        journal = await opened(writer, run)
        found = await calls(journal)
        for call in found:
            await journal.claim(call, NOW)
        proxy.cut = "before"
        outcomes = await asyncio.gather(*(journal.settle(settlement(call)) for call in found))
        assert await journal.aclose() == 0

    assert proxy.cuts == 1
    assert [[row.outcome for row in rows] for rows in outcomes] == [["ok"], ["ok"]]
    assert states(url) == [("ok", 1, False)] * 2


async def test_an_outcome_whose_commit_arrived_and_was_not_heard_of_is_told_and_not_stored_twice(url: str) -> None:
    run = submit(url, [task("a"), links("a-1;b-2"), links("b-2;c-3")])
    async with between(url) as (proxy, through), Writer(through) as writer:
        journal = await opened(writer, run)
        found = await calls(journal)
        for call in found:
            await journal.claim(call, NOW)
        proxy.cut = "after"
        outcomes = await asyncio.gather(*(journal.settle(settlement(call)) for call in found))
        assert await journal.aclose() == 0

    assert proxy.cuts == 1
    assert [[(row.row, row.outcome) for row in rows] for rows in outcomes] == [[(1, "ok")], [(2, "ok"), (3, "ok")]]
    assert states(url) == [("ok", 1, False)] * 3
    with psycopg.connect(url) as db:
        assert db.execute("select count(*) from d3async_answer").fetchone() == (2,)


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_a_claim_nobody_knows_the_fate_of_fails_and_leaves_no_mark(url: str, cut: str) -> None:
    """It was never sent: had the commit arrived, its mark is taken back before anything else is claimed."""
    run = submit(url, [task("a"), links("a-1", source="1-1")])
    async with between(url) as (proxy, through), Writer(through) as writer:
        journal = await opened(writer, run)
        found = await calls(journal)
        proxy.cut = cut
        failures = await asyncio.gather(*(journal.claim(call, NOW) for call in found), return_exceptions=True)
        assert [type(failure) for failure in failures] == [JournalError] * 2
        again = await calls(journal)
        assert states(url) == [("pending", 0, True)] * 2
        for call in again:
            await answered(journal, call)
        assert await journal.aclose() == 0

    assert states(url) == [("ok", 1, False)] * 2


async def test_a_claim_that_is_cancelled_leaves_no_mark(url: str) -> None:
    run = submit(url, [task("a")])
    async with Writer(url) as writer:
        journal = await opened(writer, run)
        (call,) = await calls(journal)
        asking = asyncio.create_task(journal.claim(call, NOW))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await journal.flush()

        assert states(url) == [("pending", 0, True)]
        await answered(journal, call)


async def test_a_former_owner_claims_nothing_yet_what_it_knows_of_a_task_counts(url: str) -> None:
    """A frozen process, thawed: ecosystem trap 7 and §2.3, steps 1 and 4."""
    run = submit(url, [task("a"), task("b"), task("c"), links("a-1", source="1-1")])
    async with Writer(url) as first, Writer(url) as second:
        old = await opened(first, run)
        one, two, three, link = await calls(old)
        for call in (one, two, link):
            await old.claim(call, NOW)
        new = await opened(second, run)
        assert states(url) == [
            ("unknown", 1, False), ("unknown", 1, False), ("pending", 0, True), ("unknown", 1, True),
        ]  # fmt: skip
        # the answer to the first came late, the second provably never left
        assert [row.outcome for row in await old.settle(settlement(one))] == ["ok"]
        old.release(two, sent=False)
        with pytest.raises(FencedError):
            await old.claim(three, NOW)
        with pytest.raises(FencedError):
            await old.settle(settlement(link))
        with pytest.raises(FencedError):
            await old.flush()
        found = await calls(new)
        assert [call.job for call in found[:-1]] == [two.job, three.job]
        assert found[-1].tried == {"a-1"}
        for call in found:
            await answered(new, call)
        assert await new.aclose() == 0
        assert await old.aclose() == 0

    assert states(url) == [("ok", 1, False), ("ok", 1, False), ("ok", 1, False), ("ok", 2, False)]


async def test_a_late_word_does_not_change_what_somebody_else_found_out(url: str) -> None:
    run = submit(url, [task("a")])
    async with Writer(url) as first, Writer(url) as second:
        old = await opened(first, run)
        (call,) = await calls(old)
        await old.claim(call, NOW)
        await (await opened(second, run)).aclose()
        with psycopg.connect(url) as db:
            db.execute("update d3async_job set state = 'failed', code = 'not_found'")
        with pytest.raises(FencedError):
            await old.settle(settlement(call))

    assert states(url) == [("failed", 1, False)]


async def test_a_cancelled_run_claims_nothing_more_and_what_is_in_flight_may_end(url: str) -> None:
    run = submit(url, [task("a"), task("b"), links("a-1")])
    async with Writer(url) as writer, await psycopg.AsyncConnection.connect(url, autocommit=True) as db:
        journal = await opened(writer, run)
        one, two, link = await calls(journal)
        await journal.claim(one, NOW)
        await journal.claim(link, NOW)
        assert await runs.cancel(db, run, now=NOW) == 1
        with pytest.raises(FencedError) as caught:
            await journal.claim(two, NOW)
        assert caught.value.code == "cancelled"
        await journal.settle(settlement(one))
        await journal.settle(settlement(link))
        assert await journal.aclose() == 1
        with pytest.raises(FencedError) as caught:
            await opened(writer, run)
        assert caught.value.code == "cancelled"
        assert await runs.chunks_left(db) == []
        assert await runs.finish(db, run, 1, now=NOW, exit_code=5, facts={})

    assert states(url) == [("ok", 1, False), ("pending", 0, True), ("ok", 1, False)]


async def test_a_copy_of_the_process_stores_nothing(url: str) -> None:
    run = submit(url, [task("a")])
    async with Writer(url) as writer:
        journal = await opened(writer, run)
        (call,) = await calls(journal)
        own, writer._pid = writer._pid, 0
        with pytest.raises(FencedError):
            await journal.claim(call, NOW)
        writer._pid = own

    assert states(url) == [("pending", 0, True)]


@pytest.fixture(scope="module")
def mortal() -> Iterator[Postgres]:
    """A server that tests may crash; they leave it running."""
    with running() as server:
        yield server


async def made(server: Postgres) -> str:
    found = server.database()
    async with await psycopg.AsyncConnection.connect(found) as db:
        await migrate(db)
    return found


async def test_a_crash_of_the_database_loses_no_outcome_held_in_memory_and_doubles_nothing(mortal: Postgres) -> None:
    """Ecosystem trap 3: claims fail at once, outcomes wait until it is back."""
    url = await made(mortal)
    run = submit(url, [*(task(f"t{n}") for n in range(30)), links("a-1;b-2")])
    async with Writer(url) as writer:
        journal = await opened(writer, run)
        found = await calls(journal)
        flying, waiting = [*found[:20], found[-1]], found[20:-1]
        for call in flying:
            await journal.claim(call, NOW)
        mortal.stop("immediate")
        told = [journal.settle(settlement(call)) for call in flying]
        started = time.monotonic()
        with pytest.raises(JournalError):
            await journal.claim(waiting[0], NOW)
        assert time.monotonic() - started < 20
        assert not any(one.done() for one in told)
        with pytest.raises(JournalError):
            await opened(writer, run)
        mortal.start()
        assert [[row.outcome for row in rows] for rows in await asyncio.gather(*told)] == [["ok"]] * 21
        for call in await calls(journal):
            await answered(journal, call)
        assert await journal.aclose() == 0

    assert states(url) == [("ok", 1, False)] * 31


async def test_patience_that_ends_says_what_was_lost(mortal: Postgres) -> None:
    url = await made(mortal)
    run = submit(url, [task("a")])
    writer = Writer(url, patience=0.0)
    await writer.__aenter__()
    journal = await opened(writer, run)
    (call,) = await calls(journal)
    await journal.claim(call, NOW)
    mortal.stop("immediate")
    with pytest.raises(JournalError):
        await journal.settle(settlement(call))
    with pytest.raises(JournalError):
        await journal.aclose()
    mortal.start()
    async with Writer(url) as other:
        await (await opened(other, run)).aclose()
    await writer.__aexit__()

    assert states(url) == [("unknown", 1, False)]


@pytest.mark.slow
async def test_a_network_parted_without_a_word_holds_outcomes_and_lets_nothing_more_be_sent(url: str) -> None:
    """Ten seconds and some pass until silence is taken for an outage; meanwhile others may take the chunk over."""
    run = submit(url, [task("a"), task("b"), task("c")])
    async with between(url) as (proxy, through), Writer(through) as writer, Writer(url) as elsewhere:
        journal = await opened(writer, run)
        one, two, three = await calls(journal)
        await journal.claim(one, NOW)
        await journal.claim(two, NOW)
        proxy.heard.clear()
        told = journal.settle(settlement(one))
        with pytest.raises(JournalError):
            await journal.claim(three, NOW)
        new = await opened(elsewhere, run)
        assert states(url) == [("unknown", 1, False), ("unknown", 1, False), ("pending", 0, True)]
        for call in await calls(new):
            await answered(new, call)
        proxy.heard.set()
        assert [row.outcome for row in await told] == ["ok"]
        with pytest.raises(FencedError):
            await journal.claim(three, NOW)
        assert await new.aclose() == 0

    assert states(url) == [("ok", 1, False), ("unknown", 1, False), ("ok", 1, False)]
