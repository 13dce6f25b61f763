"""Submit job files to a fleet: which file is for whom, check, confirm, store, queue up."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import shlex
import tempfile
from collections import Counter, defaultdict
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from typing import IO, TYPE_CHECKING, Self
from urllib.parse import urlsplit

import click

from d3async.cli.console import is_interactive, out, say
from d3async.config.database_urls import fleet_address, fleet_words, installed
from d3async.config.settings import Profiles
from d3async.errors import JobFileError, JournalError, LookAlikeError, SettingsError
from d3async.files.number_words import duration
from d3async.jobs.job import Invalid, Problem
from d3async.operations.job_file import open_job_file
from d3async.policy.halt_and_exit_codes import INTERRUPTED, INVALID_FILE, USAGE
from d3async.policy.look_alikes import ALL, Lines, described, mentioned

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from d3async.config.database_urls import FleetUrl
    from d3async.d3.commands import Command
    from d3async.jobs.job import Job
    from d3async.jobs.row_to_command import ProfileCheck
    from d3async.operations.load_fleet import LoadedRun, LoaderProcesses, LoadOptions, LocalLoader, RunToSubmit
    from d3async.operations.mapping import JobFileOptions
    from d3async.policy.halt_and_exit_codes import Halt

_FEW = 5
_LARGE = 50_000
_MANY_TROUBLES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitOptions:
    """The options of `submit` beside those of the job file."""

    profile: str | None = None
    config: Path | None = None
    name: str | None = None
    max_links_per_call: int = 50
    serial_by: str | None = None
    halts: Sequence[Halt] = ()
    mark_tasks: bool = False
    retry_unknown: bool = False
    take_over: bool = False
    allow_similar: Lines = field(default_factory=Lines)
    chunk_rows: int = 2000
    processes: int | None = None
    dry_run: bool = False
    as_json: bool = False
    yes: bool = False


def submit(files: Sequence[Path], fleet: str | None, job_file: JobFileOptions, options: SubmitOptions) -> int:
    """Submit *files* and return the exit code. Raises `SettingsError`, `JobFileError`, `JournalError`."""
    address = fleet_address(fleet)
    _sure_about_unknown(options)
    if options.allow_similar.ranges and len(files) > 1:
        raise SettingsError(
            "--allow-similar with lines speaks of one file: give one FILE with it, or --allow-similar all.",
            code="option",
        )
    with installed():
        from d3async.operations.load_fleet import RunToSubmit  # noqa: PLC0415 - psycopg, for those who have a fleet

        units = [RunToSubmit(file, tenant, run) for file, tenant, run in _units(files, job_file, options)]
        loaded, code = _bring_in(units, address, _how(job_file, options), options)
    if code:
        return code
    if options.as_json:
        out(json.dumps(_told(loaded, dry_run=options.dry_run), ensure_ascii=False))
    _say_end(loaded, fleet_words(fleet, address), options)
    return 0


def _how(job_file: JobFileOptions, options: SubmitOptions) -> LoadOptions:
    from d3async.operations.load_fleet import LoadOptions  # noqa: PLC0415 - as above

    return LoadOptions(
        job_file=job_file,
        config=options.config,
        run=options.name,
        profile=options.profile,
        max_links_per_call=options.max_links_per_call,
        serial=options.serial_by is not None,
        halts=tuple(options.halts),
        mark_tasks=options.mark_tasks,
        retry_unknown=options.retry_unknown,
        take_over=options.take_over,
        chunk_rows=options.chunk_rows,
    )


def _units(files: Sequence[Path], job_file: JobFileOptions, options: SubmitOptions) -> list[tuple[Path, str, str]]:
    """(file, tenant, run) of each file. Raises `SettingsError` for all files that cannot be placed at once."""
    if options.name and len(files) > 1:
        raise SettingsError("--run names one run: give one FILE with it.", code="option")
    if any(str(file) == "-" for file in files):
        raise SettingsError("A fleet reads files, not stdin: give a FILE, whose name the run gets.", code="option")
    profiles = Profiles(config=options.config)
    chosen = options.profile or os.environ.get("D3_PROFILE", "").strip()
    # of a file that is called like a profile, the process that reads it finds out
    unsure = [file for file in files if chosen or not profiles.has(file.stem)]
    split = {file for file in unsure if _says_whom(file, job_file)}
    if split and chosen:
        message = f"{min(split)} has a profile column, which says whom its rows are for: leave --profile out."
        raise SettingsError(message, code="tenant")
    units = [(file, "" if file in split else chosen or file.stem, options.name or file.stem) for file in files]
    strange = [unit for unit in units if unit[1] and not profiles.has(unit[1])]
    if strange:
        raise SettingsError(_no_tenant(strange, profiles, chosen), code="tenant")
    twice = [run for run, count in Counter(run for _, _, run in units).items() if count > 1]
    if twice:
        raise SettingsError(f'Two files would be the run "{twice[0]}": submit one of them with --run NAME.', code="run")
    return units


def _says_whom(file: Path, job_file: JobFileOptions) -> bool:
    """Whether the rows of *file* may name profiles; what is wrong with the file is told when it is read."""
    try:
        with open_job_file(file, job_file, site="", now=datetime.now(UTC)) as examined:
            return examined.routed
    except JobFileError:
        return False


def _no_tenant(strange: Sequence[tuple[Path, str, str]], profiles: Profiles, chosen: str) -> str:
    path = profiles.config.path
    if chosen:
        near = profiles.like(chosen)
        return f'There is no profile "{chosen}" in {path}' + (f'; was "{near}" meant?' if near else "")
    names = ", ".join(str(file) for file, _, _ in strange[:_MANY_TROUBLES])
    more = f" and {len(strange) - _MANY_TROUBLES:,} more" if len(strange) > _MANY_TROUBLES else ""
    near = profiles.like(strange[0][1])
    meant = f' (is {strange[0][0]} for "{near}"?)' if near else ""
    return (
        f"Whom are these for: {names}{more}? No profile in {path} is called like them{meant}. "
        "Give --profile NAME, or call a file like the profile it is for."
    )


def _bring_in(
    units: Sequence[RunToSubmit], address: FleetUrl, how: LoadOptions, options: SubmitOptions
) -> tuple[list[LoadedRun], int]:
    """What became of *units*, in their order, and the exit code if it ends here."""
    from d3async.operations.load_fleet import open_loader  # noqa: PLC0415 - as above

    found: dict[Path, list[LoadedRun]] = {}

    def done(loaded: list[LoadedRun]) -> None:
        found[loaded[0].unit.file] = loaded
        for one in loaded:
            _say_file(one, few=len(units) <= _FEW and len(loaded) <= _FEW)

    groups = _of_one_tenant(units)
    with open_loader(address, how, groups=len(groups), processes=options.processes) as loader:
        # while the processes of the loader start
        _prepare(address)
        loader.load(groups, done)
        if not loader.apart:
            return _checked_and_committed(loader, [one for unit in units for one in found[unit.file]], address, options)
    # a file that is called like a profile has rows for others too: one process has to see them all
    return _bring_in(units, address, how, replace(options, processes=1))


def _of_one_tenant(units: Sequence[RunToSubmit]) -> list[list[RunToSubmit]]:
    """*units* in groups for one process each, which compares their rows with each other.

    The largest come first: none of them is begun when all others are done.
    """
    groups: dict[str, list[RunToSubmit]] = {}
    for unit in units:
        groups.setdefault(unit.tenant, []).append(unit)
    return sorted(groups.values(), key=lambda group: -sum(map(_size, group)))


def _size(unit: RunToSubmit) -> int:
    return unit.file.stat().st_size if unit.file.is_file() else 0


def _checked_and_committed(
    loader: LocalLoader | LoaderProcesses, loaded: list[LoadedRun], address: FleetUrl, options: SubmitOptions
) -> tuple[list[LoadedRun], int]:
    code = _trouble_code(loaded)
    if code:
        return loaded, code
    sending = {one.unit.tenant for one in loaded if one.to_send}
    looks = loader.look(sending, options.allow_similar)
    loaded = [replace(one, similar=looks.get(one.unit.run, one.similar)) for one in loaded]
    _say_mentioned(loaded)
    if options.dry_run:
        _meant(loaded, ask=False)
        return loaded, 0
    if not (_meant(loaded, ask=not options.yes) and _agreed(loaded, options)):
        say("Nothing was submitted.")
        return loaded, INTERRUPTED
    loader.allow()
    loader.commit()
    asyncio.run(_queue_up(address, [one.unit.tenant for one in loaded if one.to_send]))
    if sum(one.rows for one in loaded) >= _LARGE:
        from d3async.journal.postgres.connections import update_statistics  # noqa: PLC0415 - as above

        with suppress(JournalError):
            update_statistics(address)
    return loaded, 0


def _prepare(address: FleetUrl) -> None:
    from d3async.fleet.queue import prepare  # noqa: PLC0415 - procrastinate, for those who have a fleet

    asyncio.run(prepare(address))


async def _queue_up(address: FleetUrl, tenants: Sequence[str]) -> None:
    """Put *tenants* into the queue. Where this does not happen any more, a worker finds their chunks by itself."""
    from d3async.fleet import queue  # noqa: PLC0415 - as above

    async with queue.opened(address) as (app, _):
        await queue.defer(app, tenants)


def _say_file(loaded: LoadedRun, *, few: bool) -> None:
    if few or loaded.invalid:
        for line in loaded.told.splitlines():
            say(line)
    if loaded.trouble:
        say(f"{loaded.unit.file}: {loaded.trouble.removeprefix(f'{loaded.unit.file.name}: ')}")
    elif loaded.good and few:
        say(f"  for {loaded.unit.tenant} at {urlsplit(loaded.base_url).hostname}: {_work_words(loaded)}")


def _work_words(loaded: LoadedRun) -> str:
    changes = loaded.changes
    before = changes["same"] + changes["changed"] + changes["changed_after_ok"] + changes["changed_in_doubt"]
    otherwise = f", {changes['read_otherwise']:,} done as read then" if changes["read_otherwise"] else ""
    rerun = f" ({changes['new']:,} new, {before:,} known from before{otherwise})" if before else ""
    rate = 0.98 * loaded.rate if loaded.rate else None
    pace = f", about {duration(loaded.to_send / rate)} at {rate:.0f} requests/s" if rate and loaded.to_send else ""
    return f"{loaded.to_send:,} rows to send{rerun}{pace}"


def _trouble_code(loaded: Sequence[LoadedRun]) -> int:
    bad = [one for one in loaded if not one.good]
    if not bad:
        return 0
    say(f"\nNothing was submitted: {len(bad):,} of {_count(len(loaded), 'file')} cannot be.")
    rows = [one for one in bad if one.invalid]
    if rows:
        unit = rows[0].unit
        profile = f" --profile {shlex.quote(unit.tenant)}" if unit.tenant else ""
        say(f"every problem of one file: d3async check {shlex.quote(str(unit.file))}{profile}")
    return INVALID_FILE if rows else USAGE


def _say_mentioned(loaded: Sequence[LoadedRun]) -> None:
    for one in loaded:
        for line in mentioned(one.similar.other_day, one.similar.other_name):
            say(f"{one.unit.run}: {line}")


def _meant(loaded: Sequence[LoadedRun], *, ask: bool) -> bool:
    """Whether rows that look like others are meant. Raises `LookAlikeError` where nobody can be asked."""
    similar = [one for one in loaded if one.similar.count]
    if not similar:
        return True
    told = "\n".join(_similar_words(similar, loaded))
    if not (ask and is_interactive()):
        pairs = [pair for one in similar for pair in one.similar.pairs]
        count = sum(one.similar.count for one in similar)
        raise LookAlikeError(f"Nothing was submitted. {told}", pairs=pairs, count=count)
    say(told)
    return bool(click.confirm("Submit them all the same? They may then be in D3 twice.", err=True))


def _similar_words(similar: Sequence[LoadedRun], loaded: Sequence[LoadedRun]) -> Iterator[str]:
    one_file = len({one.unit.file for one in loaded}) == 1
    for one in similar[:_FEW]:
        found = one.similar
        first, *more = described(found.pairs, found.count, found.lines if one_file else ALL)
        yield first if len(loaded) == 1 else f"{one.unit.run}: {first}"
        yield from more
    if len(similar) > _FEW:
        yield f"and rows of {_count(len(similar) - _FEW, 'more run')}"


def _sure_about_unknown(options: SubmitOptions) -> None:
    if options.retry_unknown and not options.yes and not is_interactive():
        raise SettingsError(
            "--retry-unknown sends rows that may exist in D3 already; to confirm it, add --yes.", code="confirm"
        )


def _agreed(loaded: Sequence[LoadedRun], options: SubmitOptions) -> bool:
    rows = sum(one.to_send for one in loaded)
    if options.yes or not rows or not is_interactive():
        return True
    risk = ", unknown rows among them" if options.retry_unknown else ""
    tenants = len({one.unit.tenant for one in loaded})
    return bool(click.confirm(f"Submit {rows:,} rows{risk} for {tenants:,} tenants?", err=True))


def _told(loaded: Sequence[LoadedRun], *, dry_run: bool) -> dict[str, object]:
    return {
        "submitted": not dry_run,
        "rows": sum(one.rows for one in loaded),
        "to_send": sum(one.to_send for one in loaded),
        "runs": [
            {
                "run": one.unit.run, "tenant": one.unit.tenant, "file": str(one.unit.file), "base_url": one.base_url,
                "rows": one.rows, "invalid": one.invalid, "to_send": one.to_send, "chunks": one.chunks,
                "changes": dict(one.changes),
            }
            for one in loaded
        ],
    }  # fmt: skip


def _say_end(loaded: Sequence[LoadedRun], where: str, options: SubmitOptions) -> None:
    rows, chunks = sum(one.to_send for one in loaded), sum(one.chunks for one in loaded)
    tenants = len({one.unit.tenant for one in loaded})
    counts = f"{_count(len(loaded), 'run')} for {_count(tenants, 'tenant')}, {_count(rows, 'row')} to send"
    counts += f" in {_count(chunks, 'chunk')}"
    if options.dry_run:
        say(f"Would be submitted: {counts}. Nothing was.")
        return
    say(f"Submitted: {counts}.")
    run = loaded[0].unit.run
    say(f"to send it  d3async worker{where}        (on any machine, as many as you like)")
    say(f"to follow   d3async status{where}")
    say(f"results     d3async results {run}{where} -o {run}.results.csv")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


_IN_MEMORY = 1 << 16


class RowsByProfile:
    """Takes jobs, gives those of one profile back, numbered from 1. A context manager: nothing of it stays."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self._open = ExitStack()
        self._spools: dict[str, IO[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add(self, entries: Iterable[Job | Invalid]) -> None:
        """Keep the jobs among *entries*; each names a profile."""
        by_profile: defaultdict[str, list[Job]] = defaultdict(list)
        for entry in entries:
            if not isinstance(entry, Invalid):
                by_profile[entry.profile or ""].append(entry)
        for profile, jobs in by_profile.items():
            self.rows[profile] += len(jobs)
            pickle.dump(jobs, self._spool(profile), pickle.HIGHEST_PROTOCOL)

    def _spool(self, profile: str) -> IO[bytes]:
        if profile not in self._spools:
            spool = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed with all others
            self._spools[profile] = self._open.enter_context(spool)
        return self._spools[profile]

    def jobs(self, profile: str) -> Iterator[Job]:
        """The jobs of *profile* in the order they came."""
        spool, numbers = self._spools[profile], count(1)
        spool.seek(0)
        while True:
            try:
                # what this very process has written
                jobs = pickle.load(spool)  # noqa: S301
            except EOFError:
                return
            for job in jobs:
                yield job._replace(row=next(numbers), profile=None)


def route(profiles: Profiles) -> ProfileCheck:
    """What judges the profiles that rows name; a key is not asked for, workers have it."""
    known: dict[str, str | Problem] = {}

    def judged(profile: str, command: type[Command]) -> str | Problem:  # noqa: ARG001 - the signature of a route
        if profile not in known:
            known[profile] = _judged(profile, profiles)
        return known[profile]

    return judged


def _judged(profile: str, profiles: Profiles) -> str | Problem:
    if not profile:
        return Problem("profile", "", "", "is empty", "name the profile the row is for")
    if not profiles.has(profile):
        like = profiles.like(profile)
        return Problem(
            "profile", "", "", f"is no profile of {profiles.config.path}", f'is "{like}" meant?' if like else ""
        )
    try:
        return profiles.settings(profile).site
    except SettingsError as error:
        return Problem("profile", "", "", f"cannot be used: {error.message}")
