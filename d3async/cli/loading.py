"""A job file into a run folder: everything is checked, and an invalid file leaves no journal behind."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from d3async import __version__
from d3async.cli.console import say
from d3async.cli.jobfile import examine
from d3async.cli.review import ERRORS, Review
from d3async.journal.adopt import Changes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from d3async.cli.examined import Examined
    from d3async.cli.jobfile import JobFileOptions
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
        if (finished := _finished(folder, examined, job_file, settings)) is not None:
            if not quiet:
                say(f"{examined.name}: {examined.describe(finished.changes.same)}")
            return finished
        stage = folder.stage()
        stage.add(review.watch(examined))
        for repeated in stage.duplicates(allow=job_file.allow_duplicates):
            review.note(repeated)
        review.invalid = stage.invalid
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
        return _adopted(folder, examined, stage, read_as=_read_as(job_file, settings))


def _read_as(job_file: JobFileOptions, settings: Settings) -> dict[str, str]:
    """What, beside the file itself, decides what its rows mean."""
    return {
        "base_url": settings.base_url,
        "site": settings.site,
        "read_by": json.dumps({"version": __version__, **asdict(job_file)}),
    }


def _finished(folder: RunFolder, examined: Examined, job_file: JobFileOptions, settings: Settings) -> Loaded | None:
    """The very file whose rows are all ok, read the same way: then nothing is to be found out about its rows."""
    meta = folder.meta()
    if any(meta.get(name) != value for name, value in _read_as(job_file, settings).items()):
        return None
    left = "select exists(select 1 from job where row is not null and (state != 'ok' or coalesce(code, '') != ''))"
    if folder.db.execute(left).fetchone()[0] or meta.get("sha256") != examined.table.sha256():
        return None
    vanished = folder.db.execute("select count(*) from job where row is null").fetchone()[0]
    return Loaded(examined.name, folder.stage(), Changes(int(meta["rows"]), 0, 0, vanished, 0, 0), {}, 0)


def _adopted(folder: RunFolder, examined: Examined, stage: Stage, *, read_as: Mapping[str, str]) -> Loaded:
    changes = folder.adopt(
        {
            **read_as,
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
