"""`d3async worker --fleet URL`: sends what was submitted, beside as many other workers as there are."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from d3async.cli.console import Silent, Terminal, say
from d3async.cli.durations import DURATION
from d3async.cli.fleet_option import fleet_address, fleet_option
from d3async.fleet.address import installed

if TYPE_CHECKING:
    from d3async.fleet.address import Address


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
def command(fleet: str | None, **given: Any) -> int:
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
        return work(address, WorkerOptions(**given), Silent() if quiet else Terminal())


class _Lines(logging.Handler):
    """Log records as lines on stderr, with the time, and without what the fleet's URL keeps secret."""

    def __init__(self, address: Address) -> None:
        super().__init__()
        self._address = address

    def emit(self, record: logging.LogRecord) -> None:
        """Print *record*."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        say(self._address.mask(f"{at} {record.levelname.lower():<7} {self.format(record)}"))


def _log_to_stderr(address: Address, *, verbose: bool) -> None:
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
