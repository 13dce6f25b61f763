"""An endpoint that assigns tasks from an uploaded CSV and streams what became of each row, as JSON lines.

    uvicorn --app-dir samples fastapi_app:app
    curl -N -F file=@samples/tasks.csv http://127.0.0.1:8000/tasks

Settings come from D3_*. One client serves every request, so that all of them together keep D3's limit. The journal is
named after the file's content: the same upload again, after a lost connection say, creates no task twice. Who may
call this is for your own app to say: as it stands, everybody who reaches it.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request, UploadFile
from fastapi.responses import PlainTextResponse, StreamingResponse

from d3async import CreateTask, D3Client, D3Error, Settings
from d3async.d3.commands import Reading, plain_due
from d3async.engine.observers import AttemptSeen, Observer, OutcomeSeen
from d3async.errors import JobFileError
from d3async.files.job_file import Table, open_table
from d3async.jobs.row_to_job import RowOptions, RowReader

MOST_BYTES = 10 * 1024 * 1024


class Numbers(Observer):
    """Counts for Prometheus, in its text format."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._rate = 0.0

    def attempt(self, seen: AttemptSeen) -> None:
        """Count a request by the status it got."""
        self._counts[f'd3_requests_total{{command="{seen.command}",status="{seen.status or "none"}"}}'] += 1
        self._rate = seen.limiter.rate

    def outcome(self, seen: OutcomeSeen) -> None:
        """Count a row by its outcome."""
        self._counts[f'd3_outcomes_total{{command="{seen.command}",outcome="{seen.outcome}"}}'] += 1

    def text(self) -> str:
        """What a scrape gets."""
        lines = [f"{name} {number}" for name, number in sorted(self._counts.items())]
        return "\n".join([*lines, f"d3_limiter_rate {self._rate:g}", ""])


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One client as long as the app lives."""
    app.state.settings = Settings.from_env(needs=["CreateTask"])
    app.state.numbers = Numbers()
    app.state.runs = Path(os.environ.get("RUNS", "runs"))
    async with D3Client(app.state.settings, observers=[app.state.numbers]) as app.state.d3:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/tasks")
async def assign_tasks(file: UploadFile, request: Request) -> StreamingResponse:
    """Create the tasks of *file*; 400 for what is no job file. Rows that are wrong come back `invalid`."""
    if file.size is None or file.size > MOST_BYTES:
        raise HTTPException(413, f"more than {MOST_BYTES // 1024 // 1024} MB")
    name = hashlib.sha256(await file.read()).hexdigest()[:16]
    await file.seek(0)
    options = RowOptions(Reading(plain_due), command=CreateTask, site=request.app.state.settings.site)
    try:
        table = open_table(None, stream=file.file, kind="csv")
    except JobFileError as error:
        raise HTTPException(400, error.message) from error
    try:
        reader = RowReader(options, table.header)
    except JobFileError as error:
        table.close()
        raise HTTPException(400, error.message) from error
    lines = told(request.app.state.d3, table, reader, request.app.state.runs / f"{name}.d3run")
    return StreamingResponse(lines, media_type="application/x-ndjson")


async def told(d3: D3Client, table: Table, reader: RowReader, journal: Path) -> AsyncIterator[str]:
    """A line a row as it is finished; a caller who goes away ends the run, and the next one goes on with it."""
    with table:
        async with d3.run(reader.read_all(table), journal=journal) as run:
            try:
                async for outcome in run:
                    yield line(row=outcome.row, outcome=outcome.outcome, code=outcome.code, message=outcome.message)
            except D3Error as error:
                yield line(error=error.code, message=error.message)
            yield line(counts=dict(run.counts))


def line(**facts: Any) -> str:
    """One JSON line."""
    return json.dumps(facts) + "\n"


@app.get("/metrics")
async def metrics(request: Request) -> PlainTextResponse:
    """Numbers for Prometheus."""
    return PlainTextResponse(request.app.state.numbers.text())
