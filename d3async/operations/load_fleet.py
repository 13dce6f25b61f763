"""Job files into a fleet's journal, many in one transaction; a file whose rows name profiles is a run for each."""

from __future__ import annotations

import json
import os
import pickle
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from typing import IO, TYPE_CHECKING, Any, Self

import psycopg

from d3async import __version__
from d3async.config.settings import Profiles
from d3async.errors import D3Error, JobFileError, JournalError, SettingsError
from d3async.jobs.job import Invalid, Problem
from d3async.journal.model import NOTHING_SIMILAR, Selection, Similar
from d3async.journal.postgres.connections import unreachable
from d3async.journal.postgres.look_alikes import SimilarSubmitted, lock_tenant, mean_found
from d3async.journal.postgres.submission import submission
from d3async.operations.job_file import FileCheck, open_job_file
from d3async.operations.mapping import file_lines, with_saved_mapping
from d3async.policy.next_step import READING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from d3async.config.database_urls import FleetUrl
    from d3async.config.settings import Settings
    from d3async.d3.commands import Command
    from d3async.jobs.job import Job
    from d3async.jobs.row_to_command import ProfileCheck
    from d3async.journal.postgres.submission import Submission, SubmittedRun
    from d3async.operations.job_file import OpenJobFile
    from d3async.operations.mapping import JobFileOptions
    from d3async.policy.halt_and_exit_codes import Halt
    from d3async.policy.look_alikes import Lines

_LINKS = 50
_IN_MEMORY = 1 << 16


@dataclass(frozen=True, slots=True)
class RunToSubmit:
    """One run to be: a file, the tenant it is for, its name.

    A file whose rows say whom they are for is a run a tenant, called *run*.TENANT; its own *tenant* is "" where that
    is known already.
    """

    file: Path
    tenant: str
    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How files are read and submitted; the same for all of them. *run* and *profile* are what was given."""

    job_file: JobFileOptions
    config: Path | None = None
    run: str | None = None
    profile: str | None = None
    max_links_per_call: int = _LINKS
    serial: bool = False
    halts: tuple[Halt, ...] = ()
    mark_tasks: bool = False
    retry_unknown: bool = False
    take_over: bool = False
    chunk_rows: int = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedRun:
    """What became of a run to submit. *lines* describe its file; *trouble* is why it cannot be submitted at all."""

    unit: RunToSubmit
    lines: Sequence[str] = ()
    trouble: str = ""
    file_trouble: bool = False
    rows: int = 0
    invalid: int = 0
    left_out: bool = False
    to_send: int = 0
    chunks: int = 0
    base_url: str = ""
    rate: float | None = None
    changes: Mapping[str, int] = field(default_factory=dict)
    similar: Similar = NOTHING_SIMILAR

    @property
    def good(self) -> bool:
        """Whether it can be submitted."""
        return not self.trouble and (not self.invalid or self.left_out)


class Loader:
    """One connection and one transaction. A context manager: what was not committed by its end never was."""

    def __init__(self, address: FleetUrl, how: LoadOptions) -> None:
        self._address = address
        self._how = how
        self._profiles = Profiles(config=how.config)
        try:
            self._db = psycopg.connect(address.conninfo, autocommit=True)
        except psycopg.OperationalError as error:
            raise unreachable(address, error) from None
        self._block = self._db.transaction()
        self._block.__enter__()
        self._to_send: dict[str, tuple[int, str]] = {}
        self._lines: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def commit(self) -> None:
        """Make everything hold that was loaded."""
        self._block.__exit__(None, None, None)

    def lock(self, tenant: str) -> None:
        """Let nothing else be submitted for *tenant* until this is committed. Raises `FolderHeldError`."""
        with self._translated():
            lock_tenant(self._db, tenant)

    def find(self, allowed: Lines) -> dict[str, Similar]:
        """What the rows of each run that was loaded look like, but for those on *allowed* lines."""
        with self._translated():
            ours = [run for run, _ in self._to_send.values()]
            return {
                name: SimilarSubmitted(self._db, run, base_url, ours=ours[at:]).find(allowed)
                for at, (name, (run, base_url)) in enumerate(self._to_send.items())
            }

    def allow(self) -> None:
        """The rows that `find` found are meant."""
        with self._translated():
            mean_found(self._db)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            said = self._address.mask(" ".join(str(error).split()))
            raise JournalError(f"The fleet's database {self._address} refused it: {said}", code="fleet") from None

    def load(self, unit: RunToSubmit) -> list[LoadedRun]:
        """Check the file of *unit* and bring its rows in. Raises nothing that one file is to blame for."""
        self._lines = []
        try:
            found = self._load(unit) if unit.tenant else self._load_split(unit)
        except D3Error as error:
            found = [LoadedRun(unit=unit, trouble=error.message, file_trouble=isinstance(error, JobFileError))]
        except psycopg.Error as error:
            trouble = self._address.mask(" ".join(str(error).split()))
            found = [LoadedRun(unit=unit, trouble=f"{unit.run}: the database refused it: {trouble}")]
        return [replace(found[0], lines=tuple(self._lines)), *found[1:]]

    def _load(self, unit: RunToSubmit) -> list[LoadedRun]:
        settings, now = self._profiles.settings(unit.tenant), datetime.now(UTC)
        job_file = with_saved_mapping(self._how.job_file, self._profiles.config.profile(unit.tenant))
        with (
            FileCheck() as review,
            open_job_file(unit.file, job_file, site=settings.site, now=now, need_site=True) as file,
        ):
            if not file.routed:
                return [self._submitted(unit, settings, file, review, review.watch(file))]
        return self._load_split(replace(unit, tenant=""))

    def _load_split(self, unit: RunToSubmit) -> list[LoadedRun]:
        """The runs of a file whose rows say whom they are for; rows that are left out are in none of them."""
        now, judged = datetime.now(UTC), route(self._profiles)
        with (
            FileCheck() as review,
            RowsByProfile() as split,
            open_job_file(unit.file, self._how.job_file, site="", now=now, route=judged) as file,
        ):
            for chunk in review.chunks(file):
                split.add(chunk)
            self._lines.append(f"{file.name}: {file.describe(review.rows)}, for {len(split.rows):,} tenants")
            self._lines += review.lines(sent=self._words_of_invalid)
            if not split.rows or (review.invalid and not self._how.job_file.skip_invalid):
                return [LoadedRun(unit=unit, rows=review.rows, invalid=review.invalid)]
            return [self._part(unit, tenant, file, split) for tenant in split.rows]

    def _part(self, unit: RunToSubmit, tenant: str, file: OpenJobFile, split: RowsByProfile) -> LoadedRun:
        settings, part = self._profiles.settings(tenant), RunToSubmit(unit.file, tenant, f"{unit.run}.{tenant}")
        with FileCheck() as review:
            return self._submitted(part, settings, file, review, split.jobs(tenant))

    @property
    def _words_of_invalid(self) -> str:
        return "left out" if self._how.job_file.skip_invalid else "nothing was submitted"

    def _submitted(
        self,
        unit: RunToSubmit,
        settings: Settings,
        file: OpenJobFile,
        review: FileCheck,
        entries: Iterable[Job | Invalid],
    ) -> LoadedRun:
        new = submission(self._db, unit.run, unit.tenant, now=time.time(), take_over=self._how.take_over)
        try:
            _check_same_d3(unit, new.meta(), settings)
            new.add(entries)
            for repeated in new.duplicates(allow=self._how.job_file.allow_duplicates):
                review.note(repeated)
            review.invalid = new.invalid
            self._lines += file_lines(file, new.rows, name=unit.run)
            self._lines += review.lines(sent=self._words_of_invalid)
            return self._brought_in(unit, settings, file, new)
        except BaseException:
            with suppress(psycopg.Error):
                new.abandon()
            raise

    def _brought_in(self, unit: RunToSubmit, settings: Settings, file: OpenJobFile, new: Submission) -> LoadedRun:
        how = self._how
        known = LoadedRun(unit=unit, rows=new.rows, invalid=new.invalid, base_url=settings.base_url, rate=settings.rate)
        if new.invalid and not how.job_file.skip_invalid:
            new.abandon()
            return known
        changes = new.adopt(_meta(file, settings, new.rows))
        begun = self._begun(new, unit, settings)
        new.commit()
        if begun.rows:
            self._to_send[unit.run] = (begun.run, settings.base_url)
        return replace(known, left_out=True, to_send=begun.rows, chunks=len(begun.chunks), changes=asdict(changes))

    def _begun(self, new: Submission, unit: RunToSubmit, settings: Settings) -> SubmittedRun:
        how = self._how
        begun = new.begin(
            Selection(retry_unknown=how.retry_unknown, serial=how.serial),
            now=time.time(),
            facts=_facts(unit, settings, how),
            chunk_rows=how.chunk_rows,
        )
        if how.mark_tasks or not new.new:
            new.mark_tasks(on=how.mark_tasks)
        return begun


def _options_kept(how: LoadOptions) -> dict[str, Any]:
    """The options that submitting the file again needs."""
    given = {
        **asdict(how.job_file),
        "run": how.run,
        "profile": how.profile,
        "max_links_per_call": None if how.max_links_per_call == _LINKS else how.max_links_per_call,
        "serial_by": "incident" if how.serial else None,
        "mark_tasks": how.mark_tasks,
        "halts": list(map(str, how.halts)),
    }
    names = {*READING, "run", "profile", "allow_duplicates"}
    kept = {name: value for name, value in given.items() if name in names and value not in (None, (), [], False)}
    return {**kept, **({"forgotten": ["config"]} if how.config else {})}


def _check_same_d3(unit: RunToSubmit, meta: Mapping[str, str], settings: Settings) -> None:
    before = meta.get("base_url")
    if before and before != settings.base_url:
        raise SettingsError(
            f"{unit.run} is a run against {before}, not {settings.base_url}: give it another name with --run.",
            code="other_d3",
        )


def _meta(file: OpenJobFile, settings: Settings, rows: int) -> dict[str, str]:
    return {
        "base_url": settings.base_url,
        "site": settings.site,
        "command": file.command.__name__ if file.command else "",
        "format": json.dumps(file.format.to_json()),
        "header": json.dumps(file.table.header),
        "input": file.name,
        "sha256": file.table.sha256(),
        "rows": str(rows),
    }


def _facts(unit: RunToSubmit, settings: Settings, how: LoadOptions) -> dict[str, Any]:
    return {
        "version": __version__,
        "submitted": {
            "file": os.path.abspath(unit.file),  # noqa: PTH100 - links stay as they are
            **_options_kept(how),
        },
        "settings": settings.public(),
        "links_per_call": how.max_links_per_call,
        "halts": list(map(str, how.halts)),
    }


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
