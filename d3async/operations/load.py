"""A job file into a run folder: everything is checked, and an invalid file leaves no journal behind."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from d3async import __version__
from d3async.cli.homes import check_homes, known_homes, meta_of, same_homes
from d3async.cli.jobfile import examine
from d3async.cli.mapping import file_lines, save
from d3async.cli.review import ERRORS, Review
from d3async.files.suggestions import INPUT_PATH, OPTIONS
from d3async.journal.adopt import Changes
from d3async.journal.counts import is_all_done, unknown_by_command, vanished_rows

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from d3async.cli.examined import Examined
    from d3async.cli.jobfile import JobFileOptions
    from d3async.cli.servers import Homes, Servers
    from d3async.journal.sqlite import RunFolder
    from d3async.journal.stage import Stage
    from d3async.operations.observer import Observer
    from d3async.settings import Settings


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file that is in the journal. *unknown* counts rows of the file whose outcome nobody knows, by command.

    *homes* are the settings of every D3 that its rows name. With *finished* the journal's rows are as they were.
    """

    name: str
    stage: Stage
    changes: Changes
    unknown: Mapping[str, int]
    invalid: int
    homes: Homes
    finished: bool = False
    taken_in: tuple[str, str, int] | None = None
    """Name and digest of a feedback file all of whose rows are in the journal now, and how many are to be sent."""


def load(
    folder: RunFolder,
    file: Path,
    job_file: JobFileOptions,
    servers: Servers,
    own: Settings | None,
    *,
    observer: Observer,
    save_mapping: bool = False,
    kept: Mapping[str, Any] = MappingProxyType({}),
) -> Loaded | None:
    """Check *file* and bring its rows into the journal; None when rows are invalid and none may be left out.

    *own* is the D3 of rows without a profile. Nothing holds until the folder is committed, but for the mapping
    (*save_mapping*). *kept* are the options that the journal is to keep. Raises `JobFileError` and `SettingsError`.
    """
    site, route = own.site if own else "", servers.route(own.site if own else None)
    with (
        Review() as review,
        examine(file, job_file, site=site, now=datetime.now(UTC), need_site=True, route=route) as examined,
    ):
        if own is None and not examined.routed:
            servers.own()  # says what is missing
        saved = save(job_file, examined) if save_mapping else ""
        if (before := finished(folder, examined, servers, own)) is not None:
            observer.detail("\n".join(file_lines(examined, before.changes.same, saved)))
            return before
        stage = _staged(folder, examined, review, allow=job_file.allow_duplicates)
        observer.detail("\n".join(file_lines(examined, stage.rows, saved)))
        if stage.invalid and not job_file.skip_invalid:
            observer.message("\n".join([*review.lines(), f"All of them: {review.keep(folder.folder)}"]))
            return None
        if lines := review.lines(sent="left out"):
            observer.detail("\n".join(lines))
        _keep_errors(review, folder.folder)
        homes = homes_of(stage, servers, own)
        check_homes(folder, homes)
        facts = {
            "read_by": _read_by(examined.read_as),
            OPTIONS: json.dumps(kept),
            INPUT_PATH: "" if str(file) == "-" else os.path.abspath(file),  # noqa: PTH100 - links stay as they are
        }
        return _adopted(folder, examined, stage, homes, facts)


def _staged(folder: RunFolder, examined: Examined, review: Review, *, allow: bool) -> Stage:
    stage = folder.stage()
    stage.add(review.watch(examined))
    for repeated in stage.duplicates(allow=allow):
        review.note(repeated)
    review.invalid = stage.invalid
    return stage


def _keep_errors(review: Review, folder: Path) -> None:
    if review.invalid:
        review.keep(folder)
    else:
        (folder / ERRORS).unlink(missing_ok=True)


def homes_of(stage: Stage, servers: Servers, own: Settings | None) -> Homes:
    """The settings of every D3 that the rows of *stage* name; *own* is the one of rows without a profile."""
    named = stage.profiles() or [None]
    found = {name: own if name is None else servers.of(name) for name in named}
    return {name: settings for name, settings in found.items() if settings is not None}


def _read_by(job_file: JobFileOptions) -> str:
    """What, beside the file itself and where its rows go, decides what they mean."""
    return json.dumps({"version": __version__, **asdict(job_file)})


def finished(folder: RunFolder, examined: Examined, servers: Servers, own: Settings | None) -> Loaded | None:
    """The very file whose rows are all ok, read the same way: then nothing is to be found out about its rows."""
    meta = folder.meta()
    if meta.get("read_by") != _read_by(examined.read_as) or not same_homes(meta, servers, own):
        return None
    if not is_all_done(folder.db) or meta.get("sha256") != examined.table.sha256():
        return None
    homes: Homes = {name: servers.of(name) for name in known_homes(meta)}
    if own is not None and meta.get("base_url"):
        homes = {None: own, **homes}
    changes = Changes(int(meta["rows"]), 0, 0, vanished_rows(folder.db), 0, 0)
    return Loaded(examined.name, folder.stage(), changes, {}, 0, homes, finished=True)


def _adopted(folder: RunFolder, examined: Examined, stage: Stage, homes: Homes, facts: Mapping[str, str]) -> Loaded:
    changes = folder.adopt(
        {
            **meta_of(homes, folder.meta()),
            **facts,
            "command": examined.command.__name__ if examined.command else "",
            "format": json.dumps(examined.format.to_json()),
            "header": json.dumps(examined.table.header),
            "input": examined.name,
            "sha256": examined.table.sha256(),
            "rows": str(stage.rows),
        }
    )
    return Loaded(examined.name, stage, changes, unknown_by_command(folder.db), stage.invalid, homes)
