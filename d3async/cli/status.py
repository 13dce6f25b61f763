"""`d3async status DIR`: what a run folder says, also while its run goes on."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from d3async.cli.console import clean, out
from d3async.cli.folders import JOURNAL, folder_argument, run_folder

if TYPE_CHECKING:
    from pathlib import Path


@click.command("status")
@folder_argument
@click.option("--json", "as_json", is_flag=True, help="The same as one JSON object.")
def command(folder: Path, *, as_json: bool) -> int:
    """Say what a run folder holds: counts, what went wrong, who runs it now, what to type next.

    Works while the run goes on.
    """
    from d3async.cli.standing import as_object, as_words, is_running, standing  # noqa: PLC0415 - not for `--help`
    from d3async.journal.read import JournalReader  # noqa: PLC0415 - as above

    with JournalReader(run_folder(folder) / JOURNAL) as reader:
        found = standing(reader, now=time.time(), running=is_running(reader.owner()))
    if as_json:
        out(json.dumps(as_object(found), ensure_ascii=False))
        return 0
    for line in as_words(found):
        out(clean(line))
    return 0
