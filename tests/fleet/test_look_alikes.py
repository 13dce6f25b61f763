"""Rows submitted for a tenant that look like rows sent before, or about to be, are not queued unless they are meant."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg
import pytest

from d3async.journal.postgres.chunk_owners import create_job_rows_of_run
from tests.end_to_end.ground import running
from tests.fleet.ground import Fleet, Ran, fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.database import Postgres

HEADER = "incident,name,description,assignee,due\n"
DUE = "2099-03-24 13:28:13"
NOWHERE = "http://127.0.0.1:9/x"


def task(incident: str = "20270101-1", name: str = "Call", due: str = DUE, who: str = "ann") -> str:
    return f"{incident},{name},Look at it,{who},{due}\n"


@pytest.fixture
def soc(tmp_path: Path, postgres: Postgres, typed: Callable[..., Ran]) -> Iterator[Fleet]:
    """Two tenants with a D3 each."""
    urls = {"a": NOWHERE, "b": "http://127.0.0.1:9/y"}
    with fleet(tmp_path / "fleet", postgres.database(), urls, typed=typed) as found:
        yield found


def submit(found: Fleet, name: str, *rows: str, options: tuple[object, ...] = (), header: str = HEADER) -> Ran:
    """Submit *rows* as the run *name* for the tenant a, unless *options* name another one."""
    (found.folder / f"{name}.csv").write_text(header + "".join(rows))
    return found.run("submit", f"{name}.csv", *(() if "--profile" in options else ("--profile", "a")), *options)


def sent(found: Fleet, run: int = 1, state: str = "ok") -> None:
    """As workers leave the run: every row that was to be sent is in *state*."""
    with psycopg.connect(found.database) as db:
        create_job_rows_of_run(db, run)
        db.execute(
            "update d3async_job set state = %s, todo = false, lane = null, attempts = 1, sent_at = 1796144400"
            " where run = %s and todo",
            (state, run),
        )


def queued(found: Fleet) -> int:
    """Rows that workers would send."""
    [(count,)] = found.ask(
        "select (select count(*) from d3async_job where todo)"
        " + coalesce((select sum(rows) from d3async_chunk where untouched), 0)::int"
    )
    return int(count)


def stopped(ran: Ran, count: int, before: str = "sent before") -> None:
    rows = "1 row looks like a row" if count == 1 else f"{count} rows look like rows"
    assert f"Nothing was submitted. {rows} {before}:" in ran.err, ran.err
    assert ran.code == 2


def test_a_file_saved_under_another_name_is_known(soc: Fleet) -> None:
    assert submit(soc, "tasks", task(), task("20270101-2")).code == 0
    sent(soc)

    again = submit(soc, "tasks-v2", task(), task("20270101-2"), task("20270101-3"))

    stopped(again, 2)
    assert "line 2; the other one was sent on 2026-12-01 17:00 UTC, from run tasks" in again.err
    assert "nothing differs" in again.err
    assert "--allow-similar 2-3 (or: --allow-similar all)" in again.err
    assert (queued(soc), soc.ask("select name from d3async_run")) == (0, [("tasks",)])


def test_a_file_saved_again_by_a_spreadsheet_sends_nothing_twice(soc: Fleet) -> None:
    a, b = task("20270101-001"), task("20270101-2", due="2099-03-24 13:28:59")
    submit(soc, "tasks", a, b)
    sent(soc)
    saved = [task("20270101-1", due="3/24/2099 13:28"), task("20270101-2", due="3/24/2099 13:28")]

    again = submit(soc, "tasks", *saved, options=("--date-format", "M/d/yyyy HH:mm"))

    stopped(again, 2)
    assert "incident  sent 20270101-001         now 20270101-1" in again.err
    assert "due       sent 2099-03-24 13:28:13  now 2099-03-24 13:28:00" in again.err
    assert "from run" not in again.err
    assert queued(soc) == 0
    assert "0 rows to send" in submit(soc, "tasks", a, b).err


def test_rows_that_wait_to_be_sent_are_known_and_said_to_wait(soc: Fleet) -> None:
    submit(soc, "tasks", task())

    again = submit(soc, "copy", task())

    stopped(again, 1, "sent before or about to be")
    assert "line 2; the other one waits to be sent, from run tasks" in again.err
    assert queued(soc) == 1


@pytest.mark.parametrize(("state", "count"), [("ok", 1), ("unknown", 1), ("sent", 1), ("failed", 0)], ids=str)
def test_rows_that_were_refused_are_no_reason_to_stop(soc: Fleet, state: str, count: int) -> None:
    submit(soc, "tasks", task())
    sent(soc, state=state)

    again = submit(soc, "copy", task())

    assert again.code == (2 if count else 0)
    assert queued(soc) == 1 - count


def test_rows_of_a_cancelled_run_that_were_never_sent_hold_nothing_up(soc: Fleet) -> None:
    submit(soc, "tasks", task())
    assert soc.run("cancel", "tasks").code == 0

    assert submit(soc, "copy", task()).code == 0

    stopped(submit(soc, "tasks", task()), 1, "sent before or about to be")


def test_another_tenant_and_another_d3_are_another_matter(soc: Fleet) -> None:
    submit(soc, "tasks", task())
    sent(soc)

    assert submit(soc, "there", task(), options=("--profile", "b")).code == 0
    soc.write_config({"a": NOWHERE, "b": NOWHERE})
    (soc.folder / "config.toml").write_text((soc.folder / "config.toml").read_text().replace(NOWHERE, f"{NOWHERE}2"))
    assert submit(soc, "moved", task()).code == 0


@pytest.mark.parametrize("options", [("--id-column", "key"), ()], ids=["ids changed", "id column forgotten"])
def test_other_ids_send_nothing_twice(soc: Fleet, options: tuple[str, ...]) -> None:
    header = f"key,{HEADER}"
    submit(soc, "tasks", f"1,{task()}", header=header, options=("--id-column", "key"))
    sent(soc)

    stopped(submit(soc, "tasks", f"A1,{task()}", header=header, options=options), 1)
    assert queued(soc) == 0


def test_allowed_lines_are_sent_and_stay_allowed(soc: Fleet) -> None:
    submit(soc, "tasks", task(), task("20270101-2"))
    sent(soc)
    rows = (task(), task("20270101-2"))

    stopped(submit(soc, "more", *rows, options=("--allow-similar", "3")), 1)
    assert submit(soc, "more", *rows, options=("--allow-similar", "2-3")).code == 0
    assert queued(soc) == 2
    sent(soc, 3, state="failed")

    assert submit(soc, "more", *rows).code == 0
    assert queued(soc) == 2


def test_all_means_every_row_and_yes_none(soc: Fleet) -> None:
    submit(soc, "tasks", task(), task(due="2099-03-24 14:00:00"))
    sent(soc)
    rows = (task(), task(due="2099-03-24 14:00:00"), task(due="2099-03-24 15:00:00"))

    stopped(submit(soc, "more", *rows, options=("--yes",)), 2)
    assert submit(soc, "more", *rows, options=("--allow-similar", "all")).code == 0


def test_a_weekly_file_is_not_held_up_and_said(soc: Fleet) -> None:
    submit(soc, "week-1", task(), task("20270101-2"))
    sent(soc)

    again = submit(soc, "week-2", task(due="2099-03-31 13:28:13"), task("20270101-2", due="2099-03-31 13:28:13"))

    assert again.code == 0
    assert "week-2: 2 with incident and name of a task sent before, due on another day" in again.err
    assert queued(soc) == 2


@pytest.mark.parametrize("name", ["tasks", "others"])
def test_other_names_for_the_same_people_are_not_held_up_and_said(soc: Fleet, name: str) -> None:
    submit(soc, "tasks", task(), task("20270101-2"))
    sent(soc)

    again = submit(soc, name, task(name="Write"), task("20270101-2", name="Write"))

    assert again.code == 0
    assert "2 with incident, assignee and due date of a task sent before, under another name" in again.err
    assert queued(soc) == 2


def test_new_rows_for_the_same_people_appended_to_done_ones_are_not_held_up(soc: Fleet) -> None:
    done = [task(f"20270101-{n}") for n in range(300)]
    submit(soc, "tasks", *done)
    sent(soc)

    again = submit(soc, "tasks", *done, *[task(f"20270101-{n}", name="Write") for n in range(300)])

    assert again.code == 0
    assert "sent before" not in again.err
    assert queued(soc) == 300


def test_a_row_that_failed_here_and_was_done_by_another_run_is_not_sent_again(soc: Fleet) -> None:
    submit(soc, "tasks", task())
    sent(soc, state="failed")
    submit(soc, "copy", task())
    sent(soc, 2)

    stopped(submit(soc, "tasks", task()), 1)
    assert queued(soc) == 0


def test_a_row_that_was_changed_is_compared_as_it_is_now(soc: Fleet) -> None:
    header = f"key,{HEADER}"
    submit(soc, "tasks", f"1,{task()}", header=header, options=("--id-column", "key"))
    submit(soc, "others", task("20270101-2"))
    sent(soc, state="failed")
    submit(soc, "tasks", f"1,{task('20270101-3')}", header=header, options=("--id-column", "key"))
    sent(soc)

    assert submit(soc, "first", task()).code == 0
    stopped(submit(soc, "third", task("20270101-3")), 1)


def test_a_row_changed_under_its_id_into_one_that_was_done_and_taken_out_is_a_new_row(soc: Fleet) -> None:
    header, options = f"key,{HEADER}", ("--id-column", "key")
    submit(soc, "tasks", f"k1,{task()}", f"k2,{task(name='Other')}", header=header, options=options)
    sent(soc)
    with psycopg.connect(soc.database) as db:
        db.execute("update d3async_job set state = 'failed', epoch = 1 where id = 2")

    again = submit(soc, "tasks", f"k2,{task()}", header=header, options=options)

    stopped(again, 1)
    assert queued(soc) == 0
    meant = submit(soc, "tasks", f"k2,{task()}", header=header, options=(*options, "--allow-similar", "2"))
    assert (meant.code, queued(soc)) == (0, 1), meant.err


def test_two_files_of_one_submit_are_compared_with_each_other(soc: Fleet) -> None:
    for name in ("tasks", "copy", "another"):
        (soc.folder / f"{name}.csv").write_text(HEADER + task())

    told = soc.run("submit", "tasks.csv", "copy.csv", "another.csv", "--profile", "a")

    assert told.code == 2
    assert "copy: 1 row looks like a row sent before or about to be:" in told.err
    assert "another: 1 row looks like a row sent before or about to be:" in told.err
    assert "tasks: 1 row looks" not in told.err
    assert "Meant as a task of its own? --allow-similar all\n" in told.err
    assert soc.ask("select count(*) from d3async_run") == [(0,)]
    lines = soc.run("submit", "tasks.csv", "copy.csv", "--profile", "a", "--allow-similar", "2")
    assert lines.code == 2
    assert "give one FILE with it" in lines.err
    assert soc.run("submit", "tasks.csv", "copy.csv", "--profile", "a", "--allow-similar", "all").code == 0
    assert queued(soc) == 2


@pytest.mark.parametrize("processes", [1, 2])
def test_a_file_for_several_tenants_is_compared_with_the_files_of_each(soc: Fleet, processes: int) -> None:
    (soc.folder / "a.csv").write_text(HEADER + task())
    (soc.folder / "b.csv").write_text(f"profile,{HEADER}a,{task()}b,{task()}")

    told = soc.run("submit", "a.csv", "b.csv", "--processes", processes)

    assert told.code == 2
    assert ": 1 row looks like a row sent before or about to be:" in told.err
    assert soc.ask("select count(*) from d3async_run") == [(0,)]


def test_a_dry_run_stops_for_the_same_rows_and_leaves_nothing(soc: Fleet) -> None:
    submit(soc, "tasks", task())
    sent(soc)

    stopped(submit(soc, "copy", task(), options=("--dry-run",)), 1)
    told = submit(soc, "copy", task(), options=("--dry-run", "--allow-similar", "2", "--json"))
    assert json.loads(told.out)["submitted"] is False
    stopped(submit(soc, "copy", task()), 1)


def test_of_submits_at_the_same_moment_one_queues_the_row(soc: Fleet) -> None:
    soc.run("submit", soc.file("b", 1))
    names = ["one", "two", "three", "four"]
    for name in names:
        (soc.folder / f"{name}.csv").write_text(HEADER + task())
    soc.typed = None

    with ThreadPoolExecutor() as pool:
        codes = list(pool.map(lambda name: soc.run("submit", f"{name}.csv", "--profile", "a").code, names))

    assert sorted(codes) == [0, 2, 2, 2]
    assert soc.ask("select count(*) from d3async_run where tenant = 'a'") == [(1,)]


def test_links_never_stop_a_submission(soc: Fleet) -> None:
    for name in ("links", "links-2"):
        told = submit(soc, name, "20231025-130,20210127-198\n", header="source,linked\n")
        assert told.code == 0, told.err
        sent(soc)


def test_what_a_worker_created_is_not_created_again_under_another_name(
    tmp_path: Path, postgres: Postgres, typed: Callable[..., Ran]
) -> None:
    with running(rate=None) as d3, fleet(
        tmp_path / "fleet", postgres.database(), {"a": d3.env["D3_BASE_URL"]}, typed=typed, key=d3.env["D3_API_KEY"]
    ) as found:  # fmt: skip
        submit(found, "tasks", task("20220125-1"), task("20220125-2"))
        found.worker()
        found.wait(2, seconds=20)

        stopped(submit(found, "copy", task("20220125-1"), task("20220125-2")), 2)
        assert len(d3.ledger()["tasks"]) == 2
