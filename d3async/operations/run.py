"""A run from file to result: hold the folder, load, plan, ask, send, finish."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from d3async.d3.commands import all_commands
from d3async.errors import FolderGoneError, JournalError, SettingsError
from d3async.files.suggestions import REPLACED
from d3async.journal.model import Selection
from d3async.journal.reconcile import mark_tasks
from d3async.journal.sqlite.look_alikes import LookAlikeGuard, folder_moved
from d3async.journal.sqlite.merge_rows import count_mirrored
from d3async.journal.sqlite.reader import work_to_send
from d3async.journal.sqlite.run_folder import FILE, open_folder
from d3async.journal.sqlite.session import FolderSession
from d3async.operations import plan
from d3async.operations.finish_run import FinishedRun, Run, beginning, finish
from d3async.operations.job_file import FileCheck, open_job_file
from d3async.operations.load import load, load_feedback, parent_of, read_like, settings_like
from d3async.operations.mapping import with_profile_mapping
from d3async.operations.observer import SendRows, SendUnknownRows
from d3async.operations.plan import by_server, check_fresh, check_meant, requests
from d3async.operations.send_rows import SendOptions, check_files, send
from d3async.operations.server_settings import link_lookup_commands, refuse_other_server
from d3async.policy.halt_and_exit_codes import INTERRUPTED, INVALID_FILE, STOPPED, with_default
from d3async.policy.look_alikes import Lines
from d3async.policy.next_step import PLACES, READING, SETTINGS, arguments_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from d3async.config.settings import Settings
    from d3async.engine.engine import StopSource
    from d3async.journal.model import Similar
    from d3async.journal.sqlite.run_folder import RunFolder
    from d3async.operations.load import LoadedFile, Parent
    from d3async.operations.mapping import JobFileOptions
    from d3async.operations.observer import RunObserver
    from d3async.operations.send_rows import SendResult
    from d3async.operations.server_settings import Servers
    from d3async.policy.halt_and_exit_codes import Halt


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The options of a run beside those of the job file and the settings. Durations in seconds.

    *plan* is the digest that the plan must have; *requests_shown* how many requests a dry run shows, None for all.
    """

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
    verbose: bool = False
    save_mapping: bool = False
    allow_similar: Lines = field(default_factory=Lines)
    plan: str | None = None
    requests_shown: int | None = None


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended. *finished* is None where nothing was sent: the file is invalid, the user said no, a dry run."""

    exit_code: int
    finished: FinishedRun | None = None


class _Run:
    """What one run is given."""

    def __init__(
        self,
        servers: Servers,
        options: RunOptions,
        observer: RunObserver,
        stops: StopSource | None,
        job_file: JobFileOptions,
    ) -> None:
        self.chosen = _chosen(job_file, options)
        self.servers = servers
        self.options = options
        self.observer = observer
        self.stops = stops


def run(
    file: Path,
    job_file: JobFileOptions,
    servers: Servers,
    options: RunOptions,
    observer: RunObserver,
    *,
    stops: StopSource | None = None,
) -> RunResult:
    """Bring D3 to what *file* says. *stops* is how a user stops the sending; None: not at all.

    Raises `SettingsError`, `JobFileError`, `JournalError`, and what a D3 answers that ends the run.
    """
    parent = parent_of(file, options.output, job_file)
    if parent is not None:
        given = _Run(servers.like(settings_like(parent)), options, observer, stops, job_file)
        return _run_feedback(file, parent, job_file, given)
    given = _Run(servers, options, observer, stops, job_file)
    kept = options_kept(job_file, servers, options)
    job_file = with_profile_mapping(job_file, servers, save=options.save_mapping)
    own = servers.own_if_any()
    if own is None:
        _check_routed(file, job_file, servers)
    path = options.output or default_folder(file)
    if options.continues:
        _check_there(path, file)
    again = ""
    if options.fresh and not options.dry_run:
        before = _move_aside(path, options, observer)
        if before is None:
            observer.message("Nothing was sent.")
            return RunResult(INTERRUPTED)
        again = before
    save_mapping = options.save_mapping

    def loading(folder: RunFolder) -> LoadedFile | None:
        return load(folder, file, job_file, servers, own, observer=observer, save_mapping=save_mapping, kept=kept)

    return _run_in(path, loading, given, own=own, again=again)


def _run_feedback(file: Path, parent: Parent, job_file: JobFileOptions, given: _Run) -> RunResult:
    """Send the rows of a feedback file under the run that it continues."""
    servers, options, observer = given.servers, given.options, given.observer
    for is_given, name in ((options.fresh, "--fresh"), (options.save_mapping, "--save-mapping")):
        if is_given:
            text = f"{name} cannot be given with {file}: it continues the run in {parent.folder}"
            raise SettingsError(text, code="option")
    job_file = read_like(parent, file, job_file)
    own = servers.own_if_any()
    if own is None and parent.meta.get("base_url"):
        servers.own()  # says what is missing

    def loading(folder: RunFolder) -> LoadedFile | None:
        with FileCheck() as review:
            loaded = load_feedback(
                folder,
                parent,
                file,
                job_file,
                servers,
                own=own,
                review=review,
                observer=observer,
                retry_unknown=options.retry_unknown,
            )
            errors = f"errors-{file.stem}.csv"
            if loaded is None:
                observer.message("\n".join([*review.lines(), f"All of them: {review.keep(folder.folder, errors)}"]))
                return None
            (folder.folder / errors).unlink(missing_ok=True)
            if lines := review.lines(sent="left out"):
                observer.detail("\n".join(lines))
        return loaded

    return _run_in(parent.folder, loading, given, own=own)


def _run_in(
    path: Path, loading: Callable[[RunFolder], LoadedFile | None], given: _Run, *, own: Settings | None, again: str = ""
) -> RunResult:
    """Hold the run folder *path*, load what is to be sent, show the plan, send, write everything."""
    folder = open_folder(path)
    try:
        refuse_other_server(folder, own)
        loaded = loading(folder)
        if loaded is None:
            folder.abandon()
            return RunResult(INVALID_FILE)
        _begin(folder, given, loaded)
        planned = _agree(folder, loaded, given, again)
        if planned is None:
            folder.abandon()
            return RunResult(0 if given.options.dry_run else INTERRUPTED)
        loaded.stage.close()
    except BaseException:
        folder.abandon()
        raise
    return _send_and_finish(folder, planned, loaded, given)


def _agree(folder: RunFolder, loaded: LoadedFile, given: _Run, again: str) -> plan.Plan | None:
    """Show the plan, ask what has to be asked, commit the folder; None when nothing is to be sent after all."""
    options, observer = given.options, given.observer
    with LookAlikeGuard(folder, by_server(loaded.homes), tell=observer.message, again=again) as guard:
        similar = guard.find(options.allow_similar)
        if options.mark_tasks or not folder.new:
            mark_tasks(FolderSession(folder), on=options.mark_tasks)
        planned = _planned(folder, loaded, given, similar)
        observer.planned(planned)
        if options.plan is not None and options.plan != planned.digest:
            raise SettingsError(_OTHER_PLAN, code="plan")
        if options.dry_run:
            if similar.count:
                raise similar.error()
            for request in islice(requests(folder, planned, options.max_links_per_call), options.requests_shown):
                observer.request(request)
            return None
        planned = _ready(planned, given.servers, verify=options.verify)
        if not (check_meant(similar, observer) and _agreed(planned, observer)):
            observer.message("Nothing was sent.")
            return None
        guard.allow()
        guard.commit()
    return planned


def _check_routed(file: Path, job_file: JobFileOptions, servers: Servers) -> None:
    """Raise `SettingsError`, naming what is missing, before anything is touched for rows that name no profile."""
    if str(file) == "-":
        return
    with open_job_file(file, job_file, site="", now=datetime.now(UTC)) as examined:
        if not examined.routed:
            servers.own()


def _ready(planned: plan.Plan, servers: Servers, *, verify: bool) -> plan.Plan:
    """*planned* with a key for everything that is to be sent. Raises `SettingsError`."""
    found = []
    for server in planned.servers:
        settings = servers.of(server.profile, server.commands)
        check_files(settings)
        if verify:
            link_lookup_commands(settings, direct=True)
        found.append(replace(server, settings=settings))
    return replace(planned, servers=tuple(found))


def _begin(folder: RunFolder, given: _Run, loaded: LoadedFile) -> None:
    options = given.options
    retry = options.retry_unknown and (options.dry_run or _may_send_unknown(loaded, given.observer))
    selection = Selection(retry_unknown=retry, serial=options.serial_by is not None)
    folder.begin(selection, now=time.time(), facts=beginning(loaded.homes))


def _send_and_finish(folder: RunFolder, planned: plan.Plan, loaded: LoadedFile, given: _Run) -> RunResult:
    started = time.time()
    ran = _send(folder, planned, given) if planned.servers else None
    places = arguments_of({name: str(value) for name, value in given.servers.given().items()}, PLACES)
    try:
        ended = finish(
            Run(
                folder=folder,
                homes=loaded.homes,
                ran=ran,
                started_at=started,
                finished=loaded.finished,
                taken_in=loaded.taken_in,
                places=places,
            ),
            given.observer.message,
        )
    except FolderGoneError as error:
        folder.close()
        given.observer.message(f"Stopped: {error.message}")
        return RunResult(STOPPED)
    except JournalError as error:
        advice = f"Make room there, then run {loaded.name} again with --continue: what is known is kept."
        raise JournalError(f"{error.message} {advice}", code=error.code) from error
    return RunResult(ended.exit_code, ended)


def _send(folder: RunFolder, planned: plan.Plan, given: _Run) -> SendResult:
    options = given.options
    orders = SendOptions(
        halts=with_default(options.halts),
        links_per_call=options.max_links_per_call,
        drain=options.drain_timeout,
        serial=options.serial_by is not None,
        verbose=options.verbose,
        verify=options.verify,
    )
    progress = given.observer.progress(planned.rows)
    try:
        return send(folder, planned.servers, orders, progress, given.stops)
    finally:
        progress.close()


def options_kept(job_file: JobFileOptions, servers: Servers, options: RunOptions) -> dict[str, Any]:
    """What a journal keeps of the options a run was started with: those that a suggested command may have."""
    usual = RunOptions()
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


def _move_aside(path: Path, options: RunOptions, observer: RunObserver) -> str | None:
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
        agreed = check_fresh(folder, options.allow_similar, observer)
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
    observer.message(f"the old run folder is now {aside}")
    return uid


_OTHER_PLAN = (
    "Nothing was sent: the file, its run folder or the settings changed since the plan was made."
    " Look at the plan again."
)


def _chosen(job_file: JobFileOptions, options: RunOptions) -> dict[str, Any]:
    """What decides which rows are sent, and how, for `plan.digest_of`."""
    return {
        "where": sorted(job_file.where),
        "limit": job_file.limit,
        "skip_invalid": job_file.skip_invalid,
        "duplicates": job_file.allow_duplicates,
        "similar": str(options.allow_similar),
        "unknown": options.retry_unknown,
        "fresh": options.fresh,
        "links": options.max_links_per_call,
        "marks": options.mark_tasks,
    }


def _planned(folder: RunFolder, loaded: LoadedFile, given: _Run, similar: Similar) -> plan.Plan:
    links_per_call = given.options.max_links_per_call
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
    # not `meta`, which is empty in a new folder
    file = {name: folder.meta_of(name) or "" for name in plan.OF_THE_FILE}
    return replace(planned, digest=plan.digest_of(planned, file, given.chosen))


def _agreed(planned: plan.Plan, observer: RunObserver) -> bool:
    return not planned.works or observer.confirm(SendRows(planned)) is not False


def _may_send_unknown(loaded: LoadedFile, observer: RunObserver) -> bool:
    risky = sum(count for name, count in loaded.unknown.items() if not all_commands()[name].repeatable)
    if not risky:
        return True
    agreed = observer.confirm(SendUnknownRows(risky))
    if agreed is None:
        raise SettingsError(
            f"--retry-unknown sends {risky:,} rows that may exist in D3 already; to confirm it, add --yes.",
            code="confirm",
        )
    return agreed
