"""`d3async worker --fleet URL`: sends what was submitted, beside as many other workers as there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from d3async.cli.durations import DURATION
from d3async.cli.fleet_option import fleet_option


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
    from d3async.cli.working import Options, work  # noqa: PLC0415 - `--help` need not load the engine

    return work(fleet, Options(**given))
