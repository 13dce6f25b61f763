"""One worker from its options to its exit code."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from d3async.cli.console import say
from d3async.cli.fleet_option import fleet_address, installed
from d3async.errors import SettingsError
from d3async.program import loop_factory
from d3async.settings import Profiles

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from d3async.fleet.address import Address
    from d3async.fleet.service import Orders
    from d3async.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of `worker`. Durations in seconds."""

    config: Path | None = None
    tenants: Sequence[str] = ()
    concurrency: int = 16
    stalled_after: float = 30.0
    drain_timeout: float = 30.0
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
    quiet: bool = False
    verbose: bool = False


class _Lines(logging.Handler):
    """Log records as lines on stderr, with the time, and without what the fleet's URL keeps secret."""

    def __init__(self, address: Address) -> None:
        super().__init__()
        self._address = address

    def emit(self, record: logging.LogRecord) -> None:
        """Say *record*."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        say(self._address.mask(f"{at} {record.levelname.lower():<7} {self.format(record)}"))


def work(fleet: str | None, options: Options) -> int:
    """Work until a signal ends it. Raises `SettingsError` and `JournalError`."""
    address = fleet_address(fleet)
    if options.stalled_after < 1:
        raise SettingsError("--stalled-after is at least 1s: shorter than a hiccup of the network", code="option")
    with installed():
        from d3async.fleet.profiles import tenant_names  # noqa: PLC0415 - psycopg, for those who have a fleet
        from d3async.fleet.service import serve  # noqa: PLC0415 - as above

        orders = _orders(tenant_names(Profiles(config=options.config)), options)
        _log_to_stderr(address, options)

        def settings_of(tenant: str) -> Settings:
            # the file is read anew: a key that was changed counts from the next try
            return Profiles(config=options.config).settings(tenant)

        tell = (lambda _: None) if options.quiet else say
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(serve(address, orders, settings_of, tell=tell))


def _orders(known: Sequence[str], options: Options) -> Orders:
    from d3async.fleet.service import Orders  # noqa: PLC0415 - as above
    from d3async.fleet.worker import Pace  # noqa: PLC0415 - as above

    strange = [name for name in options.tenants if name not in known]
    if strange:
        raise SettingsError(f'There is no profile "{strange[0]}" here; there are: {", ".join(known)}', code="tenant")
    if not known:
        message = "config.toml has no profile, so there is no tenant to serve (--config and D3_CONFIG say where it is)"
        raise SettingsError(message, code="tenant")
    return Orders(
        tenants=tuple(dict.fromkeys(options.tenants)) or tuple(known),
        pace=Pace(tenants=options.concurrency, stalled_after=options.stalled_after),
        drain=options.drain_timeout,
        metrics=None if options.metrics_port is None else (options.metrics_host, options.metrics_port),
    )


def _log_to_stderr(address: Address, options: Options) -> None:
    """What is wrong goes to stderr, where systemd and Kubernetes look for it."""
    lines = _Lines(address)
    lines.setFormatter(logging.Formatter("%(message)s"))
    level = logging.WARNING if options.quiet or not options.verbose else logging.INFO
    for name in ("d3async", "procrastinate", "psycopg.pool"):
        logger = logging.getLogger(name)
        logger.addHandler(lines)
        logger.setLevel(level)
    # a row's outcome is the journal's to tell, not the log's
    logging.getLogger("d3async").setLevel(logging.WARNING)
    # what is waited for is said once, by us
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
