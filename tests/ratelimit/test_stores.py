"""The two stores keep to the same rules: a file of this host, and PostgreSQL."""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Literal

import psycopg
import pytest

from d3async.config.database_urls import limit_url
from d3async.errors import SettingsError
from d3async.ratelimit.choose_store import limit_database, shared_limit
from d3async.ratelimit.postgres_store import PostgresStore
from d3async.ratelimit.shared_rate_controller import LearnedRate
from d3async.ratelimit.sqlite_store import SqliteStore, on_network
from d3async.ratelimit.store_protocol import Heartbeat, LimitStore, SlotRequest, StoreError
from tests.database import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tests.database import Postgres

    Two = Callable[[], AbstractAsyncContextManager[tuple[LimitStore, LimitStore]]]

CANARY = "canary-7f3a9c51e2"


@pytest.fixture(params=["file", "PostgreSQL"])
def two(request: pytest.FixtureRequest, tmp_path: Path) -> Two:
    """The same limits, as two processes see them."""
    kind: Literal["file", "PostgreSQL"] = request.param
    url = request.getfixturevalue("postgres").database() if kind == "PostgreSQL" else ""

    def one() -> SqliteStore | PostgresStore:
        return PostgresStore(limit_url(url)) if url else SqliteStore(tmp_path / "state" / "limits.sqlite")

    @asynccontextmanager
    async def opened() -> AsyncIterator[tuple[LimitStore, LimitStore]]:
        async with one() as mine, one() as theirs:
            await asyncio.gather(mine.beat("k", "mine", Heartbeat(5.0)), theirs.beat("k", "theirs", Heartbeat(5.0)))
            yield mine, theirs

    return opened


@pytest.mark.asyncio
async def test_slots_of_both_lie_a_pace_apart(two: Two) -> None:
    async with two() as stores:
        firsts = [(await stores[turn % 2].reserve("k", SlotRequest(2, 0.5))).first for turn in range(6)]

    gaps = [after - before for before, after in itertools.pairwise(firsts)]
    assert gaps == pytest.approx([1.0] * 5, abs=1e-5)


@pytest.mark.asyncio
async def test_limits_with_other_keys_do_not_meet(two: Two) -> None:
    async with two() as (mine, _):
        await mine.reserve("k", SlotRequest(100, 1.0))
        await mine.beat("other", "mine", Heartbeat(5.0))
        got = await mine.reserve("other", SlotRequest(1, 1.0))

    assert got.first - got.now < 0.5


@pytest.mark.asyncio
async def test_a_slot_that_comes_too_late_is_not_taken(two: Two) -> None:
    async with two() as (mine, theirs):
        await mine.reserve("k", SlotRequest(1, 3.0))
        refused = await theirs.reserve("k", SlotRequest(1, 3.0, within=0.05))
        taken = await mine.reserve("k", SlotRequest(1, 3.0))

    assert not refused.granted
    assert taken.granted
    assert taken.first == pytest.approx(refused.first, abs=1e-5)


@pytest.mark.asyncio
async def test_a_pause_of_one_is_a_pause_of_all(two: Two) -> None:
    async with two() as (mine, theirs):
        told = await mine.beat("k", "mine", Heartbeat(5.0, pause=30.0))
        got = await theirs.reserve("k", SlotRequest(1, 0.02))

    assert told.gate - told.now == pytest.approx(30.0, abs=0.01)
    assert got.first == pytest.approx(got.gate)
    assert got.gate == pytest.approx(told.gate)


@pytest.mark.asyncio
async def test_of_two_lessons_of_one_event_the_first_is_kept(two: Two) -> None:
    first = LearnedRate(1, 20.5, "regaining", 22.25, 48.0, 50.0, 1)
    async with two() as (mine, theirs):
        told = await mine.beat("k", "mine", Heartbeat(5.0, known=0, lesson=first))
        late = await theirs.beat("k", "theirs", Heartbeat(5.0, known=0, lesson=LearnedRate(1, 30.0)))

    assert told.lesson == late.lesson == first


@pytest.mark.asyncio
async def test_within_an_event_the_rate_only_rises(two: Two) -> None:
    async with two() as (mine, theirs):
        await mine.beat("k", "mine", Heartbeat(5.0, lesson=LearnedRate(1, 20.0)))
        rates = []
        for epoch, rate in ((1, 21.0), (1, 20.5), (0, 48.0), (1, 22.0)):
            await theirs.reserve("k", SlotRequest(1, 0.02, epoch=epoch, rate=rate))
            rates.append((await mine.beat("k", "mine", Heartbeat(5.0))).lesson.rate)

    assert rates == [21.0, 21.0, 21.0, 22.0]


@pytest.mark.asyncio
async def test_each_knows_how_many_they_are_and_what_the_others_got_done(two: Two) -> None:
    async with two() as (mine, theirs):
        await theirs.beat("k", "theirs", Heartbeat(5.0, accepted=7))
        both = (await mine.beat("k", "mine", Heartbeat(5.0))).standing
        reserved = await theirs.reserve("k", SlotRequest(1, 0.02))
        await theirs.leave("k", "theirs")
        alone = (await mine.beat("k", "mine", Heartbeat(5.0))).standing

    assert (both.members, both.index, both.elsewhere) == (2, 0, 7)
    assert reserved.members == 2
    assert alone.members == 1


@pytest.mark.asyncio
async def test_a_database_whose_clock_was_set_back_makes_nobody_wait_for_the_old_time(postgres: Postgres) -> None:
    url = postgres.database()
    async with PostgresStore(limit_url(url)) as store:
        await store.beat("k", "mine", Heartbeat(5.0))
        with psycopg.connect(url, autocommit=True) as db:
            db.execute("update d3async_limit set free = free + 5000, at = at + 4999, gate = gate + 5001")
        told = await store.beat("k", "mine", Heartbeat(5.0))
        got = await store.reserve("k", SlotRequest(1, 0.02))

    assert told.gate - told.now < 3
    assert 0.9 < got.first - got.now < 3


@pytest.mark.asyncio
async def test_shares_of_one_process_go_through_one_connection(postgres: Postgres) -> None:
    url = postgres.database()
    query = "select count(*) from pg_stat_activity where application_name = 'd3async limit' and datname = %s"
    async with limit_database(url) as database, shared_limit(database, "a"), shared_limit(database, "b"):
        with psycopg.connect(url) as db:
            counted = db.execute(query, (url.rpartition("/")[2],)).fetchone()

    assert counted == (1,)


@pytest.mark.asyncio
async def test_a_database_that_says_nothing_is_given_up_at_once_and_asked_anew(postgres: Postgres) -> None:
    url = postgres.database()
    async with PostgresStore(limit_url(url)) as store:
        await store.beat("k", "mine", Heartbeat(5.0))
        with psycopg.connect(url) as holder:
            holder.execute("select * from d3async_limit for update")
            with pytest.raises(StoreError, match="does not answer"):
                await store.reserve("k", SlotRequest(1, 0.02))
            with pytest.raises(StoreError, match="not connected"):
                await store.reserve("k", SlotRequest(1, 0.02))
        await store.beat("k", "mine", Heartbeat(5.0))

        assert (await store.reserve("k", SlotRequest(1, 0.02))).granted


@pytest.mark.asyncio
async def test_a_database_that_is_stopped_is_lost_and_comes_back() -> None:
    with running() as server:
        async with PostgresStore(limit_url(server.database())) as store:
            await store.beat("k", "mine", Heartbeat(5.0, lesson=LearnedRate(1, 20.0)))
            server.stop("immediate")
            with pytest.raises(StoreError):
                await store.reserve("k", SlotRequest(1, 0.02))
            with pytest.raises(StoreError):
                await store.beat("k", "mine", Heartbeat(5.0))
            server.start()
            await store.beat("k", "mine", Heartbeat(5.0))

            assert (await store.reserve("k", SlotRequest(1, 0.02))).granted


@pytest.mark.asyncio
async def test_no_word_of_a_database_that_refuses_holds_the_password(
    postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"postgresql://nobody:{CANARY}@127.0.0.1:{postgres.port}/nowhere?application_name=x"
    told: list[str] = []
    async with shared_limit(url, "k", tell=told.append) as share:
        assert share.lost
    async with shared_limit(url, "k"):
        pass

    assert "postgresql://127.0.0.1" in told[0]
    assert "keeping to 1/8 of the rate" in told[0]
    assert CANARY not in "".join(told) + caplog.text + repr(limit_url(url)) + str(limit_url(url))


@pytest.mark.parametrize(
    "url", ["", "mysql://h/x", f"http://u:{CANARY}@h", f"postgres ql://{CANARY}", "postgresql://[::1"]
)
@pytest.mark.asyncio
async def test_what_is_no_database_is_said_so_without_saying_it(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        async with shared_limit(url, "k"):
            pass

    assert CANARY not in str(caught.value)


@pytest.mark.asyncio
async def test_a_file_that_somebody_holds_is_given_up_soon_and_had_again_later(tmp_path: Path) -> None:
    """The holder may be a process that was frozen in the middle."""
    path = tmp_path / "limits.sqlite"
    async with SqliteStore(path) as store:
        await store.reserve("k", SlotRequest(1, 0.02))
        with closing(sqlite3.connect(path, isolation_level=None)) as holder:
            holder.execute("begin immediate")
            with pytest.raises(StoreError, match="another process holds it"):
                await store.reserve("k", SlotRequest(1, 0.02))
            holder.execute("rollback")

            assert (await store.reserve("k", SlotRequest(1, 0.02))).granted


def _nonsense(path: Path) -> None:
    path.write_bytes(b"no database " * 100)


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [_nonsense, _folder])
def test_a_file_that_cannot_be_used_is_refused_with_a_word(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "limits.sqlite")

    with pytest.raises(StoreError, match=r"\w"):
        SqliteStore(tmp_path / "limits.sqlite")


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps no such bits")
def test_the_file_is_its_owner_s_alone(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "state" / "limits.sqlite")

    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state" / "limits.sqlite").stat().st_mode & 0o777 == 0o600


@pytest.mark.asyncio
async def test_a_file_with_something_else_in_it_is_lost_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "limits.sqlite"
    async with SqliteStore(path) as store:
        await store.beat("k", "mine", Heartbeat(5.0))
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("update limits set lesson = '[1]'")

        with pytest.raises(StoreError, match="something else"):
            await store.beat("k", "mine", Heartbeat(5.0))


MOUNTS = """21 1 8:1 / / rw - ext4 /dev/sda1 rw
22 21 0:40 / /home rw - nfs4 server:/home rw
23 22 8:2 / /home/me/local\\040disk rw - ext4 /dev/sdb1 rw
"""


@pytest.mark.skipif(os.name != "posix", reason="paths")
@pytest.mark.parametrize(
    ("path", "away"),
    [("/var/x", False), ("/home/me/x", True), ("/homely/x", False), ("/home/me/local disk/x", False)],
)
def test_a_network_share_is_known_by_its_mount(path: str, away: bool) -> None:
    from pathlib import Path

    assert on_network(Path(path), MOUNTS) is away
