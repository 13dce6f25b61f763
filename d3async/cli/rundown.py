"""One `run` from file to exit code: hold the folder, load, tell the plan, send, write everything, say what is next."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from d3async.cli import plan
from d3async.cli.aftermath import Run, beginning, finish
from d3async.cli.console import is_interactive, say, say_all
from d3async.cli.feedback import load_feedback, parent_of, read_like, settings_like
from d3async.cli.homes import check_own
from d3async.cli.jobfile import examine
from d3async.cli.loading import load
from d3async.cli.mapping import with_own
from d3async.cli.progress import chosen
from d3async.cli.review import Review
from d3async.cli.running import Orders, check_files, send
from d3async.cli.similar import agreed_to_fresh, agreed_to_similar, by_server
from d3async.commands import all_commands
from d3async.errors import FolderGoneError, JournalError, SettingsError
from d3async.files.suggestions import REPLACED
from d3async.journal.counts import work_to_send
from d3async.journal.lanes import count_mirrored
from d3async.journal.look_alike_guard import LookAlikeGuard, folder_moved
from d3async.journal.marking import mark_tasks
from d3async.journal.session import FolderSession
from d3async.journal.sqlite import FILE, Selection, open_folder
from d3async.program import collect_rarely
from d3async.sansio.exit_code import INTERRUPTED, INVALID_FILE, STOPPED
from d3async.sansio.halt import with_default
from d3async.sansio.look_alikes import Lines
from d3async.sansio.next_step import PLACES, READING, SETTINGS, arguments_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from d3async.cli.feedback import Parent
    from d3async.cli.jobfile import JobFileOptions
    from d3async.cli.loading import Loaded
    from d3async.cli.servers import Servers
    from d3async.journal.similar_rows import Similar
    from d3async.journal.sqlite import RunFolder
    from d3async.sansio.halt import Halt
    from d3async.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of `run` beside those of the job file and the settings. Durations in seconds."""

    output: Path | None = None
    max_links_per_call: int = 50
    serial_by: str | None = None
    halts: Sequence[Halt] = ()
    drain_timeout: float = 30.0
    mark_tasks: bool = False
    verify: bool = False
    retry_unknown: bool = False
    fresh: bool = False
    continues: bool = False
    dry_run: bool = False
    progress: str = "auto"
    quiet: bool = False
    verbose: bool = False
    as_json: bool = False
    yes: bool = False
    save_mapping: bool = False
    allow_similar: Lines = field(default_factory=Lines)


def run(file: Path, job_file: JobFileOptions, servers: Servers, options: Options) -> int:
    """Run *file* and return the exit code."""
    collect_rarely()
    parent = parent_of(file, options.output, job_file)
    if parent is not None:
        return _run_feedback(file, parent, job_file, servers.like(settings_like(parent)), options)
    kept = options_kept(job_file, servers, options)
    job_file = with_own(job_file, servers, save=options.save_mapping)
    own = servers.own_if_any()
    if own is None:
        _check_routed(file, job_file, servers)
    path = options.output or default_folder(file)
    if options.continues:
        _check_there(path, file)
    again = ""
    if options.fresh and not options.dry_run:
        before = _move_aside(path, options)
        if before is None:
            say("Nothing was sent.")
            return INTERRUPTED
        again = before
    quiet, save_mapping = options.quiet, options.save_mapping

    def loading(folder: RunFolder) -> Loaded | None:
        return load(folder, file, job_file, servers, own, quiet=quiet, save_mapping=save_mapping, kept=kept)

    return _run_in(path, loading, servers, options, own=own, again=again)


def _run_feedback(file: Path, parent: Parent, job_file: JobFileOptions, servers: Servers, options: Options) -> int:
    """Send the rows of a feedback file under the run that it continues."""
    for given, name in ((options.fresh, "--fresh"), (options.save_mapping, "--save-mapping")):
        if given:
            text = f"{name} cannot be given with {file}: it continues the run in {parent.folder}"
            raise SettingsError(text, code="option")
    job_file = read_like(parent, file, job_file)
    own = servers.own_if_any()
    if own is None and parent.meta.get("base_url"):
        servers.own()  # says what is missing

    def loading(folder: RunFolder) -> Loaded | None:
        with Review() as review:
            loaded = load_feedback(
                folder,
                parent,
                file,
                job_file,
                servers,
                own=own,
                review=review,
                quiet=options.quiet,
                retry_unknown=options.retry_unknown,
            )
            if loaded is None:
                say_all(review.lines())
                say(f"All of them: {review.keep(folder.folder)}")
            elif not options.quiet:
                say_all(review.lines(sent="left out"))
        return loaded

    return _run_in(parent.folder, loading, servers, options, own=own)


def _run_in(
    path: Path,
    loading: Callable[[RunFolder], Loaded | None],
    servers: Servers,
    options: Options,
    *,
    own: Settings | None,
    again: str = "",
) -> int:
    """Hold the run folder *path*, load what is to be sent, show the plan, send, write everything."""
    folder = open_folder(path)
    try:
        check_own(folder, own)
        loaded = loading(folder)
        if loaded is None:
            folder.abandon()
            return INVALID_FILE
        _begin(folder, options, loaded)
        planned = _agree(folder, loaded, servers, options, again)
        if planned is None:
            folder.abandon()
            return 0 if options.dry_run else INTERRUPTED
        loaded.stage.close()
    except BaseException:
        folder.abandon()
        raise
    places = arguments_of({name: str(value) for name, value in servers.given().items()}, PLACES)
    return _send_and_finish(folder, planned, loaded, options, places)


def _agree(folder: RunFolder, loaded: Loaded, servers: Servers, options: Options, again: str) -> plan.Plan | None:
    """Show the plan, ask what has to be asked, commit the folder; None when nothing is to be sent after all."""
    with LookAlikeGuard(folder, by_server(loaded.homes), tell=say, again=again) as guard:
        similar = guard.find(options.allow_similar)
        mark_tasks(FolderSession(folder), on=options.mark_tasks)
        planned = _planned(folder, loaded, options, similar)
        if options.dry_run:
            from d3async.cli.dry_run import print_requests  # noqa: PLC0415 - for this option only

            if similar.count:
                raise similar.error()
            print_requests(folder, planned, options.max_links_per_call)
            return None
        planned = _ready(planned, servers, verify=options.verify)
        if not (agreed_to_similar(similar, ask=not options.yes) and _agreed(planned, options)):
            say("Nothing was sent.")
            return None
        guard.allow()
        guard.commit()
    return planned


def _check_routed(file: Path, job_file: JobFileOptions, servers: Servers) -> None:
    """Raise `SettingsError`, naming what is missing, before anything is touched for rows that name no profile."""
    if str(file) == "-":
        return
    with examine(file, job_file, site="", now=datetime.now(UTC)) as examined:
        if not examined.routed:
            servers.own()


def _ready(planned: plan.Plan, servers: Servers, *, verify: bool) -> plan.Plan:
    """*planned* with a key for everything that is to be sent. Raises `SettingsError`."""
    found = []
    for server in planned.servers:
        settings = servers.of(server.profile, server.commands)
        check_files(settings)
        if verify:
            from d3async.operations.lookup_commands import link_lookup_commands  # noqa: PLC0415 - for --verify only

            link_lookup_commands(settings, direct=True)
        found.append(replace(server, settings=settings))
    return replace(planned, servers=tuple(found))


def _begin(folder: RunFolder, options: Options, loaded: Loaded) -> None:
    selection = Selection(retry_unknown=options.retry_unknown, serial=options.serial_by is not None)
    if options.retry_unknown and not _sure_about_unknown(loaded, options):
        selection = Selection(serial=selection.serial)
    folder.begin(selection, now=time.time(), facts=beginning(loaded.homes))


def _send_and_finish(
    folder: RunFolder, planned: plan.Plan, loaded: Loaded, options: Options, places: Sequence[str]
) -> int:
    started = time.time()
    ran = None
    if planned.servers:
        progress = chosen(options.progress, planned.rows, quiet=options.quiet)
        orders = Orders(
            halts=with_default(options.halts),
            links_per_call=options.max_links_per_call,
            drain=options.drain_timeout,
            serial=options.serial_by is not None,
            verbose=options.verbose,
            verify=options.verify,
        )
        try:
            ran = send(folder, planned.servers, orders, progress)
        finally:
            progress.close()
    try:
        return finish(
            Run(
                folder=folder,
                homes=loaded.homes,
                ran=ran,
                started_at=started,
                as_json=options.as_json,
                finished=loaded.finished,
                taken_in=loaded.taken_in,
                places=places,
            )
        )
    except FolderGoneError as error:
        folder.close()
        say(f"Stopped: {error.message}")
        return STOPPED
    except JournalError as error:
        advice = f"Make room there, then run {loaded.name} again with --continue: what is known is kept."
        raise JournalError(f"{error.message} {advice}", code=error.code) from error


def options_kept(job_file: JobFileOptions, servers: Servers, options: Options) -> dict[str, Any]:
    """What a journal keeps of the options a run was started with: those that a suggested command may have."""
    usual = Options()
    sending = {
        "max_links_per_call": _unless(options.max_links_per_call, usual.max_links_per_call),
        "serial_by": options.serial_by,
        "mark_tasks": options.mark_tasks,
        "verify": options.verify,
        "halts": list(map(str, options.halts)),
        "drain_timeout": _unless(options.drain_timeout, usual.drain_timeout),
    }
    settings = servers.given()
    given = {**asdict(job_file), **sending, **{name: settings.get(name) for name in SETTINGS}}
    return {
        **{name: value for name, value in given.items() if name in {*READING, *SETTINGS, "allow_duplicates"}},
        "forgotten": [name for name in PLACES if name in settings],
    }


def _unless(value: float, usual: float) -> float | None:
    return None if value == usual else value


def _check_there(path: Path, file: Path) -> None:
    """Raise `SettingsError` where there is no run to continue."""
    if not (path / FILE).is_file():
        message = (
            f"There is no run to continue in {path}: it has no {FILE}. If it was moved, name its new place with -o;"
            f" if it is lost, look in D3 which rows of {file} are there before anything is sent again."
        )
        raise SettingsError(message, code="no_run_folder")


def default_folder(file: Path) -> Path:
    """`tasks.csv` has its run folder in `tasks.d3run`. Raises `SettingsError` for stdin, which has no name."""
    if str(file) == "-":
        raise SettingsError("From stdin, -o says where the run folder is: d3async run - -o tasks.d3run", code="output")
    return file.with_suffix(".d3run")


def _move_aside(path: Path, options: Options) -> str | None:
    """Keep an old folder under the time of day it was moved; what tells its journal from others, "" for none.

    None when its rows were sent and the user does not want them sent again.
    """
    if not (path / FILE).exists():
        return ""
    aside = path.with_name(f"{path.name}.{time.strftime('%Y%m%dT%H%M%S')}")
    while aside.exists():
        aside = aside.with_name(f"{aside.name}+")
    folder = open_folder(path)  # refuses while another process holds it
    try:
        agreed = agreed_to_fresh(folder, options.allow_similar, ask=not options.yes)
        uid = folder.meta_of("uid") or ""
        if agreed:
            folder.note(REPLACED, str(time.time()))
            folder.commit()
    finally:
        folder.abandon()
    if not agreed:
        return None
    path.rename(aside)
    folder_moved(uid, aside)
    say(f"the old run folder is now {aside}")
    return uid


def _planned(folder: RunFolder, loaded: Loaded, options: Options, similar: Similar) -> plan.Plan:
    links_per_call = options.max_links_per_call
    works = work_to_send(folder.db, links_per_call, routed=len(loaded.homes) > 1)
    planned = plan.Plan(
        name=loaded.name,
        servers=plan.shares(folder.db, loaded.homes, works, links_per_call),
        works=works,
        outcomes=folder.outcomes(),
        changes=loaded.changes,
        rerun=not folder.new,
        mirrored=count_mirrored(folder.db),
        other_day=similar.other_day,
        other_name=similar.other_name,
    )
    if not options.quiet:
        lines = plan.told(planned)
        say(f"{planned.name}: {lines[0]}")
        for line in lines[1:]:
            say(" " * (len(planned.name) + 2) + line)
    return planned


def _agreed(planned: plan.Plan, options: Options) -> bool:
    """Ask, on a terminal only; elsewhere whoever wrote the script has decided."""
    if options.yes or not planned.works or not is_interactive():
        return True
    return bool(click.confirm(plan.question(planned), err=True))


def _sure_about_unknown(loaded: Loaded, options: Options) -> bool:
    risky = sum(count for name, count in loaded.unknown.items() if not all_commands()[name].repeatable)
    if not risky or options.yes or options.dry_run:
        return True
    if not is_interactive():
        raise SettingsError(
            f"--retry-unknown sends {risky:,} rows that may exist in D3 already; to confirm it, add --yes.",
            code="confirm",
        )
    text = f"{risky:,} unknown rows may exist in D3 already and would then exist twice. Send them again?"
    return bool(click.confirm(text, err=True))
