"""Check a job file: problems, duplicates, look-alikes, counts; its links against D3."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from d3async.cli.console import Terminal, out, say, say_all
from d3async.client import D3Client
from d3async.config.credentials import Hidden
from d3async.config.precedence import collect
from d3async.d3.commands import all_commands
from d3async.engine.delivery import host_limiter
from d3async.engine.read_back import LinkCounts, against, link_lookup_commands, verify
from d3async.errors import D3Error, JobFileError
from d3async.files.suggestions import suggested_lines
from d3async.journal.model import NOTHING_SIMILAR, Selection
from d3async.journal.sqlite.look_alikes import LookAlikeGuard
from d3async.journal.sqlite.run_folder import open_folder
from d3async.journal.sqlite.session import FolderSession, SqliteSession
from d3async.journal.sqlite.staging import Stage
from d3async.operations.job_file import ERRORS, CheckCounts, FileCheck, open_job_file
from d3async.operations.load import load_feedback, parent_of, read_like, settings_like
from d3async.operations.mapping import SAVED, file_lines, save, with_profile_mapping
from d3async.operations.plan import by_server, similar_to_sent
from d3async.operations.server_settings import Servers, name_of
from d3async.policy.halt_and_exit_codes import INVALID_FILE, USAGE
from d3async.policy.look_alikes import Lines, described, mentioned
from d3async.policy.next_step import PLACES, READING, SETTINGS, Steps, SuggestedCommand, arguments_of, as_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from d3async.config.settings import Settings
    from d3async.jobs.job import Invalid, Job
    from d3async.journal.model import Similar
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
    several servers one that cannot be asked is told, and the others are asked all the same.
    """
    with closing(sqlite3.connect("", isolation_level=None)) as db:
        stage = Stage(db, keep=False)
        db.execute("begin")
        stage.add(entries)
        profiles = stage.profiles() or [None]
        asked = {profile: servers.of(profile) for profile in profiles}
        ways = {profile: link_lookup_commands(settings) for profile, settings in asked.items()}
        for profile, settings in asked.items():
            name = "" if len(asked) == 1 else f"{name_of(profile)}: "
            try:
                _compare(_Asked(profile, name, settings, ways[profile]), db, first, observer)
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


def _compare(at: _Asked, db: sqlite3.Connection, first: int, observer: OperationObserver) -> None:
    told = 0

    def not_linked(source: SourceIncident, pair: Link) -> None:
        nonlocal told
        told += 1
        if told <= first:
            observer.message(f"  {at.name}line {pair.line}: {source.number} is not linked to {pair.name}")

    counts = asyncio.run(_against(at, db, not_linked, observer))
    if told > first:
        observer.message(f"  and {told - first:,} more")
    gone = f"{counts.gone:,} not linked (need not be sent)"
    observer.message(f"{at.name}In D3 now: {counts.linked:,} linked · {gone}{_unsure(counts)}")


async def _against(
    at: _Asked, db: sqlite3.Connection, not_linked: Callable[[SourceIncident, Link], None], observer: OperationObserver
) -> LinkCounts:
    async with D3Client(at.settings, limiter=host_limiter(at.settings, observer.message)) as client:
        return await against(client, SqliteSession(db), at.ways, not_linked=not_linked, profile=at.profile)


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
    """The options of `check` beside those of the job file. *settings* is what `settings_options` gathered."""

    settings: Mapping[str, Any]
    output: Path | None = None
    against_d3: bool = False
    as_json: bool = False
    save_mapping: bool = False
    allow_similar: Lines = field(default_factory=Lines)


def check(file: Path, job_file: JobFileOptions, options: CheckOptions) -> int:
    """Check *file*, tell what was found, return the exit code. Raises `JobFileError` and `SettingsError`."""
    parent = parent_of(file, options.output, job_file)
    if parent is not None:
        return _check_feedback(file, parent, job_file, options)
    now = datetime.now(UTC).astimezone()
    site, servers, given = _site(options), Servers(options.settings), job_file
    job_file = with_profile_mapping(job_file, servers, save=options.save_mapping)
    with (
        open_job_file(file, job_file, site=site, now=now, route=servers.route(site)) as examined,
        FileCheck() as review,
        CheckCounts() as tally,
    ):
        saved = save(job_file, examined) if options.save_mapping else ""
        try:
            for chunk in review.chunks(examined):
                tally.add(chunk)
        except JobFileError:
            say_all(review.lines(sent=""))
            raise
        identical = _find_duplicates(examined, review, tally, allow=job_file.allow_duplicates)
        similar = NOTHING_SIMILAR
        if not review.invalid and str(file) != "-" and not all(map(_repeatable, review.commands)):
            similar = similar_to_sent(
                examined,
                options.output or file.with_suffix(".d3run"),
                servers,
                allow_duplicates=job_file.allow_duplicates,
                allowed=options.allow_similar,
                observer=Terminal(),
            )
        say_all(file_lines(examined, review.rows, saved))
        if options.as_json:
            _print_json(examined, review, tally, similar)
        else:
            _tell(examined, review, tally, job_file)
        _keep_errors(review, file, options)
        for line in mentioned(similar.other_day, similar.other_name):
            say(f"  {line}")
        if options.against_d3 and not review.invalid:
            compare_with_d3(examined, servers, Terminal())
        if review.invalid:
            return INVALID_FILE
        if similar.count:
            _tell_similar(similar)
            return USAGE
        say(f"Nothing is wrong. {_to_send(file, given, servers, saved=bool(saved), identical=identical)}")
        return 0


def _check_feedback(file: Path, parent: Parent, given: JobFileOptions, options: CheckOptions) -> int:
    """The same for a file that continues the run of *parent*: its rows are compared with that run's, and nothing kept.

    Raises `SettingsError` where a row may not be sent, `FolderHeldError` while the run goes on.
    """
    servers = Servers(options.settings).like(settings_like(parent))
    job_file = read_like(parent, file, given)
    folder = open_folder(parent.folder)
    with FileCheck() as review:
        try:
            own = servers.own_if_any()
            loaded = load_feedback(
                folder,
                parent,
                file,
                job_file,
                servers,
                own=own,
                review=review,
                observer=Terminal(quiet=options.as_json),
            )
            similar = NOTHING_SIMILAR
            if loaded is not None:
                places = by_server(loaded.homes) or {parent.meta.get("base_url", ""): [""]}
                folder.begin(Selection(), now=0.0, facts={})
                with LookAlikeGuard(folder, places, tell=say, change=False) as guard:
                    similar = guard.find(options.allow_similar)
        finally:
            folder.abandon()
        if options.as_json:
            _print_problems({"file": file.name, **_found(review), "similar": _similar_told(similar)}, review)
        else:
            say_all(review.lines(sent=""))
        if review.invalid:
            if options.output or not (review.problems.all_told or options.as_json):
                say(f"All of them: {review.keep(parent.folder)}")
            return INVALID_FILE
    if similar.count:
        _tell_similar(similar)
        return USAGE
    place = () if options.output is None else ("-o", as_path(str(options.output)))
    words = _arguments(asdict(given), Servers(options.settings))
    command = SuggestedCommand("to send", ("d3async", "run", as_path(str(file)), *place, *words))
    say(f"Nothing is wrong. To send it: {suggested_lines(Steps((command,)))[0].text}")
    return 0


def _repeatable(name: str) -> bool:
    return all_commands()[name].repeatable


def _tell_similar(similar: Similar) -> None:
    say("\n`run` would stop here:")
    for line in described(similar.pairs, similar.count, similar.lines):
        say(line)


def _find_duplicates(examined: OpenJobFile, review: FileCheck, tally: CheckCounts, *, allow: bool) -> bool:
    """What `run` would find, from the rows alone that may come again: most files have none. Whether it allows any."""
    suspect = tally.suspect()
    if suspect is None:
        return False
    with closing(sqlite3.connect("")) as db:
        stage = Stage(db, keep=False)
        stage.add(entry for entry in examined if suspect(entry))
        before, already = review.invalid, stage.invalid
        for repeated in stage.duplicates(allow=allow):
            review.note(repeated)
        review.invalid = before + stage.invalid - already
        return bool(db.execute("select exists(select 1 from incoming where occurrence > 0)").fetchone()[0])


def _to_send(file: Path, given: JobFileOptions, servers: Servers, *, saved: bool, identical: bool) -> str:
    """What to type to send *file*, read as *given*, without what is *saved* in the profile now."""
    reading = {name: value for name, value in asdict(given).items() if not (saved and name in SAVED)}
    if identical:
        return f"To send it, run {file} with --allow-duplicates too: identical rows are meant only where that is said."
    command = SuggestedCommand("to send", ("d3async", "run", as_path(str(file)), *_arguments(reading, servers)))
    return f"To send it: {suggested_lines(Steps((command,)))[0].text}"


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


def _tell(examined: OpenJobFile, review: FileCheck, tally: CheckCounts, job_file: JobFileOptions) -> None:
    if review.commands:
        say(f"  {_counts(examined, review, tally)}")
    if job_file.where or job_file.limit:
        say(f"  {review.selected:,} of them are selected")
    say_all(review.lines(sent=""))


def _counts(examined: OpenJobFile, review: FileCheck, tally: CheckCounts) -> str:
    """`3,113 tasks to create: 41 people, 212 incidents`."""
    command = examined.command
    if command is None:
        return ", ".join(f"{count:,} {name}" for name, count in review.commands.items())
    count = tally.items if command.items else review.rows - review.invalid
    numbers = {
        name: (tally.subjects if at == command.subject else tally.people).count() for name, at in command.facets.items()
    }
    facets = [f"{number:,} {_singular(name) if number == 1 else name}" for name, number in numbers.items()]
    return f"{count:,} {command.nouns[count != 1]} to {command.verb}: {', '.join(facets)}"


def _singular(name: str) -> str:
    return "person" if name == "people" else name.removesuffix("s")


def _print_json(examined: OpenJobFile, review: FileCheck, tally: CheckCounts, similar: Similar) -> None:
    """One object, its problems a line each as they may be many."""
    told: dict[str, Any] = {
        "file": examined.name,
        **_found(review),
        "format": examined.format.to_json(),
        "counts": {"subjects": tally.subjects.count(), "people": tally.people.count(), "items": tally.items},
        "similar": _similar_told(similar),
    }
    _print_problems(told, review)


def _found(review: FileCheck) -> dict[str, Any]:
    return {
        "rows": review.rows,
        "invalid": review.invalid,
        "commands": review.commands,
        "warnings": [group.public() for group in review.warnings],
    }


def _similar_told(similar: Similar) -> dict[str, Any]:
    return {
        "rows": similar.count,
        "lines": str(similar.lines),
        "pairs": [asdict(pair) for pair in similar.pairs],
        "other_day": similar.other_day,
        "other_name": similar.other_name,
    }


def _print_problems(told: Mapping[str, Any], review: FileCheck) -> None:
    out(json.dumps(told, ensure_ascii=False)[:-1] + ', "problems": [')
    comma = ""
    for problem in review.public():
        out(comma + json.dumps(problem, ensure_ascii=False))
        comma = ", "
    out("]}")


def _keep_errors(review: FileCheck, file: Path, options: CheckOptions) -> None:
    """Write errors.csv where it was asked for or where more is wrong than was shown; an old one does not stay."""
    folder = options.output or (file.with_suffix(".d3run") if str(file) != "-" else None)
    if review.invalid and (options.output or not (review.problems.all_told or options.as_json)):
        if folder is None:
            say("All of them: give -o DIR, or --json")
        else:
            say(f"All of them: {review.keep(folder)}")
    elif folder is not None:
        (folder / ERRORS).unlink(missing_ok=True)
