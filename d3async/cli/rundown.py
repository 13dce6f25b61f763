"""One `run` from file to exit code: hold the folder, load, tell the plan, send, write everything, say what is next."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from d3async.cli import plan
from d3async.cli.aftermath import Run, beginning, finish
from d3async.cli.console import say
from d3async.cli.dry_run import print_requests
from d3async.cli.loading import load
from d3async.cli.progress import chosen
from d3async.cli.running import Orders, send
from d3async.cli.ways import link_ways
from d3async.commands import all_commands
from d3async.errors import JournalError, SettingsError
from d3async.journal.lanes import count_mirrored
from d3async.journal.marking import mark_tasks
from d3async.journal.sqlite import FILE, Selection, open_folder
from d3async.sansio.exit_code import INTERRUPTED, INVALID_FILE
from d3async.sansio.halt import with_default

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from d3async.cli.jobfile import JobFileOptions
    from d3async.cli.loading import Loaded
    from d3async.journal.sqlite import RunFolder
    from d3async.sansio.halt import Halt
    from d3async.settings import Settings

    SettingsOf = Callable[[Sequence[str]], Settings]


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
    dry_run: bool = False
    progress: str = "auto"
    quiet: bool = False
    verbose: bool = False
    as_json: bool = False
    yes: bool = False


def run(file: Path, job_file: JobFileOptions, settings_of: SettingsOf, options: Options) -> int:
    """Run *file* and return the exit code. *settings_of* gives settings with keys for the commands it is told."""
    settings = settings_of(())
    path = options.output or default_folder(file)
    if options.fresh and not options.dry_run:
        _move_aside(path)
    folder = open_folder(path)
    try:
        _check_same_d3(folder, settings)
        loaded = load(folder, file, job_file, settings, quiet=options.quiet)
        if loaded is None:
            folder.abandon()
            return INVALID_FILE
        rows = _begin(folder, settings, options, loaded)
        mark_tasks(folder.db, on=options.mark_tasks)
        planned = _planned(folder, loaded, settings, options)
        if options.dry_run:
            print_requests(folder, planned, settings, options.max_links_per_call)
            folder.abandon()
            return 0
        settings = settings_of([work.command.__name__ for work in planned.works])
        if options.verify:
            link_ways(settings, direct=True)
        if not _agreed(planned, options):
            folder.abandon()
            say("Nothing was sent.")
            return INTERRUPTED
        folder.commit()
        loaded.stage.close()
    except BaseException:
        folder.abandon()
        raise
    return _send_and_finish(folder, planned, settings, options, rows)


def _begin(folder: RunFolder, settings: Settings, options: Options, loaded: Loaded) -> int:
    selection = Selection(retry_unknown=options.retry_unknown, serial=options.serial_by is not None)
    if options.retry_unknown and not _sure_about_unknown(loaded, options):
        selection = Selection(serial=selection.serial)
    return folder.begin(selection, now=time.time(), facts=beginning(settings))


def _send_and_finish(folder: RunFolder, planned: plan.Plan, settings: Settings, options: Options, rows: int) -> int:
    started = time.time()
    ran = None
    if rows:
        progress = chosen(options.progress, rows, quiet=options.quiet)
        orders = Orders(
            rows=rows,
            halts=with_default(options.halts),
            links_per_call=options.max_links_per_call,
            drain=options.drain_timeout,
            serial=options.serial_by is not None,
            verbose=options.verbose,
            verify=options.verify,
        )
        try:
            ran = send(folder, settings, orders, progress)
        finally:
            progress.close()
    ended = Run(folder=folder, settings=settings, plan=planned, ran=ran, started_at=started, as_json=options.as_json)
    try:
        return finish(ended)
    except JournalError as error:
        advice = "Make room there, then type the same command again: what is known is kept."
        raise JournalError(f"{error.message} {advice}", code=error.code) from error


def default_folder(file: Path) -> Path:
    """`tasks.csv` has its run folder in `tasks.d3run`. Raises `SettingsError` for stdin, which has no name."""
    if str(file) == "-":
        raise SettingsError("From stdin, -o says where the run folder is: d3async run - -o tasks.d3run", code="output")
    return file.with_suffix(".d3run")


def _move_aside(path: Path) -> None:
    """An old folder is kept under the time of day it was moved, never overwritten."""
    if not (path / FILE).exists():
        return
    aside = path.with_name(f"{path.name}.{time.strftime('%Y%m%dT%H%M%S')}")
    while aside.exists():
        aside = aside.with_name(f"{aside.name}+")
    open_folder(path).close()  # refuses while another process holds it
    path.rename(aside)
    say(f"the old run folder is now {aside}")


def _check_same_d3(folder: RunFolder, settings: Settings) -> None:
    before = folder.meta().get("base_url")
    if before and before != settings.base_url:
        raise SettingsError(
            f"{folder.folder} holds a run against {before}, not {settings.base_url}: "
            "give another folder with -o, or start anew with --fresh.",
            code="other_d3",
        )


def _planned(folder: RunFolder, loaded: Loaded, settings: Settings, options: Options) -> plan.Plan:
    planned = plan.Plan(
        name=loaded.name,
        base_url=settings.base_url,
        site=settings.site,
        works=plan.works(folder.db, options.max_links_per_call),
        outcomes=plan.outcomes(folder.db),
        changes=loaded.changes,
        rerun=not folder.new,
        mirrored=count_mirrored(folder.db),
        rate=settings.rate,
    )
    if not options.quiet:
        lines = plan.told(planned)
        say(f"{planned.name}: {lines[0]}")
        for line in lines[1:]:
            say(" " * (len(planned.name) + 2) + line)
    return planned


def _somebody_there() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def _agreed(planned: plan.Plan, options: Options) -> bool:
    """Ask, on a terminal only; elsewhere whoever wrote the script has decided."""
    if options.yes or not planned.works or not _somebody_there():
        return True
    return bool(click.confirm(plan.question(planned), err=True))


def _sure_about_unknown(loaded: Loaded, options: Options) -> bool:
    risky = sum(count for name, count in loaded.unknown.items() if not all_commands()[name].repeatable)
    if not risky or options.yes or options.dry_run:
        return True
    if not _somebody_there():
        raise SettingsError(
            f"--retry-unknown sends {risky:,} rows that may exist in D3 already; to confirm it, add --yes.",
            code="confirm",
        )
    text = f"{risky:,} unknown rows may exist in D3 already and would then exist twice. Send them again?"
    return bool(click.confirm(text, err=True))
