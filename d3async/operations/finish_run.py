"""After the last answer: close the journal, write all files, add everything up, say what is next."""

from __future__ import annotations

import os
import time
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from d3async import __version__
from d3async.errors import GONE, JournalError
from d3async.files.run_files import marks_of, write_files, write_summary_of
from d3async.files.suggestions import suggest
from d3async.files.summary import find_causes
from d3async.journal.sqlite.look_alikes import correct_index
from d3async.journal.sqlite.reader import FolderReader, due_zones
from d3async.journal.sqlite.run_folder import FILE
from d3async.journal.sqlite.session import note_written
from d3async.operations.server_settings import FOR_TASKS, lookup_commands
from d3async.policy.halt_and_exit_codes import Stop, exit_code

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from d3async.files.run_files import WrittenFiles
    from d3async.files.summary import Cause
    from d3async.journal.sqlite.run_folder import RunFolder
    from d3async.operations.send_rows import SendResult, ServerResult
    from d3async.operations.server_settings import SettingsByProfile
    from d3async.policy.next_step import Steps

_CAUSES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run that has ended. *homes* are the D3s its rows name; *ran* is None when there was nothing to send.

    With *finished* the rows of the journal are what they were after the run before. *places* are settings that were
    given as options and that no journal keeps. *lost* says that the folder, which was at *home*, is gone.
    """

    folder: RunFolder
    homes: SettingsByProfile
    ran: SendResult | None
    started_at: float
    finished: bool
    places: Sequence[str] = ()
    lost: Stop | None = None
    home: Path | None = None
    taken_in: tuple[str, str, int] | None = None
    """Name and digest of the feedback file that was run, and how many of its rows were to be sent."""

    @property
    def stop(self) -> Stop | None:
        """Why it ended early."""
        return self.lost or (self.ran.stop if self.ran else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRun:
    """What a run came to. *summary* is that of `summary.json`; *causes* are the first ones of rows that are not ok."""

    exit_code: int
    stop: Stop | None
    folder: Path
    summary: Mapping[str, Any]
    causes: Sequence[Cause]
    written: WrittenFiles
    steps: Steps
    servers: Sequence[ServerResult]
    due_zones: Mapping[str, int]


def finish(run: Run, warn: Callable[[str], None]) -> FinishedRun:
    """Write everything. Raises `ConservationError` before anything is overwritten."""
    run = _found(run)
    outcomes = run.folder.settle_leftovers()
    code = exit_code(outcomes, run.stop)
    facts = _facts(run, code)
    with closing(run.folder) as folder:
        folder.finish(now=time.time(), exit_code=code, facts=facts)
        if run.ran is not None:
            correct_index(folder, warn)
        _note_taken_in(run)
        with FolderReader(folder.folder / FILE) as reader:
            written = write_files(reader, known=folder.files_before() if run.finished else {})
            summary = write_summary_of(reader, facts)
            causes = find_causes(reader, keep=1).causes[:_CAUSES]
            steps = suggest(reader, facts, places=run.places, mend_file=written.failed)
        with suppress(JournalError):
            folder.note_files(marks_of(folder.folder))
    return FinishedRun(
        exit_code=code,
        stop=run.stop,
        folder=folder.folder,
        summary=summary,
        causes=causes,
        written=written,
        steps=steps,
        servers=run.ran.servers if run.ran else (),
        due_zones=facts["due_zones"],
    )


def _note_taken_in(run: Run) -> None:
    """A feedback file all of whose rows are done, as it says, has served: a new one may take its place."""
    if run.taken_in is not None and run.lost is None:
        name, digest, rows = run.taken_in
        if run.folder.all_ok(rows):
            note_written(run.folder.folder / FILE, name, digest)


def _found(run: Run) -> Run:
    """*run* with its folder where it is now: under the path it was moved to, or saved in a new one where it is gone.

    Raises `FolderGoneError` when it cannot be saved.
    """
    folder, home = run.folder, run.folder.folder
    if folder.find() is not None:
        folder.follow()
        return run
    return replace(run, lost=Stop(GONE, folder.save().message), home=home, finished=False)


def _facts(run: Run, code: int) -> dict[str, Any]:
    ran, stop = run.ran, run.stop
    begun = beginning(run.homes)
    if ran and "servers" in begun:
        how = {server.server.profile: _went(server) for server in ran.servers}
        begun["servers"] = [{**told, **how.get(told["profile"], {})} for told in begun["servers"]]
    return {
        **begun,
        "started_at": run.started_at,
        "finished_at": time.time(),
        **_figures(ran),
        "due_zones": due_zones(run.folder.db, run.folder.epoch) if ran else {},
        "stop": _stop(stop),
        "exit_code": code,
        **({"home": os.path.abspath(run.home)} if run.home else {}),  # noqa: PTH100 - links stay as they are
    }


def _figures(ran: SendResult | ServerResult | None) -> dict[str, Any]:
    """What a run, or its share at one server, took."""
    elapsed = ran.elapsed if ran else 0.0
    requests = ran.requests if ran else 0
    numbers = ran.numbers if ran else None
    return {
        "requests": requests,
        "throttled": numbers.throttled if numbers else 0,
        "paused_s": round(numbers.paused_s, 3) if numbers else 0.0,
        "rate": round(requests / elapsed, 2) if elapsed else 0.0,
        "elapsed_s": round(elapsed, 3),
        "limiter": {"ceiling": numbers.ceiling, "learnt": numbers.learnt} if numbers else None,
    }


def _went(ran: ServerResult) -> dict[str, Any]:
    return {**_figures(ran), "stop": _stop(ran.stop)}


def _stop(stop: Stop | None) -> dict[str, Any] | None:
    return {"code": stop.code, "message": stop.message, "retry_after_s": stop.retry_after} if stop else None


def beginning(homes: SettingsByProfile) -> dict[str, Any]:
    """What is known of a run when it begins. `log_keys` are the profiles with a key for D3's log."""
    own = homes.get(None)
    several = [{"profile": profile, "settings": settings.public()} for profile, settings in homes.items()]
    return {
        "version": __version__,
        "log_keys": [profile for profile, settings in homes.items() if lookup_commands(settings, FOR_TASKS)],
        "settings": own.public() if own else {},
        **({"servers": several} if homes.keys() - {None} else {}),
    }
