"""One `reconcile`: look up, settle, write the files again, tell what is known now."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from d3async.cli.console import out, say
from d3async.cli.homes import known_homes
from d3async.cli.servers import name_of
from d3async.cli.settled import tell_counts
from d3async.cli.ways import FOR_LINKS, FOR_TASKS, how_to_set_any, ways
from d3async.client import D3Client
from d3async.connect import host_limiter
from d3async.errors import D3Error, JournalError, SettingsError, ThrottledError, UnauthorizedError
from d3async.files.suggestions import suggest, suggested_lines
from d3async.files.summary import last_facts
from d3async.files.write import write_again
from d3async.journal.read import FILE, JournalReader
from d3async.journal.reconcile import UnknownRows, hold, let_go
from d3async.journal.session import FolderSession
from d3async.readback import reconcile_links, reconcile_tasks
from d3async.sansio import exit_code as codes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from d3async.cli.servers import Servers
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
class _Asked:
    """One D3, and the commands to read links and tasks with; none where nothing of that kind is looked up."""

    profile: str | None
    settings: Settings
    links: Sequence[str]
    tasks: Sequence[str]
    advice: str
    """What would make more of it known; "" where nothing is missing."""


@dataclass(slots=True)
class _Found:
    """What came of it; *code* says why it ended early, if it did, *troubles* in words."""

    links: LinkCounts | None = None
    tasks: TaskCounts | None = None
    code: int = codes.OK
    troubles: list[str] = field(default_factory=list)
    written: Written | None = None


def reconcile(path: Path, servers: Servers, options: Options) -> int:
    """Settle what can be settled in the run folder *path*; the exit code.

    Raises `SettingsError` and `JournalError`, `FolderHeldError` among them.
    """
    unknown = _unknown(path)
    before = _sum(unknown)
    if not before.rows:
        say(f"{path}: no row is unknown.")
    asked = _asked(path, unknown, servers, options)
    found = _Found()
    if any(at.links or at.tasks for at in asked):
        _tell_start(path, before, asked)
        found = _settle(path, options, asked)
    left = _sum(_unknown(path))
    _tell(path, before, left, found)
    if options.as_json:
        out(json.dumps(_told(before, left, found)))
    return found.code or (codes.SOME_UNKNOWN if left.rows else codes.OK)


def _unknown(path: Path) -> dict[str | None, _Unknown]:
    """What is unknown at each D3; None is that of rows without a profile."""
    found: dict[str | None, dict[str, int]] = {}
    with JournalReader(path / FILE) as reader:
        profile = "profile" if reader.meta().get("profiles") else "null"
        asked = f"select {profile}, command, count(*) from job where {_UNKNOWN} group by 1, 2"  # noqa: S608 - our own words
        for name, command, count in reader.query(asked):
            found.setdefault(name, {})[command] = count
    return {
        name: _Unknown(counts.pop("CreateTask", 0), counts.pop("RemoveLinkedIncidents", 0), sum(counts.values()))
        for name, counts in found.items()
    }


def _sum(unknown: Mapping[str | None, _Unknown]) -> _Unknown:
    every = unknown.values()
    return _Unknown(sum(one.tasks for one in every), sum(one.links for one in every), sum(one.others for one in every))


def _asked(path: Path, unknown: Mapping[str | None, _Unknown], servers: Servers, options: Options) -> list[_Asked]:
    """The D3s to look into, and what with. Raises `SettingsError` when nothing can be looked up at all."""
    with JournalReader(path / FILE) as reader:
        meta = reader.meta()
    homes: dict[str | None, str | None] = {name: home["base_url"] for name, home in known_homes(meta).items()}
    homes[None] = meta.get("base_url")
    asked, troubles = [], []
    for profile, what in unknown.items():
        try:
            settings = _settings_at(path, homes.get(profile), servers.of(profile))
        except SettingsError as error:
            if len(unknown) == 1:
                raise
            troubles.append(f"{name_of(profile)}: {error.message}")
        else:
            asked.append(_ways_at(profile, what, settings, options))
    troubles += dict.fromkeys(at.advice for at in asked if at.advice and not (at.links or at.tasks))
    if troubles and not any(at.links or at.tasks for at in asked):
        by_hand = f"or look in D3 yourself, then: d3async settle {path} ok|failed ROWS"
        raise SettingsError("; ".join([*troubles, by_hand]), code="no_key")
    for trouble in troubles:
        say(f"{trouble}: its rows stay unknown")
    return asked


def _settings_at(path: Path, home: str | None, settings: Settings) -> Settings:
    """*settings*, if they lead to *home*. Raises `SettingsError`."""
    if home and home != settings.base_url:
        message = f"{path} holds a run against {home}, not {settings.base_url}: what that D3 holds proves nothing."
        raise SettingsError(message, code="other_d3")
    return settings


def _ways_at(profile: str | None, unknown: _Unknown, settings: Settings, options: Options) -> _Asked:
    found, advice = {}, {}
    for what, rows, names in (("links", unknown.links, FOR_LINKS), ("tasks", unknown.tasks, FOR_TASKS)):
        found[what] = ways(settings, names, options.using) if rows else ()
        if rows and not found[what]:
            using = f"--using {' or '.join(names)} looks them up"
            advice[what] = using if options.using else how_to_set_any(names)
    name = "" if profile is None else f"{profile}: "
    if any(found.values()):
        for what, text in advice.items():
            say(f"{name}{what} stay unknown: {text}")
    return _Asked(profile, settings, **found, advice="; ".join(name + text for text in advice.values()))


def _settle(path: Path, options: Options, asked: Sequence[_Asked]) -> _Found:
    folder = hold(path, now=time.time())
    found = _Found()
    with closing(folder):
        try:
            asyncio.run(_look_everywhere(folder, options, asked, found))
        except KeyboardInterrupt:
            found.code = codes.INTERRUPTED
            found.troubles.append("Interrupted; what was settled stands.")
        _end(folder, found)
    found.written = write_again(path)
    return found


async def _look_everywhere(folder: RunFolder, options: Options, asked: Sequence[_Asked], found: _Found) -> None:
    """One D3 after the other: what is found is written down without waiting for anybody."""
    for at in asked:
        name = "" if len(asked) == 1 else f"{name_of(at.profile)}: "
        try:
            await _look_up(folder, options, at, found)
        except JournalError:
            raise
        except D3Error as error:
            code, trouble = _trouble(error)
            found.code = max(found.code, code)
            found.troubles.append(name + trouble)


def _trouble(error: D3Error) -> tuple[int, str]:
    """The exit code and the words of what ended the look into one D3."""
    if isinstance(error, UnauthorizedError):
        return codes.STOPPED, f"D3 does not accept the key ({error.message})"
    return codes.THROTTLED if isinstance(error, ThrottledError) else codes.SOME_UNKNOWN, error.message


async def _look_up(folder: RunFolder, options: Options, at: _Asked, found: _Found) -> None:
    rows = UnknownRows(FolderSession(folder), at.profile)
    async with D3Client(at.settings, limiter=host_limiter(at.settings, say)) as client:
        if at.tasks:
            tasks = await reconcile_tasks(client, rows, not_found_is_failed=options.not_found_is_failed)
            found.tasks = tasks if found.tasks is None else found.tasks + tasks
        if at.links:
            links = await reconcile_links(client, rows, at.links)
            found.links = links if found.links is None else found.links + links


def _end(folder: RunFolder, found: _Found) -> None:
    outcomes = folder.settle_leftovers()
    with JournalReader(folder.folder / FILE) as reader:
        facts = last_facts(reader.runs())
    code = facts.get("exit_code")
    if code in _RECOUNTED:
        code = codes.exit_code(outcomes, None)
    looked = {"at": time.time(), "ended_early": bool(found.troubles), **_counts(found)}
    told: dict[str, Any] = {"reconciled": looked}
    let_go(folder, now=time.time(), exit_code=code, told=told)


def _counts(found: _Found) -> dict[str, Any]:
    return {name: asdict(counts) for name, counts in (("links", found.links), ("tasks", found.tasks)) if counts}


def _told(before: _Unknown, left: _Unknown, found: _Found) -> Mapping[str, Any]:
    return {"unknown_before": before.rows, "unknown_left": left.rows, **_counts(found)}


def _tell_start(path: Path, before: _Unknown, asked: Sequence[_Asked]) -> None:
    counted = ((before.tasks, "task", "tasks"), (before.links, "row of links", "rows of links"))
    parts = [f"{count:,} {one if count == 1 else many}" for count, one, many in counted if count]
    parts += [f"{before.others:,} of other commands"] if before.others else []
    where = urlsplit(asked[0].settings.base_url).hostname if len(asked) == 1 else f"{len(asked):,} servers"
    say(f"{path}: {', '.join(parts)} unknown; looking them up at {where}")


def _tell(path: Path, before: _Unknown, left: _Unknown, found: _Found) -> None:
    tell_counts(found.tasks, found.links)
    for trouble in found.troubles:
        say(f"Stopped: {trouble}")
    if not before.rows:
        return
    say(f"Settled {before.rows - left.rows:,} of {before.rows:,}. {left.rows:,} left unknown.")
    with JournalReader(path / FILE) as reader:
        rows = reader.query(f"select line, label, message from job where {_UNKNOWN} order by row limit {_SHOWN}")  # noqa: S608 - as above
        steps = suggested_lines(suggest(reader, last_facts(reader.runs())))
    for line, label, message in rows:
        say(f"  line {line}, {label}: {message}")
    if found.written:
        say(f"results   {found.written.results}      report  {found.written.report}")
    for label, text in steps:
        say(f"{label:<9} {text}")
