"""One `reconcile`: look up, settle, write the files again, tell what is known now."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from d3async.cli import ending
from d3async.cli.console import out, say
from d3async.cli.ways import FOR_LINKS, FOR_TASKS, how_to_set_any, ways
from d3async.client import D3Client
from d3async.errors import D3Error, JournalError, SettingsError, ThrottledError, UnauthorizedError
from d3async.files.summary import last_facts
from d3async.files.write import write_again
from d3async.journal.read import FILE, JournalReader
from d3async.journal.reconcile import hold, let_go
from d3async.readback import reconcile_links, reconcile_tasks
from d3async.sansio import exit_code as codes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from d3async.files.write import Written
    from d3async.journal.sqlite import RunFolder
    from d3async.readback import LinkCounts, TaskCounts
    from d3async.settings import Settings

_SHOWN = 5
_RECOUNTED = (None, codes.OK, codes.SOME_FAILED, codes.SOME_UNKNOWN)
_UNKNOWN = "row is not null and state in ('unknown', 'sent')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of `reconcile`."""

    using: Sequence[str] = ()
    not_found_is_failed: bool = False
    as_json: bool = False


@dataclass(frozen=True, slots=True)
class _Unknown:
    """Rows nobody knows about."""

    tasks: int
    links: int
    others: int

    @property
    def rows(self) -> int:
        return self.tasks + self.links + self.others


@dataclass(frozen=True, slots=True)
class _Ways:
    """The commands to read links and tasks with; none where nothing of that kind is looked up."""

    links: Sequence[str]
    tasks: Sequence[str]


@dataclass(slots=True)
class _Found:
    """What came of it; *code* says why it ended early, if it did."""

    links: LinkCounts | None = None
    tasks: TaskCounts | None = None
    code: int = codes.OK
    trouble: str = ""
    written: Written | None = None


def reconcile(path: Path, settings: Settings, options: Options) -> int:
    """Settle what can be settled in the run folder *path*; the exit code.

    Raises `SettingsError` and `JournalError`, `FolderHeldError` among them.
    """
    before = _unknown(path, settings)
    if not before.rows:
        say(f"{path}: no row is unknown.")
    chosen = _chosen(before, settings, options)
    found = _Found()
    if chosen.links or chosen.tasks:
        _tell_start(path, before, settings)
        found = _settle(path, settings, options, chosen)
    left = _unknown(path, settings)
    _tell(path, before, left, found)
    if options.as_json:
        out(json.dumps(_told(before, left, found)))
    return found.code or (codes.SOME_UNKNOWN if left.rows else codes.OK)


def _unknown(path: Path, settings: Settings) -> _Unknown:
    with JournalReader(path / FILE) as reader:
        home = reader.meta().get("base_url")
        if home and home != settings.base_url:
            message = f"{path} holds a run against {home}, not {settings.base_url}: what that D3 holds proves nothing."
            raise SettingsError(message, code="other_d3")
        counts = dict(reader.query(f"select command, count(*) from job where {_UNKNOWN} group by command"))  # noqa: S608 - our own words
    tasks, links = counts.pop("CreateTask", 0), counts.pop("RemoveLinkedIncidents", 0)
    return _Unknown(tasks, links, sum(counts.values()))


def _chosen(unknown: _Unknown, settings: Settings, options: Options) -> _Ways:
    """What to read with. Raises `SettingsError` when nothing can be looked up at all."""
    found, advice = {}, {}
    for what, rows, names in (("links", unknown.links, FOR_LINKS), ("tasks", unknown.tasks, FOR_TASKS)):
        found[what] = ways(settings, names, options.using) if rows else ()
        if rows and not found[what]:
            using = f"--using {' or '.join(names)} looks them up"
            advice[what] = using if options.using else how_to_set_any(names)
    if advice and not any(found.values()):
        raise SettingsError("; ".join(advice.values()), code="no_key")
    for what, text in advice.items():
        say(f"{what} stay unknown: {text}")
    return _Ways(**found)


def _settle(path: Path, settings: Settings, options: Options, chosen: _Ways) -> _Found:
    folder = hold(path, now=time.time())
    found = _Found()
    try:
        asyncio.run(_look_up(folder, settings, options, chosen, found))
    except KeyboardInterrupt:
        found.code, found.trouble = codes.INTERRUPTED, "Interrupted; what was settled stands."
    except JournalError:
        folder.close()
        raise
    except UnauthorizedError as error:
        found.code, found.trouble = codes.STOPPED, f"D3 does not accept the key ({error.message})"
    except ThrottledError as error:
        found.code, found.trouble = codes.THROTTLED, error.message
    except D3Error as error:
        found.code, found.trouble = codes.SOME_UNKNOWN, error.message
    _close(folder, found)
    found.written = write_again(path)
    return found


async def _look_up(folder: RunFolder, settings: Settings, options: Options, chosen: _Ways, found: _Found) -> None:
    async with D3Client(settings) as client:
        if chosen.tasks:
            found.tasks = await reconcile_tasks(client, folder, not_found_is_failed=options.not_found_is_failed)
        if chosen.links:
            found.links = await reconcile_links(client, folder, chosen.links)


def _close(folder: RunFolder, found: _Found) -> None:
    with JournalReader(folder.folder / FILE) as reader:
        outcomes = reader.counts()
        facts = last_facts(reader.runs())
        file = reader.meta().get("input", "FILE")
    code = facts.get("exit_code")
    if code in _RECOUNTED:
        code = codes.exit_code(outcomes, None)
    command_line = facts.get("command_line") or f"d3async run {file}"
    told: dict[str, Any] = {"reconciled": {"at": time.time(), **_counts(found)}}
    told["next"] = ending.next_step(outcomes, None, command_line=command_line, folder=folder.folder, repeatable=False)
    let_go(folder, now=time.time(), exit_code=code, told=told)


def _counts(found: _Found) -> dict[str, Any]:
    return {name: asdict(counts) for name, counts in (("links", found.links), ("tasks", found.tasks)) if counts}


def _told(before: _Unknown, left: _Unknown, found: _Found) -> Mapping[str, Any]:
    return {"unknown_before": before.rows, "unknown_left": left.rows, **_counts(found)}


def _tell_start(path: Path, before: _Unknown, settings: Settings) -> None:
    counted = ((before.tasks, "task", "tasks"), (before.links, "row of links", "rows of links"))
    parts = [f"{count:,} {one if count == 1 else many}" for count, one, many in counted if count]
    parts += [f"{before.others:,} of other commands"] if before.others else []
    say(f"{path}: {', '.join(parts)} unknown; looking them up at {urlsplit(settings.base_url).hostname}")


def _tell(path: Path, before: _Unknown, left: _Unknown, found: _Found) -> None:
    if found.tasks:
        tasks = found.tasks
        say(f"  tasks   {tasks.found:,} found · {tasks.absent:,} not there · {tasks.open:,} not proven")
    if found.links:
        links = found.links
        say(f"  links   {links.gone:,} gone · {links.linked:,} still linked · {links.cannot_tell:,} not proven")
    if found.trouble:
        say(f"Stopped: {found.trouble}")
    if not before.rows:
        return
    say(f"Settled {before.rows - left.rows:,} of {before.rows:,}. {left.rows:,} left unknown.")
    with JournalReader(path / FILE) as reader:
        rows = reader.query(f"select line, label, message from job where {_UNKNOWN} order by row limit {_SHOWN}")  # noqa: S608 - as above
        next_step = last_facts(reader.runs()).get("next")
    for line, label, message in rows:
        say(f"  line {line}, {label}: {message}")
    if found.written:
        say(f"results   {found.written.results}      report  {found.written.report}")
    if next_step:
        say(f"next      {next_step}")
