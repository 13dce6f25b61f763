"""A profile's mapping that changed after rows were sent by it: the same command must not send them once more."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from d3async.commands import all_commands
from d3async.errors import SettingsError

if TYPE_CHECKING:
    from d3async.cli.examined import Examined
    from d3async.journal.sqlite import RunFolder

MAPPING = "mapping"
"""Where a journal keeps the mapping that its rows were last read by, in words."""


def check_mapping(folder: RunFolder, examined: Examined, *, saved: bool) -> None:
    """Raise `SettingsError` where staged rows were sent before and are new ones by what the profile says since.

    What is typed, and *saved* by this command, is meant; what a profile says may have changed for another file.
    """
    before = folder.meta().get(MAPPING, "")
    if saved or before == examined.kept:
        return
    (count,) = folder.db.execute(
        "select count(*) from temp.incoming i where i.state = 'pending'"
        " and i.command in (select value from json_each(?))"
        " and i.raw in (select raw from job where state in ('sent', 'ok', 'partial', 'unknown'))"
        " and not exists (select 1 from job where job.identity = i.identity)",
        (json.dumps(_once()),),
    ).fetchone()
    cure = "put it back, give another folder with -o, or start anew with --fresh."
    _refuse(count, folder.folder, before, examined.kept, cure)


def _once() -> list[str]:
    return [name for name, command in all_commands().items() if not command.repeatable]


def _refuse(count: int, where: object, before: str, now: str, cure: str) -> None:
    if count:
        rows = f"{count:,} row{'s' * (count != 1)}"
        raise SettingsError(
            f"{where} holds {rows} sent when the mapping of the profile was another ({before or 'none'}); as it"
            f" is now ({now or 'none'}) they would be sent once more: {cure}",
            code="other_mapping",
        )
