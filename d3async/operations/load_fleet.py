"""Job files into the fleet's journal, in processes side by side."""

from __future__ import annotations

import gc
import io
import json
import multiprocessing
import os
import sys
import time
from collections import deque
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, Self

import psycopg

from d3async import __version__
from d3async.cli.console import say, say_all
from d3async.config.settings import Profiles
from d3async.errors import D3Error, JobFileError, JournalError, SettingsError
from d3async.journal.model import NOTHING_SIMILAR, Selection, Similar
from d3async.journal.postgres.connections import unreachable
from d3async.journal.postgres.look_alikes import SimilarSubmitted, lock_tenant, mean_found
from d3async.journal.postgres.submission import submission
from d3async.operations.job_file import FileCheck, open_job_file
from d3async.operations.mapping import file_lines, with_saved_mapping
from d3async.operations.submit import RowsByProfile, route
from d3async.policy.next_step import READING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path

    from d3async.config.database_urls import FleetUrl
    from d3async.config.settings import Settings
    from d3async.jobs.job import Invalid, Job
    from d3async.journal.postgres.submission import Submission, SubmittedRun
    from d3async.operations.job_file import OpenJobFile
    from d3async.operations.mapping import JobFileOptions
    from d3async.policy.halt_and_exit_codes import Halt
    from d3async.policy.look_alikes import Lines

_LINKS = 50


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
    """What became of a unit. *told* is what is to be said of its file; *trouble* why it cannot be submitted at all."""

    unit: RunToSubmit
    told: str = ""
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
        with redirect_stderr(io.StringIO()) as said:
            try:
                found = self._load(unit) if unit.tenant else self._load_split(unit)
            except D3Error as error:
                found = [LoadedRun(unit=unit, trouble=error.message, file_trouble=isinstance(error, JobFileError))]
            except psycopg.Error as error:
                trouble = self._address.mask(" ".join(str(error).split()))
                found = [LoadedRun(unit=unit, trouble=f"{unit.run}: the database refused it: {trouble}")]
        return [replace(found[0], told=said.getvalue()), *found[1:]]

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
            say(f"{file.name}: {file.describe(review.rows)}, for {len(split.rows):,} tenants")
            say_all(review.lines(sent=self._words_of_invalid))
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
            say_all(file_lines(file, new.rows, name=unit.run))
            say_all(review.lines(sent=self._words_of_invalid))
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


class LocalLoader:
    """Reads in this process."""

    apart = False

    def __init__(self, address: FleetUrl, how: LoadOptions) -> None:
        self._loader = Loader(address, how)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._loader.__exit__()

    def load(self, groups: Sequence[Sequence[RunToSubmit]], done: Callable[[list[LoadedRun]], None]) -> None:
        """Load the files of *groups*; *done* hears of each."""
        for unit in chain.from_iterable(groups):
            done(self._loader.load(unit))

    def look(self, tenants: Iterable[str], allowed: Lines) -> dict[str, Similar]:
        """What the rows of each run look like; nothing else is submitted for *tenants* until the end."""
        for tenant in sorted(tenants):
            self._loader.lock(tenant)
        return self._loader.find(allowed)

    def allow(self) -> None:
        """What was found is meant."""
        self._loader.allow()

    def commit(self) -> None:
        """Make it hold."""
        self._loader.commit()


class LoaderProcesses:
    """Reads in *count* processes, each with a transaction of its own; these are committed one right after the other.

    A context manager: leaving it ends the processes, and undoes what was not committed.
    """

    def __init__(self, address: FleetUrl, how: LoadOptions, count: int) -> None:
        # not forked: a copy of this process would share its connections
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection[Any, Any]] = []
        self._processes = []
        self._readers: dict[str, set[Connection[Any, Any]]] = {}
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_child, args=(theirs, address.url.reveal(), how), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            # on an error they may still wait for the database, and nothing of what they did is to hold
            process.join(5 if kind is None else 0)
            if process.is_alive():
                process.terminate()

    def load(self, groups: Sequence[Sequence[RunToSubmit]], done: Callable[[list[LoadedRun]], None]) -> None:
        """Load the files of *groups*, each of them in one process; *done* hears of each file, as they are ready.

        Raises what a process cannot go on from.
        """
        waiting = deque(groups)
        given: dict[Any, deque[RunToSubmit]] = {}
        busy: list[Any] = []
        for pipe in self._pipes[: len(waiting)]:
            given[pipe] = deque(waiting.popleft())
            pipe.send(("load", given[pipe].popleft()))
            busy.append(pipe)
        while busy:
            ready = wait(busy)
            for pipe in [pipe for pipe in busy if pipe in ready]:
                loaded = _received(pipe)
                for one in loaded:
                    self._readers.setdefault(one.unit.tenant, set()).add(pipe)
                done(loaded)
                if not given[pipe] and waiting:
                    given[pipe] = deque(waiting.popleft())
                if given[pipe]:
                    pipe.send(("load", given[pipe].popleft()))
                else:
                    busy.remove(pipe)

    @property
    def apart(self) -> bool:
        """Whether rows of one tenant were read by several processes, which do not see each other's."""
        return any(len(readers) > 1 for readers in self._readers.values())

    def look(self, tenants: Iterable[str], allowed: Lines) -> dict[str, Similar]:
        """What the rows of each run look like; nothing else is submitted for *tenants* until the end."""
        # in the same order everywhere: no two that submit wait for each other
        for tenant in sorted(tenants):
            [pipe] = self._readers[tenant]
            pipe.send(("lock", tenant))
            _received(pipe)
        found: dict[str, Similar] = {}
        for part in self._all("find", allowed):
            found |= part
        return found

    def allow(self) -> None:
        """What was found is meant."""
        self._all("allow")

    def commit(self) -> None:
        """Make it hold."""
        self._all("commit")

    def _all(self, asked: str, *values: object) -> list[Any]:
        for pipe in self._pipes:
            pipe.send((asked, *values))
        return [_received(pipe) for pipe in self._pipes]


def open_loader(
    address: FleetUrl, how: LoadOptions, *, groups: int, processes: int | None
) -> LocalLoader | LoaderProcesses:
    """As many processes as there are cores, or *processes*, where there are *groups* of files for them."""
    count = min(processes or os.cpu_count() or 1, groups)
    return LocalLoader(address, how) if count <= 1 else LoaderProcesses(address, how, count)


def _received(pipe: Any) -> Any:
    try:
        answer = pipe.recv()
    except (EOFError, OSError):
        raise JournalError("A process that read files has ended; nothing was submitted.", code="process") from None
    if isinstance(answer, D3Error):
        raise answer
    return answer


def _child(pipe: Connection[Any, Any], url: str, how: LoadOptions) -> None:
    from d3async.config.database_urls import needed  # noqa: PLC0415 - in the new process

    # rows are no cycles: to look for some among millions of them costs a fifth of the time
    gc.set_threshold(100_000, 50, 50)
    with suppress(KeyboardInterrupt, EOFError, BrokenPipeError):
        try:
            loader = Loader(needed(url, {}), how)
        except D3Error as error:
            pipe.recv()
            pipe.send(JournalError(error.message))
            sys.exit(1)
        with loader:
            ended = False
            while not ended:
                asked, *values = pipe.recv()
                pipe.send(_answer(loader, asked, values))
                ended = asked == "commit"


def _answer(loader: Loader, asked: str, values: Sequence[Any]) -> Any:
    try:
        return getattr(loader, asked)(*values)
    except D3Error as error:
        return error
