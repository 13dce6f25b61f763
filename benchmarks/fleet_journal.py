"""A provider's night is a million rows in one database: they must come in, be counted and go out at the pace of files.

Files are read, checked and copied in by as many processes as there are cores, against the same processes doing all of
that but the database. The server is one of our own on the same machine and takes its share of the same cores. Results
are written by the writer of run folders, against a bare COPY of the same rows. Claims and outcomes are stored for 30
chunks at once, as a worker does, against one row at a time.

    python -m benchmarks fleet_journal
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from benchmarks import jobs
from benchmarks.harness import Line, Scale, folder, python, spend
from d3async.d3.response import Reply
from d3async.files.run_files import write_results
from d3async.journal.model import CallResult, Selection
from d3async.journal.postgres import runs
from d3async.journal.postgres.group_commit import Writer, open_chunk
from d3async.journal.postgres.reader import FleetRunReader
from d3async.journal.postgres.schema import migrate
from d3async.journal.postgres.submission import submission
from d3async.operations.job_file import open_job_file
from d3async.operations.mapping import JobFileOptions
from d3async.policy.outcome import judge
from tests.database import running

if TYPE_CHECKING:
    from collections.abc import Sequence

    from d3async.d3.call import Call
    from d3async.journal.postgres.group_commit import PostgresJournal

_CORES = os.cpu_count() or 1
_AT_ONCE = 30


def measure(scale: Scale) -> list[Line]:
    tenants, rows = scale.of(200, 4), scale.of(5_000, 200)
    with folder() as place, running() as server:
        url = server.database()
        asyncio.run(_install(url))
        files = [jobs.write_tasks(place / f"tenant{at}.csv", rows) for at in range(tenants)]
        bare, _ = _side_by_side("check", url, files)
        wall, cpu = _side_by_side("load", url, files)
        lines = [_intake(tenants * rows, bare, wall, cpu), _status(url, tenants, rows)]
        lines += [_claims(url, scale), _results(url, place, scale.of(200_000, 2_000)), _drop(url)]
        lines[0].notes["database_mb"] = round(_size(url), 1)
    return lines


async def _install(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url) as db:
        await migrate(db)


def _side_by_side(what: str, url: str, files: Sequence[Path]) -> tuple[float, float]:
    """Seconds on the clock and of CPU that the processes took together, which is without the server's."""
    started = time.perf_counter()
    with ThreadPoolExecutor(_CORES) as pool:
        commands = [python("-m", "benchmarks.fleet_journal", what, url, *files[at::_CORES]) for at in range(_CORES)]
        spent = list(pool.map(partial(spend, env={**os.environ, "PYTHONPATH": str(Path.cwd())}), commands))
    return time.perf_counter() - started, sum(one.cpu for one in spent)


def _load(url: str, files: Sequence[str]) -> None:
    with psycopg.connect(url) as db:
        for file in files:
            _submit(db, Path(file))


def _submit(db: psycopg.Connection[Any], file: Path) -> None:
    with open_job_file(file, JobFileOptions(), site=jobs.SITE, now=datetime.now(UTC)) as examined:
        going = submission(db, file.stem, file.stem, now=time.time())
        going.add(examined)
        list(going.duplicates(allow=False))
        going.adopt(
            {
                "rows": str(going.rows),
                "header": json.dumps(examined.table.header),
                "format": json.dumps(examined.format.to_json()),
            }
        )
        going.begin(Selection(), now=time.time(), facts={})
        going.commit()


def _check(files: Sequence[str]) -> None:
    for file in files:
        with open_job_file(Path(file), JobFileOptions(), site=jobs.SITE, now=datetime.now(UTC)) as examined:
            for _ in examined:
                pass


def _intake(rows: int, bare: float, wall: float, cpu: float) -> Line:
    return Line(
        f"{rows:,} rows of as many tenants as files into the database", "reading and checking them",
        f"{rows / wall:,.0f} rows/s", f"{rows / bare:,.0f} rows/s", wall / bare, ">= 50,000 rows/s", "",
        rows / wall >= 50_000, [], {"us_of_cpu_a_row": round(cpu / rows * 1e6, 1)},
    )  # fmt: skip


def _status(url: str, tenants: int, rows: int) -> Line:
    async def ask() -> float:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as db:
            started = time.perf_counter()
            found = await runs.overview(db)
            took = time.perf_counter() - started
        if [one.outcomes["unsent"] for one in found] != [rows] * tenants:
            raise RuntimeError(found)
        return took

    took = min(asyncio.run(ask()) for _ in range(3))
    return Line(
        f"status of {tenants} runs, {tenants * rows:,} rows", "", f"{took:.2f} s", "", None, "< 1 s", "", took < 1
    )


def _claims(url: str, scale: Scale) -> Line:
    many, one = (asyncio.run(_worked(url, chunks)) for chunks in (scale.of(_AT_ONCE, 3), 1))
    return Line(
        f"claim and outcome, {scale.of(_AT_ONCE, 3)} chunks of a process", "one row after the other",
        f"{many:,.0f} rows/s", f"{one:,.0f} rows/s", many / one, "", "", None,
    )  # fmt: skip


async def _worked(url: str, count: int) -> float:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as db:
        chunks = (await runs.chunks_left(db))[:count]
    async with Writer(url) as writer:
        journals = [
            await open_chunk(writer, at.run, at.chunk, round=at.round, who="bench", now=time.time()) for at in chunks
        ]
        started = time.perf_counter()
        done = await asyncio.gather(*(_work(journal, 1 if count == 1 else 4) for journal in journals))
        took = time.perf_counter() - started
        for journal in journals:
            await journal.aclose()
    return sum(done) / took


async def _work(journal: PostgresJournal, at_once: int) -> int:
    async def carry(call: Call) -> None:
        await journal.claim(call, time.time())
        await journal.settle(CallResult(call, judge(call, Reply("ok")), '{"error": ""}', time.time()))

    calls = [call for _, call in await journal.lanes(-1, 1000) if call]
    for first in range(0, len(calls), at_once):
        await asyncio.gather(*map(carry, calls[first : first + at_once]))
    return len(calls)


def _results(url: str, place: Path, rows: int) -> Line:
    with psycopg.connect(url) as db:
        _submit(db, jobs.write_tasks(place / "large.csv", rows))
    with FleetRunReader(url, "large", folder=place) as reader:
        started = time.perf_counter()
        reader.check()
        with (place / "results.csv").open("wb") as file:
            write_results(file, reader, "csv")
        took = time.perf_counter() - started
        started = time.perf_counter()
        _copy(url, place / "bare")
        bare = time.perf_counter() - started
    lines = (place / "results.csv").read_bytes().count(b"\n")
    if lines != rows + 1:
        raise RuntimeError(f"{lines} lines")
    return Line(
        f"results.csv of {rows:,} rows", "COPY of the same rows", f"{took:.1f} s", f"{bare:.1f} s", took / bare,
        "< 3 s", "", took < 3,
    )  # fmt: skip


def _copy(url: str, path: Path) -> None:
    select = (
        "select r.row, r.raw, j.* from d3async_row r left join d3async_job j on j.run = r.run and j.id = r.id"
        " where r.run = (select id from d3async_run where name = 'large') order by r.id"
    )
    with (
        psycopg.connect(url) as db,
        db.cursor() as cursor,
        path.open("wb") as file,
        cursor.copy(f"copy ({select}) to stdout".encode()) as copy,
    ):
        file.writelines(copy)


def _drop(url: str) -> Line:
    async def drop() -> tuple[int, float]:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as db:
            run = await runs.find(db, "large")
            started = time.perf_counter()
            return await runs.drop(db, run.id), time.perf_counter() - started

    rows, took = asyncio.run(drop())
    return Line(f"a run of {rows:,} rows forgotten", "", f"{took:.1f} s", "", None, "", "", None)


def _size(url: str) -> float:
    with psycopg.connect(url) as db:
        found = db.execute("select pg_database_size(current_database())").fetchone()
    return found[0] / 1e6 if found else 0.0


if __name__ == "__main__":
    if sys.argv[1] == "load":
        _load(sys.argv[2], sys.argv[3:])
    else:
        _check(sys.argv[3:])
