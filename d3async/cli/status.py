"""`d3async status DIR`: what a run folder says, also while its run goes on."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from d3async.cli.console import clean, out
from d3async.cli.fleet_option import fleet_option, fleet_words, meant
from d3async.cli.folders import run_folder
from d3async.fleet.address import installed
from d3async.sansio.exit_code import OK

if TYPE_CHECKING:
    from collections.abc import Iterable

    from d3async.fleet.address import Address


@click.command("status")
@click.argument("target", metavar="DIR|RUN", required=False, type=click.Path(path_type=Path))
@fleet_option
@click.option("--json", "as_json", is_flag=True, help="The same as one JSON object.")
def command(target: Path | None, *, fleet: str | None, as_json: bool) -> int:
    """Say what a run folder holds: counts, what went wrong, who runs it now, what to type next.

    Of a fleet: every run and worker, or RUN alone. Works while the run goes on.
    """
    address = meant(target, fleet)
    if address is not None:
        return _fleet(address, str(target) if target else None, fleet_words(fleet, address), as_json=as_json)
    if target is None:
        raise click.UsageError("Missing argument 'DIR', or a fleet: --fleet URL, D3_FLEET_URL")
    return _folder(run_folder(target), as_json=as_json)


def _folder(folder: Path, *, as_json: bool) -> int:
    from d3async.cli.result_text import folder_lines  # noqa: PLC0415 - not for `--help`
    from d3async.operations.status import folder_json, folder_status  # noqa: PLC0415 - as above

    found = folder_status(folder, now=time.time())
    return _show(folder_json(found)) if as_json else _print(folder_lines(found))


def _fleet(address: Address, name: str | None, where: str, *, as_json: bool) -> int:
    from d3async.cli.result_text import fleet_lines, run_lines  # noqa: PLC0415 - not for `--help`
    from d3async.operations.status import fleet_json, fleet_status, run_json  # noqa: PLC0415 - as above

    now = time.time()
    with installed():
        found = fleet_status(address, name, now=now, where=where.split())
    at = found.fleet
    if as_json:
        return _show(fleet_json(at, address, now=now) if name is None else run_json(at.runs[0], at))
    return _print(fleet_lines(at, address) if name is None else run_lines(found, where))


def _show(found: dict[str, Any]) -> int:
    out(json.dumps(found, ensure_ascii=False))
    return OK


def _print(lines: Iterable[str]) -> int:
    for line in lines:
        out(clean(line))
    return OK
