"""Submit job files to a fleet: which file is for whom, check, confirm, store, queue up."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from d3async.config.settings import Profiles
from d3async.errors import JobFileError, JournalError, LookAlikeError, SettingsError
from d3async.files.number_format import duration
from d3async.operations.job_file import open_job_file
from d3async.operations.observer import SubmitRows, SubmitSimilarRows
from d3async.policy.halt_and_exit_codes import INTERRUPTED, INVALID_FILE, OK, USAGE
from d3async.policy.look_alikes import ALL, Lines, described, mentioned

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from d3async.config.database_urls import FleetUrl
    from d3async.operations.load_fleet import LoadedRun, LoadOptions, RunToSubmit
    from d3async.operations.loader_processes import LoaderProcesses, LocalLoader
    from d3async.operations.mapping import JobFileOptions
    from d3async.operations.observer import AskingObserver
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


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """The runs that were submitted, or would be; *exit_code* says that none was where it is not 0."""

    exit_code: int
    runs: Sequence[LoadedRun]


def submit(
    files: Sequence[Path],
    address: FleetUrl,
    job_file: JobFileOptions,
    options: SubmitOptions,
    observer: AskingObserver,
) -> SubmitResult:
    """Check *files* and put them into the fleet's database, all or none.

    Raises `SettingsError`, `JobFileError`, `JournalError`, and `LookAlikeError` where no one can be asked.
    """
    from d3async.operations.load_fleet import RunToSubmit  # noqa: PLC0415 - psycopg, for those who have a fleet

    if options.allow_similar.ranges and len(files) > 1:
        raise SettingsError(
            "--allow-similar with lines speaks of one file: give one FILE with it, or --allow-similar all.",
            code="option",
        )
    units = [RunToSubmit(file, tenant, run) for file, tenant, run in _units(files, job_file, options)]
    return _Submission(address, _how(job_file, options), options, observer).bring_in(units)


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
    """Whether the rows of *file* may name profiles; what is wrong with the file is found when it is read."""
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


class _Submission:
    """Files on their way into the fleet's database."""

    def __init__(self, address: FleetUrl, how: LoadOptions, options: SubmitOptions, observer: AskingObserver) -> None:
        self._address = address
        self._how = how
        self._options = options
        self._observer = observer

    def bring_in(self, units: Sequence[RunToSubmit], *, processes: int | None = None) -> SubmitResult:
        """What became of *units*, in their order."""
        from d3async.operations.loader_processes import open_loader  # noqa: PLC0415 - as above

        found: dict[Path, list[LoadedRun]] = {}

        def done(loaded: list[LoadedRun]) -> None:
            found[loaded[0].unit.file] = loaded
            for one in loaded:
                for line in _file_lines(one, few=len(units) <= _FEW and len(loaded) <= _FEW):
                    self._observer.message(line)

        groups = _of_one_tenant(units)
        processes = processes or self._options.processes
        with open_loader(self._address, self._how, groups=len(groups), processes=processes) as loader:
            # while the processes of the loader start
            _prepare(self._address)
            loader.load(groups, done)
            if not loader.apart:
                return self._commit(loader, [one for unit in units for one in found[unit.file]])
        # a file that is called like a profile has rows for others too: one process has to see them all
        return self.bring_in(units, processes=1)

    def _commit(self, loader: LocalLoader | LoaderProcesses, loaded: list[LoadedRun]) -> SubmitResult:
        """Check *loaded* against what was sent, ask, make it hold, queue it up."""
        if bad := [one for one in loaded if not one.good]:
            for line in _trouble_lines(loaded, bad):
                self._observer.message(line)
            return SubmitResult(INVALID_FILE if any(one.invalid for one in bad) else USAGE, loaded)
        sending = {one.unit.tenant for one in loaded if one.to_send}
        looks = loader.look(sending, self._options.allow_similar)
        loaded = [replace(one, similar=looks.get(one.unit.run, one.similar)) for one in loaded]
        for one in loaded:
            for line in mentioned(one.similar.other_day, one.similar.other_name):
                self._observer.message(f"{one.unit.run}: {line}")
        if self._options.dry_run:
            self._check_meant(loaded, ask=False)
            return SubmitResult(OK, loaded)
        if not (self._check_meant(loaded, ask=True) and self._agreed(loaded)):
            self._observer.message("Nothing was submitted.")
            return SubmitResult(INTERRUPTED, loaded)
        loader.allow()
        loader.commit()
        self._queue_up(loaded)
        return SubmitResult(OK, loaded)

    def _queue_up(self, loaded: Sequence[LoadedRun]) -> None:
        from d3async.journal.postgres.connections import update_statistics  # noqa: PLC0415 - as above

        asyncio.run(_queue_up(self._address, [one.unit.tenant for one in loaded if one.to_send]))
        if sum(one.rows for one in loaded) >= _LARGE:
            with suppress(JournalError):
                update_statistics(self._address)

    def _check_meant(self, loaded: Sequence[LoadedRun], *, ask: bool) -> bool:
        """Whether rows that look like others are meant. Raises `LookAlikeError` where no one can be asked."""
        similar = [one for one in loaded if one.similar.count]
        if not similar:
            return True
        text = "\n".join(_similar_words(similar, loaded))
        agreed = self._observer.confirm(SubmitSimilarRows(text)) if ask else None
        if agreed is None:
            pairs = [pair for one in similar for pair in one.similar.pairs]
            count = sum(one.similar.count for one in similar)
            raise LookAlikeError(f"Nothing was submitted. {text}", pairs=pairs, count=count)
        return agreed

    def _agreed(self, loaded: Sequence[LoadedRun]) -> bool:
        rows = sum(one.to_send for one in loaded)
        tenants = len({one.unit.tenant for one in loaded})
        question = SubmitRows(rows, tenants, with_unknown=self._options.retry_unknown)
        return not rows or self._observer.confirm(question) is not False


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


def _prepare(address: FleetUrl) -> None:
    from d3async.fleet.queue import prepare  # noqa: PLC0415 - procrastinate, for those who have a fleet

    asyncio.run(prepare(address))


async def _queue_up(address: FleetUrl, tenants: Sequence[str]) -> None:
    """Put *tenants* into the queue. Where this does not happen any more, a worker finds their chunks by itself."""
    from d3async.fleet import queue  # noqa: PLC0415 - as above

    async with queue.opened(address) as (app, _):
        await queue.defer(app, tenants)


def _file_lines(loaded: LoadedRun, *, few: bool) -> Iterator[str]:
    if few or loaded.invalid:
        yield from loaded.lines
    if loaded.trouble:
        yield f"{loaded.unit.file}: {loaded.trouble.removeprefix(f'{loaded.unit.file.name}: ')}"
    elif loaded.good and few:
        yield f"  for {loaded.unit.tenant} at {urlsplit(loaded.base_url).hostname}: {_work_words(loaded)}"


def _work_words(loaded: LoadedRun) -> str:
    changes = loaded.changes
    before = changes["same"] + changes["changed"] + changes["changed_after_ok"] + changes["changed_in_doubt"]
    otherwise = f", {changes['read_otherwise']:,} done as read then" if changes["read_otherwise"] else ""
    rerun = f" ({changes['new']:,} new, {before:,} known from before{otherwise})" if before else ""
    rate = 0.98 * loaded.rate if loaded.rate else None
    pace = f", about {duration(loaded.to_send / rate)} at {rate:.0f} requests/s" if rate and loaded.to_send else ""
    return f"{loaded.to_send:,} rows to send{rerun}{pace}"


def _trouble_lines(loaded: Sequence[LoadedRun], bad: Sequence[LoadedRun]) -> Iterator[str]:
    yield f"\nNothing was submitted: {len(bad):,} of {_count(len(loaded), 'file')} cannot be."
    unit = next((one.unit for one in bad if one.invalid), None)
    if unit is not None:
        profile = f" --profile {shlex.quote(unit.tenant)}" if unit.tenant else ""
        yield f"every problem of one file: d3async check {shlex.quote(str(unit.file))}{profile}"


def _similar_words(similar: Sequence[LoadedRun], loaded: Sequence[LoadedRun]) -> Iterator[str]:
    one_file = len({one.unit.file for one in loaded}) == 1
    for one in similar[:_FEW]:
        found = one.similar
        first, *more = described(found.pairs, found.count, found.lines if one_file else ALL)
        yield first if len(loaded) == 1 else f"{one.unit.run}: {first}"
        yield from more
    if len(similar) > _FEW:
        yield f"and rows of {_count(len(similar) - _FEW, 'more run')}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
