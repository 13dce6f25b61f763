"""A profile's mapping that changed after rows were sent by it: the same command must not send them once more."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

from d3async.commands import all_commands
from d3async.errors import SettingsError

if TYPE_CHECKING:
    from typing import Any

    from psycopg import Connection

    from d3async.cli.examined import Examined
    from d3async.journal.postgres.intake import Submission
    from d3async.journal.sqlite import RunFolder

MAPPING = "mapping"
"""Where a journal keeps the mapping that its rows were last read by, in words."""
_SUBMITTED = b"""
select count(*) from d3async_incoming i where i.params is not null and i.command = any(%(once)s)
and i.raw in (select r.raw from d3async_row r join d3async_job j on j.run = r.run and j.id = r.id
    where r.run = %(run)s and j.state in ('sent', 'ok', 'partial', 'unknown'))
and not exists (select from d3async_row r where r.run = %(run)s and r.identity = i.identity)"""


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


def check_submitted(db: Connection[Any], new: Submission, examined: Examined) -> None:
    """`check_mapping` for a run of a fleet: rows that were added over *db* and not yet adopted."""
    before = new.meta().get(MAPPING, "")
    if new.new or before == examined.kept:
        return
    found = db.execute(_SUBMITTED, {"run": new.id, "once": _once()}).fetchone()
    anew = f"d3async cancel {shlex.quote(new.name)} --forget"
    cure = f"put it back, give another name with --run, or start anew with {anew}."
    _refuse(found[0] if found else 0, new.name, before, examined.kept, cure)


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
