"""The journal of a run that an app awaits, worked on in a thread: the event loop never waits for a disk."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import AsyncIterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from typing import TYPE_CHECKING, Any, TypeVar

from d3async import __version__
from d3async.errors import GONE, SettingsError
from d3async.files.source import Format
from d3async.jobs.job import entry_of
from d3async.journal.model import Selection
from d3async.journal.reconcile import mark_tasks
from d3async.journal.sqlite.look_alikes import LookAlikeGuard, correct_index
from d3async.journal.sqlite.reader import commands_to_send
from d3async.journal.sqlite.row_claims import rows_told
from d3async.journal.sqlite.run_folder import in_memory, open_folder
from d3async.journal.sqlite.session import FolderSession
from d3async.policy.halt_and_exit_codes import Stop, exit_code
from d3async.policy.look_alikes import ALL, Lines
from d3async.policy.next_step import APP

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from d3async.config.settings import Settings
    from d3async.jobs.job import Given
    from d3async.journal.model import JobOutcome
    from d3async.journal.sqlite.run_folder import RunFolder
    from d3async.journal.sqlite.staging import Stage
    from d3async.policy.halt_and_exit_codes import Halt
    from d3async.transport.auth import Auth

    Jobs = Iterable[Given] | AsyncIterable[Given]

T = TypeVar("T")
_LOG = logging.getLogger("d3async")
_CHUNK = 500
_PAGE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """How a run is to go. *drain* in seconds; *ahead* is how many outcomes may wait to be taken."""

    journal: Path | None = None
    retry_unknown: bool = False
    allow_duplicates: bool = False
    allow_similar: bool = False
    mark_tasks: bool = False
    links_per_call: int = 50
    halts: Sequence[Halt] = ()
    drain: float = 30.0
    workers: int = 32
    ahead: int = 100


class BatchJournal:
    """Opens, fills, reads and closes the journal; *auth* says whether there is a key for each command."""

    def __init__(self, terms: BatchOptions, settings: Settings, auth: Auth) -> None:
        self._terms = terms
        self._settings = settings
        self._auth = auth
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="d3async-book")
        self._folder: RunFolder | None = None
        self._stage: Stage | None = None
        self._rows = count(1)

    @property
    def folder(self) -> RunFolder:
        """The open run folder."""
        if self._folder is None:
            raise RuntimeError("the journal is not open")
        return self._folder

    async def open(self) -> None:
        """Hold the folder. Raises `FolderHeldError`, `JournalError`, and `SettingsError` for one of another D3."""
        await self._do(self._open)

    async def add(self, chunk: Sequence[Given]) -> None:
        """Take *chunk* in. Raises TypeError for what is no job."""
        own = self._settings
        entries = [entry_of(number, given, own.site, own.profile) for given, number in zip(chunk, self._rows)]  # noqa: B905 - row numbers never end

        def staged() -> None:
            if self._stage is not None:
                self._stage.add(entries)

        await self._do(staged)

    async def begin(self) -> int:
        """Make it hold; how many rows are to be sent. Raises `JournalError`, `LookAlikeError`, `SettingsError`."""
        return await self._do(self._begin)

    async def page(self, *, todo: bool, after: int) -> list[JobOutcome]:
        """See `rows_told`."""
        return await self._do(partial(rows_told, self.folder.db, todo=todo, after=after, most=_PAGE))

    async def settle_leftovers(self) -> None:
        """See `RunFolder.settle_leftovers`."""
        await self._do(self.folder.settle_leftovers)

    async def finish(self, stop: Stop | None, facts: Mapping[str, Any]) -> Stop | None:
        """Write down how the run went; why it ended early, which may be that its folder is gone.

        Raises `FencedError`, `JournalError`, `ConservationError`.
        """
        return await self._do(partial(self._finish, stop, facts))

    async def close(self) -> None:
        """Let go of the folder; what was not begun leaves nothing behind."""
        try:
            await self._do(self._close)
        finally:
            self._thread.shutdown(wait=False)

    async def _do(self, work: Callable[[], T]) -> T:
        """Run *work* in the thread, to its end also when cancelled: no other caller may go on half-way."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        interrupted = None
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError as error:
                interrupted = error
        if interrupted is not None:
            future.exception()
            raise interrupted
        return future.result()

    def _open(self) -> None:
        path = self._terms.journal
        self._folder = in_memory() if path is None else open_folder(path)
        before = self._folder.meta().get("base_url")
        if before and before != self._settings.base_url:
            raise SettingsError(
                f"{path} holds a run against {before}, not {self._settings.base_url}: give another folder.",
                code="other_d3",
            )
        self._stage = self._folder.stage()

    def _begin(self) -> int:
        folder, stage = self.folder, self._stage
        if stage is None:
            raise RuntimeError("the journal is not open")
        for _ in stage.duplicates(allow=self._terms.allow_duplicates):
            pass
        folder.adopt(self._meta(stage))
        facts = {"settings": self._settings.public()}
        rows = folder.begin(Selection(retry_unknown=self._terms.retry_unknown), now=time.time(), facts=facts)
        mark_tasks(FolderSession(folder), on=self._terms.mark_tasks)
        for command in commands_to_send(folder.db):
            self._auth.headers(command, username=self._settings.username, site=self._settings.site)
        self._commit()
        stage.close()
        return rows

    def _commit(self) -> None:
        """Commit the folder; in one that stays, rows that look like rows sent before must be meant."""
        if self._terms.journal is None:
            self.folder.commit()
            return
        with LookAlikeGuard(self.folder, {self._settings.base_url: [""]}, tell=_LOG.warning) as guard:
            similar = guard.find(ALL if self._terms.allow_similar else Lines())
            if similar.count:
                raise similar.error()
            guard.commit()

    def _meta(self, stage: Stage) -> dict[str, str]:
        commands = stage.commands()
        return {
            "base_url": self._settings.base_url,
            "site": self._settings.site,
            "command": commands[0] if len(commands) == 1 else "",
            "format": json.dumps(Format("jsonl").to_json()),
            "header": "[]",
            "input": APP,
            "sha256": "",
            "rows": str(stage.rows),
        }

    def _finish(self, stop: Stop | None, facts: Mapping[str, Any]) -> Stop | None:
        folder = self.folder
        if folder.find() is None:
            facts = {**facts, "home": os.path.abspath(folder.folder)}  # noqa: PTH100 - links stay as they are
            stop = Stop(GONE, folder.save().message)
        else:
            folder.follow()
        outcomes = folder.settle_leftovers()
        said = {"code": stop.code, "message": stop.message, "retry_after_s": stop.retry_after} if stop else None
        code = exit_code(outcomes, stop)
        told = {"version": __version__, "settings": self._settings.public(), "stop": said, "exit_code": code, **facts}
        folder.finish(now=time.time(), exit_code=code, facts=told)
        if self._terms.journal is not None:
            correct_index(folder, _LOG.warning)
        return stop

    def _close(self) -> None:
        if self._folder is not None:
            self._folder.abandon()


async def chunks(jobs: Jobs) -> AsyncIterator[list[Given]]:
    """*jobs* as they come, some hundred at a time."""
    if isinstance(jobs, AsyncIterable):
        chunk: list[Given] = []
        async for job in jobs:
            chunk.append(job)
            if len(chunk) == _CHUNK:
                yield chunk
                chunk = []
        if chunk:
            yield chunk
        return
    left = iter(jobs)
    while chunk := list(islice(left, _CHUNK)):
        yield chunk
