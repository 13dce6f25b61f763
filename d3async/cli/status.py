"""`d3async status DIR`: what a run folder says, also while its run goes on."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from d3async.cli.console import clean, out
from d3async.cli.fleet_option import fleet_option, meant
from d3async.cli.folders import JOURNAL, run_folder


@click.command("status")
@click.argument("target", metavar="DIR|RUN", required=False, type=click.Path(path_type=Path))
@fleet_option
@click.option("--json", "as_json", is_flag=True, help="The same as one JSON object.")
def command(target: Path | None, *, fleet: str | None, as_json: bool) -> int:
    """Say what a run folder holds: counts, what went wrong, who runs it now, what to type next.

    Of a fleet: every run and worker, or RUN alone. Works while the run goes on.
    """
    if (address := meant(target, fleet)) is not None:
        from d3async.cli.fleet_status import tell  # noqa: PLC0415 - not for `--help`

        return tell(address, str(target) if target else None, fleet, as_json=as_json)
    if target is None:
        raise click.UsageError("Missing argument 'DIR', or a fleet: --fleet URL, D3_FLEET_URL")
    return _folder(target, as_json=as_json)


def _folder(folder: Path, *, as_json: bool) -> int:
    from d3async.cli.standing import as_object, as_words, standing  # noqa: PLC0415 - not for `--help`
    from d3async.journal.hold import is_held  # noqa: PLC0415 - as above
    from d3async.journal.read import JournalReader  # noqa: PLC0415 - as above

    # first: a run that ends in between has let go of the folder, and its journal is read to the end
    running = is_held(run_folder(folder))
    with JournalReader(folder / JOURNAL) as reader:
        found = standing(reader, now=time.time(), running=running)
    if as_json:
        out(json.dumps(as_object(found), ensure_ascii=False))
        return 0
    for line in as_words(found):
        out(clean(line))
    return 0
