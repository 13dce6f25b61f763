"""`d3async submit`, `worker` and `cancel`: runs of a fleet."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from d3async.cli.console import Silent, Terminal, is_interactive, out, say, signals
from d3async.cli.options import (
    DURATION,
    allow_similar_option,
    fleet_option,
    halt_option,
    job_file_options,
    link_options,
)
from d3async.config.database_urls import fleet_address, fleet_words, installed
from d3async.errors import SettingsError
from d3async.policy.halt_and_exit_codes import OK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from d3async.config.database_urls import FleetUrl
    from d3async.operations.load_fleet import LoadedRun
    from d3async.operations.mapping import JobFileOptions


@click.command("submit")
@click.argument("files", metavar="FILE…", nargs=-1, required=True, type=click.Path(path_type=Path))
@fleet_option
@job_file_options
@click.option("--profile", metavar="NAME", help="The tenant.  [default: a profile column, else the file's name]")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="The config file (D3_CONFIG).")
@click.option("--run", "name", metavar="NAME", help="What the run of one FILE is called.  [default: the file's name]")
@link_options
@halt_option
@click.option("--mark-tasks", is_flag=True, help="Add a short reference to each description, for reconcile to find.")
@click.option("--retry-unknown", is_flag=True, help="Send unknown rows again: they may then exist twice.")
@allow_similar_option
@click.option("--take-over", is_flag=True, help="Do so although a worker is sending the run: it is stopped.")
@click.option(
    "--chunk-rows", type=click.IntRange(min=250), default=2000, show_default=True, help="What a worker takes at a time."
)
@click.option("--processes", type=click.IntRange(min=1), metavar="N", help="That read files.  [default: one a core]")
@click.option("--dry-run", is_flag=True, help="Check everything, say what would be submitted.")
@click.option("--json", "as_json", is_flag=True, help="What was submitted as one JSON object on stdout.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def submit_command(files: tuple[Path, ...], fleet: str | None, job_file: JobFileOptions, **given: Any) -> int:
    """Check FILEs as `run` does and put them into the fleet's database; `d3async worker` sends them.

    Each FILE is a run, called as the file is without its ending, for one tenant: a profile of config.toml, which is
    called as the file is unless --profile or a `profile` column says which. If a row of any FILE is invalid nothing
    is submitted; nor if a new row looks like one that was sent before, or is about to be, for the same tenant.
    Submitting a FILE again is as safe as running it again: what is done is not sent again.

    \b
    Examples:
      d3async submit sites/*.csv --fleet postgresql://fleet@db.example.com/fleet
      d3async submit tasks.csv --profile vsoc --run night-2027-03-01
    Exit codes: 0 submitted · 2 usage, settings or look-alikes · 3 invalid rows, nothing submitted · 130 interrupted
    """  # noqa: D301 - the \\b is click's mark for lines that are not re-flowed
    from d3async.operations.submit import SubmitOptions, submit  # noqa: PLC0415 - `--help` need not load what reads files

    address = fleet_address(fleet)
    as_json, yes = given.pop("as_json"), given.pop("yes")
    if given["retry_unknown"] and not yes and not is_interactive():
        raise SettingsError(
            "--retry-unknown sends rows that may exist in D3 already; to confirm it, add --yes.", code="confirm"
        )
    options = SubmitOptions(**given)
    with installed():
        result = submit(files, address, job_file, options, Terminal(yes=yes))
    if result.exit_code:
        return result.exit_code
    if as_json:
        out(json.dumps(_submitted_json(result.runs, dry_run=options.dry_run), ensure_ascii=False))
    _show_submitted(result.runs, fleet_words(fleet, address), dry_run=options.dry_run)
    return OK


def _submitted_json(loaded: Sequence[LoadedRun], *, dry_run: bool) -> dict[str, object]:
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


def _show_submitted(loaded: Sequence[LoadedRun], where: str, *, dry_run: bool) -> None:
    rows, chunks = sum(one.to_send for one in loaded), sum(one.chunks for one in loaded)
    tenants = len({one.unit.tenant for one in loaded})
    counts = f"{_count(len(loaded), 'run')} for {_count(tenants, 'tenant')}, {_count(rows, 'row')} to send"
    counts += f" in {_count(chunks, 'chunk')}"
    if dry_run:
        say(f"Would be submitted: {counts}. Nothing was.")
        return
    say(f"Submitted: {counts}.")
    run = loaded[0].unit.run
    say(f"to send it  d3async worker{where}        (on any machine, as many as you like)")
    say(f"to follow   d3async status{where}")
    say(f"results     d3async results {run}{where} -o {run}.results.csv")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


@click.command("worker")
@fleet_option
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="The config file (D3_CONFIG).")
@click.option(
    "--tenant", "tenants", multiple=True, metavar="NAME", help="Serve only these; repeatable.  [default: all]"
)
@click.option(
    "--concurrency", type=click.IntRange(min=1), default=16, show_default=True, metavar="N", help="Tenants at a time."
)
@click.option(
    "--stalled-after",
    type=DURATION,
    default="30s",
    show_default=True,
    metavar="D",
    help="Without a sign of life for so long a worker counts as lost; the same for all workers.",
)
@click.option(
    "--drain-timeout", type=DURATION, default="30s", show_default=True, metavar="D",
    help="How long requests in flight may take after SIGTERM.",
)  # fmt: skip
@click.option("--metrics-port", type=click.IntRange(0, 65535), metavar="N", help="Metrics for Prometheus; 0: any port.")
@click.option("--metrics-host", default="127.0.0.1", show_default=True, metavar="HOST", help="Where they are served.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what is wrong.")
@click.option("-v", "--verbose", is_flag=True, help="Say what the queue does.")
def worker_command(fleet: str | None, **given: Any) -> int:
    """Send what was submitted to the fleet, until SIGTERM or Ctrl-C: the first drains, the second cancels.

    Serves every profile of config.toml; each tenant's address and key come from its profile on this machine and are
    nowhere else. Start as many workers as you like, on as many machines: a tenant's limit holds for all together.
    Whatever becomes of a worker, its rows are taken over by another one.
    """
    address = fleet_address(fleet)
    quiet, verbose = given.pop("quiet"), given.pop("verbose")
    with installed():
        from d3async.operations.fleet_control import WorkerOptions, work  # noqa: PLC0415 - `--help` need not load it

        _log_to_stderr(address, verbose=verbose and not quiet)
        return work(address, WorkerOptions(**given), Silent() if quiet else Terminal(), stops=signals)


class _Lines(logging.Handler):
    """Log records as lines on stderr, with the time, and without what the fleet's URL keeps secret."""

    def __init__(self, address: FleetUrl) -> None:
        super().__init__()
        self._address = address

    def emit(self, record: logging.LogRecord) -> None:
        """Print *record*."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        say(self._address.mask(f"{at} {record.levelname.lower():<7} {self.format(record)}"))


def _log_to_stderr(address: FleetUrl, *, verbose: bool) -> None:
    """What is wrong goes to stderr, where systemd and Kubernetes look for it."""
    lines = _Lines(address)
    lines.setFormatter(logging.Formatter("%(message)s"))
    for name in ("d3async", "procrastinate", "psycopg.pool"):
        logger = logging.getLogger(name)
        logger.addHandler(lines)
        logger.setLevel(logging.INFO if verbose else logging.WARNING)
    # a row's outcome is in the journal, not in the log
    logging.getLogger("d3async").setLevel(logging.WARNING)
    # the worker itself says once what it waits for
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


@click.command("cancel")
@click.argument("run", metavar="RUN")
@fleet_option
@click.option("--wait/--no-wait", default=True, help="Until what is in flight has ended.  [default: wait]")
@click.option("--forget", is_flag=True, help="And take it out of the database, with everything that is known of it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def cancel_command(run: str, *, fleet: str | None, wait: bool, forget: bool, yes: bool) -> int:
    """Stop RUN: start no further row of it. What is in flight ends; what was not sent stays unsent.

    Submitting its file again takes it up where it stopped. Of a run that is forgotten nothing is known any more:
    submitting its file again sends every row again.
    """
    from d3async.cli.result_text import counts_words  # noqa: PLC0415 - `--help` need not load it

    if forget and not yes and not _agreed(run):
        raise click.UsageError("--forget takes away what is known of a run; to confirm it, add --yes")
    address = fleet_address(fleet)
    with installed():
        from d3async.operations import fleet_control  # noqa: PLC0415 - `--help` need not load it

        result = fleet_control.cancel(address, run, wait=wait)
        ending = "" if result.is_over else "; what is in flight is still to end"
        say(f"{run} is stopped: {counts_words(result.outcomes)}{ending}")
        if forget:
            say(f"forgotten: {fleet_control.forget(address, run):,} rows")
            return OK
    where = fleet_words(fleet, address)
    say(f"results   d3async results {run}{where} -o {run}.results.csv")
    return OK


def _agreed(run: str) -> bool:
    if not is_interactive():
        return False
    return click.confirm(f"Forget everything about {run}, its results too?", err=True)
