"""Check a job file: problems, duplicates, look-alikes, counts; its links against D3."""

from __future__ import annotations

import asyncio
import os
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from d3async.client import D3Client
from d3async.config.credentials import Hidden
from d3async.config.precedence import collect
from d3async.d3.commands import all_commands
from d3async.engine.delivery import host_limiter
from d3async.engine.read_back import LinkCounts, against, verify
from d3async.errors import D3Error, JobFileError
from d3async.journal.model import NOTHING_SIMILAR, Selection
from d3async.journal.sqlite.look_alikes import LookAlikeGuard
from d3async.journal.sqlite.run_folder import open_folder
from d3async.journal.sqlite.session import FolderSession, scratch
from d3async.operations.job_file import ERRORS, CheckCounts, FileCheck, open_job_file
from d3async.operations.load import load_feedback, parent_of, read_like, settings_like
from d3async.operations.mapping import SAVED, file_lines, save, with_profile_mapping
from d3async.operations.plan import by_server, similar_to_sent
from d3async.operations.server_settings import Servers, link_lookup_commands, name_of
from d3async.policy.halt_and_exit_codes import INVALID_FILE, USAGE
from d3async.policy.look_alikes import Lines
from d3async.policy.next_step import PLACES, READING, SETTINGS, SuggestedCommand, arguments_of, as_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from d3async.config.settings import Settings
    from d3async.jobs.job import Invalid, Job
    from d3async.journal.model import Similar
    from d3async.journal.protocols import Session
    from d3async.journal.reconcile import Link, SourceIncident
    from d3async.journal.sqlite.run_folder import RunFolder
    from d3async.operations.job_file import OpenJobFile
    from d3async.operations.load import Parent
    from d3async.operations.mapping import JobFileOptions
    from d3async.operations.observer import OperationObserver
    from d3async.operations.server_settings import Server
    from d3async.ratelimit.limiter import Limiter


def compare_with_d3(
    entries: Iterable[Job | Invalid], servers: Servers, observer: OperationObserver, *, first: int = 20
) -> None:
    """Report which pairs of the valid rows among *entries* are not linked in D3, the *first* ones by line.

    Memory does not grow with the file. Raises `SettingsError` without a key to read with, and what `against` does; of
    several servers, *observer* is given the one that cannot be read, and the others are read all the same.
    """
    with scratch() as (stage, session):
        stage.add(entries)
        profiles = stage.profiles() or [None]
        asked = {profile: servers.of(profile) for profile in profiles}
        ways = {profile: link_lookup_commands(settings) for profile, settings in asked.items()}
        for profile, settings in asked.items():
            name = "" if len(asked) == 1 else f"{name_of(profile)}: "
            try:
                _compare(_Asked(profile, name, settings, ways[profile]), session, first, observer)
            except D3Error as error:
                if not name:
                    raise
                observer.message(f"{name}could not be asked: {error.message}")


@dataclass(frozen=True, slots=True)
class _Asked:
    """One D3, the commands to read it with, and what its lines begin with."""

    profile: str | None
    name: str
    settings: Settings
    ways: tuple[str, ...]


def _compare(at: _Asked, session: Session, first: int, observer: OperationObserver) -> None:
    shown = 0

    def not_linked(source: SourceIncident, pair: Link) -> None:
        nonlocal shown
        shown += 1
        if shown <= first:
            observer.message(f"  {at.name}line {pair.line}: {source.number} is not linked to {pair.name}")

    counts = asyncio.run(_against(at, session, not_linked, observer))
    if shown > first:
        observer.message(f"  and {shown - first:,} more")
    gone = f"{counts.gone:,} not linked (need not be sent)"
    observer.message(f"{at.name}In D3 now: {counts.linked:,} linked · {gone}{_unsure(counts)}")


async def _against(
    at: _Asked, session: Session, not_linked: Callable[[SourceIncident, Link], None], observer: OperationObserver
) -> LinkCounts:
    async with D3Client(at.settings, limiter=host_limiter(at.settings, observer.message)) as client:
        return await against(client, session, at.ways, not_linked=not_linked, profile=at.profile)


async def verify_run(
    folder: RunFolder, server: Server, limiter: Limiter, *, only: bool, tell: Callable[[str], None]
) -> LinkCounts:
    """Read back what the run that holds *folder* removed at *server*, under its own *limiter*; tell what stays linked.

    Lines begin with its name unless it is the *only* one.
    """
    async with D3Client(server.settings, limiter=limiter) as client:
        counts = await verify(
            client, FolderSession(folder), link_lookup_commands(server.settings, direct=True), profile=server.profile
        )
    name = "" if only else f"{server.name}: "
    tell(f"{name}Read back: {counts.gone:,} gone · {counts.linked:,} still linked{_unsure(counts)}")
    return counts


def _unsure(counts: LinkCounts) -> str:
    return f" · {counts.cannot_tell:,} of which D3's answer does not tell" if counts.cannot_tell else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
    """The options of `check` beside those of the job file. *settings* is what `settings_options` gathered.

    *lists_all* says that every problem of the report is shown: errors.csv is then written only where *output* is given.
    *rows_to* is where each invalid row is written with its cells, for `operations.job_file.invalid_rows`.
    """

    settings: Mapping[str, Any]
    output: Path | None = None
    lists_all: bool = False
    rows_to: Path | None = None
    save_mapping: bool = False
    allow_similar: Lines = field(default_factory=Lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What was found in a job file. *lines* says how it was read.

    *review* has its rows and problems, *counts* its people, incidents and links; *examined* is the file itself. Both
    are None for a file that continues a run. *errors* is the errors.csv that was written; *unlisted* says that there
    are more problems than `review.lines` shows, and no folder to write them into. *send* is the command that would send
    the file, *identical* that it needs --allow-duplicates, which is never suggested.
    """

    name: str
    review: FileCheck
    similar: Similar
    lines: tuple[str, ...] = ()
    examined: OpenJobFile | None = None
    counts: CheckCounts | None = None
    errors: Path | None = None
    unlisted: bool = False
    send: SuggestedCommand
    identical: bool = False

    @property
    def exit_code(self) -> int:
        """What `check` exits with."""
        if self.review.invalid:
            return INVALID_FILE
        return USAGE if self.similar.count else 0


@contextmanager
def check(
    file: Path, job_file: JobFileOptions, options: CheckOptions, observer: OperationObserver
) -> Iterator[CheckReport]:
    """A block with the report on *file*, whose problems can be read inside it alone. Nothing is sent.

    Raises `JobFileError` where the file cannot be read to its end, after *observer* has been given what was found
    until then, and `SettingsError`.
    """
    parent = parent_of(file, options.output, job_file)
    if parent is not None:
        with FileCheck() as review:
            yield _check_feedback(file, parent, job_file, options, review=review, observer=observer)
        return
    now = datetime.now(UTC).astimezone()
    site, servers, given = _site(options), Servers(options.settings), job_file
    job_file = with_profile_mapping(job_file, servers, save=options.save_mapping)
    with (
        open_job_file(file, job_file, site=site, now=now, route=servers.route(site)) as examined,
        FileCheck(rows_to=options.rows_to) as review,
        CheckCounts() as counts,
    ):
        saved = save(job_file, examined) if options.save_mapping else ""
        _read(examined, review, counts, observer)
        identical = _find_duplicates(examined, review, counts, allow=job_file.allow_duplicates)
        errors, unlisted = _keep_errors(review, file, options)
        yield CheckReport(
            name=examined.name,
            review=review,
            similar=_similar(file, examined, review, job_file, options, observer=observer),
            lines=tuple(file_lines(examined, review.rows, saved)),
            examined=examined,
            counts=counts,
            errors=errors,
            unlisted=unlisted,
            send=_to_send(file, given, options, saved=bool(saved)),
            identical=identical,
        )


def _read(examined: OpenJobFile, review: FileCheck, counts: CheckCounts, observer: OperationObserver) -> None:
    try:
        for chunk in review.chunks(examined):
            counts.add(chunk)
    except JobFileError:
        if lines := review.lines(sent=""):
            observer.message("\n".join(lines))
        raise


def _similar(
    file: Path,
    examined: OpenJobFile,
    review: FileCheck,
    job_file: JobFileOptions,
    options: CheckOptions,
    *,
    observer: OperationObserver,
) -> Similar:
    if review.invalid or str(file) == "-" or all(map(_repeatable, review.commands)):
        return NOTHING_SIMILAR
    return similar_to_sent(
        examined,
        options.output or file.with_suffix(".d3run"),
        Servers(options.settings),
        allow_duplicates=job_file.allow_duplicates,
        allowed=options.allow_similar,
        observer=observer,
    )


def _check_feedback(
    file: Path,
    parent: Parent,
    given: JobFileOptions,
    options: CheckOptions,
    *,
    review: FileCheck,
    observer: OperationObserver,
) -> CheckReport:
    """The same for a file that continues the run of *parent*: its rows are compared with that run's, and nothing kept.

    Raises `SettingsError` where a row may not be sent, `FolderHeldError` while the run goes on.
    """
    servers = Servers(options.settings).like(settings_like(parent))
    job_file = read_like(parent, file, given)
    folder = open_folder(parent.folder)
    try:
        own = servers.own_if_any()
        loaded = load_feedback(folder, parent, file, job_file, servers, own=own, review=review, observer=observer)
        similar = NOTHING_SIMILAR
        if loaded is not None:
            places = by_server(loaded.homes) or {parent.meta.get("base_url", ""): [""]}
            folder.begin(Selection(), now=0.0, facts={})
            with LookAlikeGuard(folder, places, tell=observer.message, change=False) as guard:
                similar = guard.find(options.allow_similar)
    finally:
        folder.abandon()
    listed = review.problems.all_told or options.lists_all
    errors = review.keep(parent.folder) if review.invalid and (options.output or not listed) else None
    place = () if options.output is None else ("-o", as_path(str(options.output)))
    words = _arguments(asdict(given), Servers(options.settings))
    send = SuggestedCommand("to send", ("d3async", "run", as_path(str(file)), *place, *words))
    return CheckReport(name=file.name, review=review, similar=similar, errors=errors, send=send)


def _repeatable(name: str) -> bool:
    return all_commands()[name].repeatable


def _find_duplicates(examined: OpenJobFile, review: FileCheck, counts: CheckCounts, *, allow: bool) -> bool:
    """What `run` would find, from the rows alone that may come again: most files have none. Whether it allows any."""
    suspect = counts.suspect()
    if suspect is None:
        return False
    with scratch() as (stage, _):
        stage.add(entry for entry in examined if suspect(entry))
        before, already = review.invalid, stage.invalid
        for repeated in stage.duplicates(allow=allow):
            review.note(repeated)
        review.invalid = before + stage.invalid - already
        return stage.repeats


def _to_send(file: Path, given: JobFileOptions, options: CheckOptions, *, saved: bool) -> SuggestedCommand:
    """What to type to send *file*, read as *given*, without what is *saved* in the profile now."""
    reading = {name: value for name, value in asdict(given).items() if not (saved and name in SAVED)}
    words = _arguments(reading, Servers(options.settings))
    return SuggestedCommand("to send", ("d3async", "run", as_path(str(file)), *words))


def _arguments(reading: Mapping[str, Any], servers: Servers) -> tuple[str, ...]:
    settings = {
        name: value if isinstance(value, bool | int | float) else str(value) for name, value in servers.given().items()
    }
    return (*arguments_of(reading, READING), *arguments_of(settings, {**SETTINGS, **PLACES}))


def _site(options: CheckOptions) -> str:
    given, environ = Hidden({"site": options.settings["site"]}), Hidden(os.environ)
    at = options.settings
    found = collect(environ, profile=at["profile"], config=at["config"], needs=(), options=given)
    return str(found.values.get("site") or "")


def _keep_errors(review: FileCheck, file: Path, options: CheckOptions) -> tuple[Path | None, bool]:
    """Write errors.csv where it was wanted or where more is wrong than is shown; an old one does not stay."""
    folder = options.output or (file.with_suffix(".d3run") if str(file) != "-" else None)
    if review.invalid and (options.output or not (review.problems.all_told or options.lists_all)):
        return (None, True) if folder is None else (review.keep(folder), False)
    if folder is not None:
        (folder / ERRORS).unlink(missing_ok=True)
    return None, False
