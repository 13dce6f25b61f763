"""A job file into a run folder: everything is checked, and an invalid file leaves no journal behind."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from d3async.cli.console import say
from d3async.cli.jobfile import examine
from d3async.cli.review import ERRORS, Review

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from d3async.cli.examined import Examined
    from d3async.cli.jobfile import JobFileOptions
    from d3async.journal.adopt import Changes
    from d3async.journal.sqlite import RunFolder
    from d3async.journal.stage import Stage
    from d3async.settings import Settings


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file that is in the journal. *unknown* counts rows of the file whose outcome nobody knows, by command."""

    name: str
    stage: Stage
    changes: Changes
    unknown: Mapping[str, int]
    invalid: int


def load(folder: RunFolder, file: Path, job_file: JobFileOptions, settings: Settings, *, quiet: bool) -> Loaded | None:
    """Check *file* and bring its rows into the journal; None when rows are invalid and none may be left out.

    Nothing holds until the folder is committed. Raises `JobFileError` and `SettingsError`.
    """
    now = datetime.now(UTC)
    with Review() as review, examine(file, job_file, site=settings.site, now=now, need_site=True) as examined:
        stage = folder.stage()
        stage.add(review.watch(examined))
        for repeated in stage.duplicates(allow=job_file.allow_duplicates):
            review.note(repeated)
        if not quiet:
            say(f"{examined.name}: {examined.describe(stage.rows)}")
            for doubt in examined.format.doubts:
                say(f"  {doubt}")
        if stage.invalid and not job_file.skip_invalid:
            review.tell()
            say(f"All of them: {review.keep(folder.folder)}")
            return None
        if not quiet:
            review.tell(sent="left out")
        if stage.invalid:
            review.keep(folder.folder)
        else:
            (folder.folder / ERRORS).unlink(missing_ok=True)
        return _adopted(folder, examined, stage, settings)


def _adopted(folder: RunFolder, examined: Examined, stage: Stage, settings: Settings) -> Loaded:
    changes = folder.adopt(
        {
            "base_url": settings.base_url,
            "site": settings.site,
            "command": examined.command.__name__ if examined.command else "",
            "format": json.dumps(examined.format.to_json()),
            "header": json.dumps(examined.table.header),
            "input": examined.name,
            "sha256": examined.table.sha256(),
            "rows": str(stage.rows),
        }
    )
    unknown = folder.db.execute(
        "select command, count(*) from job where row is not null and state in ('unknown', 'sent') group by command"
    )
    return Loaded(examined.name, stage, changes, dict(unknown.fetchall()), stage.invalid)
