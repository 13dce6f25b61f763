"""A run folder, or a fleet and its runs, at one moment; their results and report written again."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import platformdirs

from d3async.errors import JobFileError, JournalError
from d3async.files.atomic_write import atomic_write, write_lines
from d3async.files.feedback_writer import feedback_paths
from d3async.files.number_format import instant
from d3async.files.report_writer import report_html
from d3async.files.run_files import usual_format, write_results
from d3async.files.suggestions import fleet_run_steps, suggest, to_type
from d3async.files.summary import find_causes, last_facts, summary
from d3async.journal.sqlite.folder_lock import is_held
from d3async.journal.sqlite.reader import FILE, FolderReader
from d3async.policy.next_step import Steps

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from d3async.config.database_urls import FleetUrl
    from d3async.files.summary import Cause
    from d3async.journal.model import FolderOwner
    from d3async.journal.postgres.reader import FleetSnapshot, RunStatus
    from d3async.journal.protocols import RunReader
    from d3async.operations.settle import FleetRunName

_WINDOW = 30.0
"""Seconds over which the rate of a run is taken."""
_CAUSES = 5
_FILES = ("results", "report", "failed", "unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderStatus:
    """A run folder at one moment. *summary* is that of `summary.json`; *running*: a process holds the folder.

    *rate* is rows answered a second over the last half minute, of a run that goes on.
    """

    folder: Path
    summary: Mapping[str, Any]
    in_flight: int
    to_send: int
    owner: FolderOwner | None
    running: bool | None
    rate: float | None
    causes: Sequence[Cause]
    files: Mapping[str, Path]
    steps: Steps

    @property
    def next(self) -> list[str]:
        """What to type next; nothing while a run goes on."""
        return to_type(self.steps)


def folder_status(folder: Path, *, now: float) -> FolderStatus:
    """The run folder at *now* (seconds since 1970), also while its run goes on. Raises `JournalError`."""
    # first: a run that ends in between has let go of the folder, and its journal is read to the end
    running = is_held(folder)
    with FolderReader(folder / FILE) as reader:
        return status_of(reader, now=now, running=running)


def status_of(reader: RunReader, *, now: float, running: bool | None) -> FolderStatus:
    """The folder of *reader* at *now* (seconds since 1970), given whether its owner is *running*."""
    owner, facts = reader.owner(), last_facts(reader.runs())
    rate = None
    if owner and running is not False:
        window = min(_WINDOW, max(now - (owner.since or now), 1.0))
        rate = reader.done_since(now - window) / window
    files = {path.stem: path for path in sorted(reader.folder.glob("*.*")) if path.stem in _FILES}
    files |= {path.stem: path for path in sorted(reader.folder.glob("results.[cj]s*"))}
    files |= {name: path for name in ("failed", "unknown") for path in feedback_paths(reader.folder, name)}
    return FolderStatus(
        folder=reader.folder,
        summary=summary(reader, facts),
        in_flight=reader.in_flight(),
        to_send=reader.to_send(),
        owner=owner,
        running=running,
        rate=rate,
        causes=find_causes(reader, keep=1).causes[:_CAUSES],
        files=files,
        steps=Steps() if running else suggest(reader, facts, mend_file=files.get("failed")),
    )


def folder_json(at: FolderStatus) -> dict[str, Any]:
    """*at* for programs. Rows in flight are among `outcomes.unknown`, so that outcomes add up to the rows."""
    told = at.summary
    return {
        "folder": str(at.folder),
        **{key: told[key] for key in ("command", "input", "base_url", "site", "outcomes", "items", "vanished")},
        **{key: told[key] for key in ("servers", "settled_by_hand") if key in told},
        "in_flight": at.in_flight,
        "to_send": at.to_send,
        "running": at.running,
        "owner": at.owner and {"pid": at.owner.pid, "host": at.owner.host, "since": instant(at.owner.since)},
        "rate": None if at.rate is None else round(at.rate, 2),
        **{key: told[key] for key in ("started_at", "finished_at", "exit_code")},
        "causes": [
            {
                "count": cause.count, "rows": cause.rows, "outcome": cause.outcome, "code": cause.code,
                "message": cause.text,
            }
            for cause in at.causes
        ],
        **{name: str(at.files[name]) if name in at.files else None for name in _FILES},
        "next": at.next,
        "advice": [note.text for note in at.steps.notes],
    }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetStatus:
    """A fleet at one moment, or one run of it. *causes*, *by_hand* and *steps* are those of the one run."""

    fleet: FleetSnapshot
    causes: Sequence[Cause] = ()
    by_hand: Mapping[str, int] = field(default_factory=dict)
    steps: Steps = field(default_factory=Steps)


def fleet_status(address: FleetUrl, name: str | None, *, now: float, where: Sequence[str] = ()) -> FleetStatus:
    """The fleet at *address*, or its run *name*, at *now* (seconds since 1970).

    *where* are the arguments with which a command reaches the fleet. Raises `JournalError`.
    """
    from d3async.journal.postgres.connections import connected_now  # noqa: PLC0415 - psycopg, for those who have a fleet
    from d3async.journal.postgres.reader import FleetRunReader, fleet_snapshot  # noqa: PLC0415 - as above

    with connected_now(address) as connection:
        found = fleet_snapshot(connection, now=now, name=name)
    if name is None:
        return FleetStatus(fleet=found)
    if not found.runs:
        raise JournalError(f"{address} has no run {name}; `d3async status` lists them.", code="no_run")
    [run] = found.runs
    with FleetRunReader(address.conninfo, run.name) as reader:
        causes, by_hand = find_causes(reader, keep=1).causes[:_CAUSES], reader.settled_by_hand()
    steps = Steps() if run.open else fleet_run_steps(run.name, run.outcomes, run.facts, where)
    return FleetStatus(fleet=found, causes=causes, by_hand=by_hand, steps=steps)


def fleet_json(at: FleetSnapshot, address: FleetUrl, *, now: float) -> dict[str, Any]:
    """*at* for programs. Rows in flight are among `outcomes.unknown`, so that outcomes add up to the rows."""
    return {
        "fleet": str(address),
        "at": instant(now),
        "runs": [run_json(run, at) for run in at.runs],
        "workers": [
            {
                "who": worker.who, "version": worker.version, "places": worker.places,
                "tenants": list(worker.tenants), "silent_s": round(worker.silent, 1),
            }
            for worker in at.workers
        ],
    }  # fmt: skip


def run_json(run: RunStatus, at: FleetSnapshot) -> dict[str, Any]:
    """One run for programs."""
    meta = run.meta
    return {
        "run": run.name,
        "tenant": run.tenant,
        "command": meta.get("command", ""),
        "input": {"path": meta.get("input"), "sha256": meta.get("sha256"), "rows": int(meta.get("rows") or 0)},
        "base_url": meta.get("base_url"),
        "site": meta.get("site"),
        "outcomes": run.outcomes,
        "in_flight": run.in_flight,
        "to_send": run.to_send,
        "running": run.open,
        "served": not at.unserved(run),
        "rate": round(run.rate, 2),
        **{name: instant(getattr(run, name)) for name in ("started_at", "finished_at", "cancelled_at")},
        "exit_code": run.exit_code,
        "stop": run.facts.get("stop"),
        "working": [
            {"chunk": working.chunk, "who": working.who, "since": instant(working.since)} for working in run.working
        ],
        "troubles": [
            {"chunk": trouble.chunk, "tries": trouble.tries, "code": trouble.code, "message": trouble.message}
            for trouble in run.troubles
        ],
    }


@contextmanager
def open_reader(target: Path | FleetRunName) -> Iterator[RunReader]:
    """The reader of a run folder, or of a run of the fleet. Raises `JournalError` where there is none."""
    if isinstance(target, Path):
        with FolderReader(target / FILE) as reader:
            yield reader
        return
    from d3async.journal.postgres.reader import FleetRunReader  # noqa: PLC0415 - psycopg, for those who have a fleet

    with FleetRunReader(target.conninfo, target.name) as found:
        yield found


def write_selection(
    target: Path | FleetRunName, file: BinaryIO, *, form: str | None, outcomes: Sequence[str] = ()
) -> bool:
    """Write the rows of *outcomes*, or all, to *file*; *form* None is that of the input. Raises `JournalError`.

    Whether all were written: False where *file* is a pipe that is read no longer.
    """
    with open_reader(target) as reader:
        try:
            write_results(file, reader, form or usual_format(reader), outcomes or None, bom=False)
            file.flush()
        except BrokenPipeError:
            return False
    return True


def write_selection_to(
    target: Path | FleetRunName, path: Path, *, form: str | None, outcomes: Sequence[str] = ()
) -> None:
    """The same, into *path*: whole or not at all. Raises `JobFileError` where *path* is the journal itself."""
    if isinstance(target, Path) and path.exists() and path.samefile(target / FILE):
        raise JobFileError(f"{path} is the journal itself: give another file with -o.", code="output")
    with open_reader(target) as reader, atomic_write(path) as file:
        write_results(file, reader, form or usual_format(reader), outcomes or None)


def write_report_to(target: Path | FleetRunName, path: Path) -> None:
    """Write report.html to *path*. Raises `JournalError`."""
    with open_reader(target) as reader, atomic_write(path) as file:
        write_lines(file, report_html(reader))


def progress_file(folder: Path) -> Path:
    """Where the run that holds *folder* keeps its newest progress: in this user's state folder."""
    name = hashlib.sha256(os.path.realpath(folder).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return platformdirs.user_state_path("d3async", appauthor=False) / "progress" / f"{name}.json"


def read_progress(folder: Path) -> dict[str, Any] | None:
    """The newest progress of the run that holds *folder*; None where it keeps none."""
    try:
        found: dict[str, Any] = json.loads(progress_file(folder).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found


def run_folders(places: Sequence[Path]) -> list[Path]:
    """The run folders among *places* and directly inside them, by name."""
    found = {path.parent for place in places for path in (place / FILE, *place.glob(f"*/{FILE}")) if path.is_file()}
    return sorted(found)
