"""A run over a sandbox inside of one event loop, up to its last answer: the journal is still held."""

import json
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d3async.client import D3Client
from d3async.config.settings import Settings
from d3async.d3.commands.create_task import CreateTask
from d3async.d3.commands.remove_linked_incidents import RemoveLinkedIncidents
from d3async.engine.delivery import connect
from d3async.engine.engine import Engine
from d3async.files.source import Format
from d3async.jobs.job import Job, request_of
from d3async.journal.model import Selection
from d3async.journal.reconcile import UnknownRows, mark_tasks
from d3async.journal.sqlite.group_commit import GroupCommitJournal
from d3async.journal.sqlite.row_claims import RowStore
from d3async.journal.sqlite.run_folder import RunFolder, open_folder
from d3async.journal.sqlite.session import FolderSession
from d3async.sandbox import Sandbox, serve

DUE = "2026-12-31 17:00:00"
RATE = 1000.0


def link(row: int, source: str, *linked: str, **more: Any) -> Job:
    command = RemoveLinkedIncidents(source=source, linked=list(linked))
    return Job(row, row + 1, f"{source},{';'.join(linked)}", request_of(command), None, "Security Operations", **more)


def task(row: int, incident: str, name: str, assignee: str = "Bob Ray", **more: Any) -> Job:
    command = CreateTask(incident=incident, name=name, description="Ask.", assignee=assignee, due=DUE)
    return Job(
        row, row + 1, f"{incident},{name},{assignee},{DUE}", request_of(command), None, "Security Operations", **more
    )


@dataclass
class Ground:
    """The sandbox, a client for it, and a journal to run over."""

    d3: Sandbox
    client: D3Client
    settings: Settings
    folder: RunFolder

    async def run(self, jobs: Iterable[Job], *, mark: bool = False, links_per_call: int = 50) -> None:
        """One run over *jobs*, each attempt once."""
        stage = self.folder.stage()
        stage.add(jobs)
        list(stage.duplicates(allow=True))
        self.folder.adopt(
            {
                "base_url": str(self.d3),
                "rows": str(stage.rows),
                "format": json.dumps(Format("csv", header_raw="a,b").to_json()),
                "header": '["a", "b"]',
            }
        )
        rows = self.folder.begin(Selection(), now=time.time(), facts={})
        mark_tasks(self.session(), on=mark)
        self.folder.commit()
        stage.close()
        journal = GroupCommitJournal(self.folder.db, RowStore(self.folder.db, epoch=self.folder.epoch))
        parts = connect(self.settings, limiter=self.client._parts.limiter)
        engine = Engine(carrier=parts.delivery, journal=journal, rows=rows, links_per_call=links_per_call)
        async with parts.transport:
            await engine.run()
            await journal.aclose()
        self.folder.settle_leftovers()

    def session(self) -> FolderSession:
        return FolderSession(self.folder)

    def unknown(self) -> UnknownRows:
        return UnknownRows(self.session())

    def again(self) -> None:
        """The next run is about to start: nothing is open in the journal."""
        self.folder.db.execute("begin immediate")

    def rows(self) -> list[tuple[str, str]]:
        return self.folder.db.execute(
            "select state, coalesce(code, '') from job where row is not null order by row"
        ).fetchall()

    def items(self) -> list[tuple[str, str, str]]:
        found = self.folder.db.execute("select name, state, coalesce(code, '') from item order by job, pos")
        return found.fetchall()

    def message(self, row: int) -> str:
        return str(self.folder.db.execute("select message from job where row = ?", (row,)).fetchone()[0])

    def asked(self, command: str) -> int:
        return sum(entry["command"] == command for entry in self.d3.ledger()["requests"])


@asynccontextmanager
async def ground(path: Path, **options: Any) -> AsyncIterator[Ground]:
    async with serve(**{"rate": 0, **options}) as d3:
        settings = Settings.from_env(d3.env, rate=RATE, max_attempts=1)
        folder = open_folder(path / "job.d3run")
        async with D3Client(settings) as client:
            try:
                yield Ground(d3, client, settings, folder)
            finally:
                folder.abandon()
