"""Rows of one run compared with those of others in a real database: what is kept of it, who waits for whom."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from d3async.errors import FolderHeldError
from d3async.journal.model import Selection
from d3async.journal.postgres.chunk_owners import create_job_rows_of_run
from d3async.journal.postgres.look_alikes import SimilarSubmitted, lock_tenant
from d3async.journal.postgres.runs import drop
from d3async.journal.postgres.submission import SubmittedRun, submission
from d3async.policy.look_alikes import ALL, Lines
from tests.journal.ground import NOW, numbered, task
from tests.journal.postgres.ground import Fleet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from d3async.jobs.job import Job
    from d3async.journal.model import Similar
    from tests.database import Postgres

D3 = "https://d3.example.com/x"
MANY = 3000


@pytest.fixture
def fleet(postgres: Postgres) -> Iterator[Fleet]:
    """A database of its own: runs of one test are compared with each other."""
    with Fleet(postgres.database()) as found:
        yield found


def tasks(count: int, due: str = "2027-01-01 10:00:00", name: str = "Call") -> list[Job]:
    return [task(name, incident=f"2027-{n}", due=due)._replace(raw=f"{n},{name},{due}") for n in range(count)]


def submitted(fleet: Fleet, name: str, entries: Sequence[Job], *, url: str = D3) -> SubmittedRun:
    going = submission(fleet.db, name, "soc", now=NOW)
    going.add(numbered(entries))
    list(going.duplicates(allow=False))
    going.adopt({"rows": str(len(entries)), "base_url": url})
    begun = going.begin(Selection(), now=NOW, facts={})
    going.commit()
    return begun


def found(fleet: Fleet, begun: SubmittedRun, allowed: Lines | None = None) -> Similar:
    with fleet.db.transaction():
        lock_tenant(fleet.db, "soc")
        return SimilarSubmitted(fleet.db, begun.run, D3, ours=()).find(allowed or Lines())


def done(fleet: Fleet, begun: SubmittedRun, state: str = "ok") -> None:
    create_job_rows_of_run(fleet.db, begun.run)
    fleet.query(
        "update d3async_job set state = %s, todo = false, lane = null, attempts = 1, sent_at = 1"
        " where run = %s and todo returning id",
        state, begun.run,
    )  # fmt: skip


def entered(fleet: Fleet) -> list[tuple[int, int]]:
    return fleet.query("select run, count(*) from d3async_similar group by 1 order by 1")


@pytest.mark.parametrize("place", ["same", "another"])
def test_every_row_of_a_file_whose_dates_lost_their_seconds_is_found(fleet: Fleet, place: str) -> None:
    done(fleet, submitted(fleet, "same", tasks(MANY, due="2027-01-01 10:00:59")))

    similar = found(fleet, submitted(fleet, place, tasks(MANY)))

    assert (similar.count, str(similar.lines), len(similar.pairs)) == (MANY, f"2-{MANY + 1}", 100)
    assert [(pair.line, pair.differs) for pair in similar.pairs[:3]] == [(2, ("due",)), (3, ("due",)), (4, ("due",))]
    assert {pair.folder for pair in similar.pairs} == {"" if place == "same" else "run same"}


@pytest.mark.parametrize("place", ["same", "another"])
def test_next_weeks_rows_and_other_names_are_counted_and_never_found(fleet: Fleet, place: str) -> None:
    done(fleet, submitted(fleet, "same", tasks(MANY)))

    week = found(fleet, submitted(fleet, place, tasks(MANY, due="2027-01-08 10:00:00")))
    names = found(fleet, submitted(fleet, f"{place} 2", tasks(5, name="Write")))

    assert (week.count, week.other_day, week.other_name) == (0, MANY, 0)
    assert (names.count, names.other_day, names.other_name) == (0, 0, 5)


def test_a_done_row_holds_up_one_new_row_and_not_two(fleet: Fleet) -> None:
    done(fleet, submitted(fleet, "one", tasks(1)))

    similar = found(
        fleet, submitted(fleet, "two", [*tasks(1, due="2027-01-01 11:00:00"), *tasks(1, due="2027-01-01 12:00:00")])
    )

    assert (similar.count, similar.other_day) == (1, 1)


def test_all_of_them_allowed_leaves_none(fleet: Fleet) -> None:
    done(fleet, submitted(fleet, "one", tasks(3)))
    again = submitted(fleet, "two", [*tasks(3), *tasks(3, due="2027-01-01 11:00:00")])

    assert found(fleet, again, ALL).count == 0
    assert found(fleet, again).count == 0


def test_a_run_is_entered_when_another_one_is_compared_with_it_and_not_again(fleet: Fleet) -> None:
    one = submitted(fleet, "one", tasks(4))
    assert found(fleet, one).count == 0
    assert entered(fleet) == []

    two = submitted(fleet, "two", tasks(2, name="Write"))
    found(fleet, two)
    found(fleet, two)

    assert entered(fleet) == [(one.run, 4), (two.run, 2)]
    assert fleet.query("select run, last from d3async_entered order by run") == [(one.run, 4), (two.run, 2)]


def test_rows_added_to_a_run_later_are_compared_too(fleet: Fleet) -> None:
    done(fleet, submitted(fleet, "one", tasks(2)))
    found(fleet, submitted(fleet, "two", tasks(1, name="Write")))
    more = submitted(fleet, "one", tasks(3))
    found(fleet, more)
    done(fleet, more)

    similar = found(fleet, submitted(fleet, "three", tasks(3)))

    assert str(similar.lines) == "2-4"


def test_another_d3_is_another_matter(fleet: Fleet) -> None:
    done(fleet, submitted(fleet, "there", tasks(2), url="https://elsewhere.example.com/x"))

    assert found(fleet, submitted(fleet, "here", tasks(2))).count == 0
    assert entered(fleet) == []


def test_what_was_entered_goes_with_its_run(fleet: Fleet) -> None:
    one = submitted(fleet, "one", tasks(4))
    two = submitted(fleet, "two", tasks(2, name="Write"))
    found(fleet, two)

    async def forgotten() -> None:
        async with await psycopg.AsyncConnection.connect(fleet.url, autocommit=True) as connection:
            await drop(connection, one.run)

    fleet.run(forgotten())

    assert entered(fleet) == [(two.run, 2)]
    assert fleet.query("select run from d3async_entered") == [two.run]


def test_who_submits_for_a_tenant_waits_for_the_one_before_and_says_so_in_the_end(fleet: Fleet) -> None:
    with psycopg.connect(fleet.url) as other:
        lock_tenant(other, "soc")
        lock_tenant(other, "soc")
        with fleet.db.transaction():
            lock_tenant(fleet.db, "another")
            before = time.monotonic()
            with pytest.raises(FolderHeldError, match="Rows for soc are being submitted by another process"):
                lock_tenant(fleet.db, "soc", wait=0.2)
            assert time.monotonic() - before >= 0.2
            raise psycopg.Rollback
    with fleet.db.transaction():
        lock_tenant(fleet.db, "soc", wait=0.2)
