"""A job file into a run folder, or a feedback file into the run that it came from; an invalid file leaves nothing."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from d3async import __version__
from d3async.errors import JobFileError, SettingsError
from d3async.files.feedback_reader import has_marks, same_text
from d3async.files.feedback_writer import digest_of, narrowed
from d3async.files.job_file import open_table
from d3async.files.run_files import inputs_of
from d3async.files.suggestions import FEEDBACK, INPUT_PATH, OPTIONS
from d3async.jobs.feedback_rows import COLUMN, refusal
from d3async.jobs.job import Invalid, Job, Problem
from d3async.journal.model import Changes
from d3async.journal.sqlite.continue_rows import Continuation, DoneAsMended, FeedbackRows
from d3async.journal.sqlite.reader import FILE, FolderReader, is_all_done, unknown_by_command, vanished_rows
from d3async.operations.job_file import ERRORS, FileCheck, open_job_file
from d3async.operations.mapping import SavedMapping, file_lines, save
from d3async.operations.server_settings import meta_of, refuse_other_servers, same_servers, servers_of_profiles
from d3async.policy.next_step import APP

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from d3async.config.settings import Settings
    from d3async.files.results_writer import InputRows
    from d3async.journal.sqlite.run_folder import RunFolder
    from d3async.journal.sqlite.staging import Stage
    from d3async.operations.job_file import OpenJobFile
    from d3async.operations.mapping import JobFileOptions
    from d3async.operations.observer import OperationObserver
    from d3async.operations.server_settings import Servers, SettingsByProfile


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """A file that is in the journal. *unknown* counts rows of the file whose outcome is unknown, by command.

    *homes* are the settings of every D3 that its rows name. With *finished* the journal's rows are as they were.
    """

    name: str
    stage: Stage
    changes: Changes
    unknown: Mapping[str, int]
    invalid: int
    homes: SettingsByProfile
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
    observer: OperationObserver,
    save_mapping: bool = False,
    kept: Mapping[str, Any] = MappingProxyType({}),
) -> LoadedFile | None:
    """Check *file* and bring its rows into the journal; None when rows are invalid and none may be left out.

    *own* is the D3 of rows without a profile. Nothing holds until the folder is committed, but for the mapping
    (*save_mapping*). *kept* are the options that the journal is to keep. Raises `JobFileError` and `SettingsError`.
    """
    site, route = own.site if own else "", servers.route(own.site if own else None)
    with (
        FileCheck() as review,
        open_job_file(file, job_file, site=site, now=datetime.now(UTC), need_site=True, route=route) as examined,
    ):
        if own is None and not examined.routed:
            servers.own()  # says what is missing
        saved = save(job_file, examined) if save_mapping else ""
        if (before := finished(folder, examined, servers, own)) is not None:
            observer.detail("\n".join(file_lines(examined, before.changes.same, saved)))
            return before
        stage = _staged(folder, examined, review, allow=job_file.allow_duplicates)
        observer.detail("\n".join(file_lines(examined, stage.rows, saved)))
        if review.invalid and not job_file.skip_invalid:
            observer.message("\n".join([*review.lines(), f"All of them: {review.keep(folder.folder)}"]))
            return None
        if lines := review.lines(sent="left out"):
            observer.detail("\n".join(lines))
        _keep_errors(review, folder.folder)
        homes = homes_of(stage, servers, own)
        refuse_other_servers(folder, homes)
        facts = {
            "read_by": _read_by(examined.read_as),
            OPTIONS: json.dumps(kept),
            INPUT_PATH: "" if str(file) == "-" else os.path.abspath(file),  # noqa: PTH100 - links stay as they are
        }
        return _adopted(folder, examined, stage, homes, facts)


def _staged(folder: RunFolder, examined: OpenJobFile, review: FileCheck, *, allow: bool) -> Stage:
    stage = folder.stage()
    is_done = DoneAsMended(folder.db)
    stage.add(review.watch(examined, is_done))
    for repeated in stage.duplicates(allow=allow):
        review.note(repeated)
    review.invalid = stage.invalid - is_done.count
    return stage


def _keep_errors(review: FileCheck, folder: Path) -> None:
    if review.invalid:
        review.keep(folder)
    else:
        (folder / ERRORS).unlink(missing_ok=True)


def homes_of(stage: Stage, servers: Servers, own: Settings | None) -> SettingsByProfile:
    """The settings of every D3 that the rows of *stage* name; *own* is the one of rows without a profile."""
    named = stage.profiles() or [None]
    found = {name: own if name is None else servers.of(name) for name in named}
    return {name: settings for name, settings in found.items() if settings is not None}


def _read_by(job_file: JobFileOptions) -> str:
    """What, beside the file itself and where its rows go, decides what they mean."""
    return json.dumps({"version": __version__, **asdict(job_file)})


def finished(folder: RunFolder, examined: OpenJobFile, servers: Servers, own: Settings | None) -> LoadedFile | None:
    """The very file whose rows are all ok, read the same way: then nothing is to be found out about its rows."""
    meta = folder.meta()
    if meta.get("read_by") != _read_by(examined.read_as) or not same_servers(meta, servers, own):
        return None
    if not is_all_done(folder.db) or meta.get("sha256") != examined.table.sha256():
        return None
    homes: SettingsByProfile = {name: servers.of(name) for name in servers_of_profiles(meta)}
    if own is not None and meta.get("base_url"):
        homes = {None: own, **homes}
    changes = Changes(int(meta["rows"]), 0, 0, vanished_rows(folder.db), 0, 0)
    return LoadedFile(examined.name, folder.stage(), changes, {}, 0, homes, finished=True)


def _adopted(
    folder: RunFolder, examined: OpenJobFile, stage: Stage, homes: SettingsByProfile, facts: Mapping[str, str]
) -> LoadedFile:
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
    return LoadedFile(examined.name, stage, changes, unknown_by_command(folder.db), stage.invalid, homes)


_REMEMBERED = ("id_column", "date_format", "time_zone", "server_time_zone")
_PLAIN = frozenset({"utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"})


@dataclass(frozen=True, slots=True)
class Parent:
    """The run that a feedback file continues: its folder, what its journal says of itself, and how its rows look."""

    folder: Path
    meta: Mapping[str, str]
    inputs: InputRows

    @property
    def input_name(self) -> str:
        """What the user calls the file that the run began with."""
        return self.meta.get("input") or "the file"


def parent_of(file: Path, output: Path | None, job_file: JobFileOptions) -> Parent | None:
    """The run that *file* continues; None where it is no feedback file. Raises `SettingsError`, `JournalError`.

    It is the one in whose folder the file is, unless *output* names one.
    """
    if str(file) == "-":
        return None
    folder = output or file.parent
    there = (folder / FILE).is_file()
    if not _is_feedback(file, job_file):
        if there and folder == file.parent and file.stem.partition("-")[0] in {"failed", "unknown"}:
            raise _unmarked(file, folder)
        return None
    if not there:
        message = (
            f"{file} continues a run: its column {COLUMN} names rows of the run folder it was written in. It does not"
            f" lie there; name that folder: d3async run {file} -o RUNFOLDER"
            if output is None
            else f"{output} is no run folder: it has no {FILE}. {file} continues the run that it was written in"
        )
        raise SettingsError(message, code="feedback")
    with FolderReader(folder / FILE) as reader:
        meta = reader.meta()
        if meta.get("input") == APP:
            raise SettingsError(f"{file}: the jobs of this run come from an app; change them there", code="feedback")
        return Parent(folder, meta, inputs_of(reader)[1])


def _is_feedback(file: Path, job_file: JobFileOptions) -> bool:
    typed = {"kind": job_file.format, "encoding": job_file.encoding, "delimiter": job_file.delimiter}
    return has_marks(file, **typed)


def _unmarked(file: Path, folder: Path) -> SettingsError:
    message = (
        f"{file} has no marks in a column {COLUMN}, so it is not known which rows of {folder} it holds. Write it again:"
        f" d3async results {folder} (in a folder of an earlier version, run its own file once before)."
    )
    return SettingsError(message, code="feedback")


def read_like(parent: Parent, file: Path, job_file: JobFileOptions) -> JobFileOptions:
    """*job_file* for the feedback file *file*: what is not typed is as the rows of *parent* were read."""
    before = json.loads(parent.meta.get("read_by") or "{}")
    options = {name: before[name] for name in _REMEMBERED if before.get(name)}
    lists = {"map": before.get("names"), "set": before.get("values")}
    options |= {name: tuple(value) for name, value in lists.items() if value}
    command = job_file.command or before.get("command")
    kept = SavedMapping("the run", parent.folder, options)
    return replace(job_file, command=command, kept=kept, **_form_like(before, file, job_file))


def _form_like(before: Mapping[str, Any], file: Path, job_file: JobFileOptions) -> dict[str, Any]:
    """Encoding and separator as typed for the run's own file, where *file* cannot be read without them."""
    try:
        with open_table(file, kind=job_file.format, encoding=job_file.encoding, delimiter=job_file.delimiter) as table:
            sure = table.format.kind == "xlsx" or table.format.bom or table.format.codec in _PLAIN
    except JobFileError:
        sure = False
    encoding = job_file.encoding or (None if sure else before.get("encoding"))
    delimiter = job_file.delimiter or before.get("delimiter")
    if delimiter and not has_marks(file, kind=job_file.format, encoding=encoding, delimiter=delimiter):
        delimiter = job_file.delimiter
    return {"encoding": encoding, "delimiter": delimiter}


def settings_like(parent: Parent) -> dict[str, str]:
    """The settings that decide what the rows of *parent* mean and where they go, where they are not typed."""
    kept = json.loads(parent.meta.get("options") or "{}")
    found = {name: kept.get(name) for name in ("profile", "username")} | {"site": parent.meta.get("site")}
    return {name: value for name, value in found.items() if isinstance(value, str) and value}


def load_feedback(
    folder: RunFolder,
    parent: Parent,
    file: Path,
    job_file: JobFileOptions,
    servers: Servers,
    *,
    own: Settings | None,
    review: FileCheck,
    observer: OperationObserver,
    retry_unknown: bool = False,
) -> LoadedFile | None:
    """Check *file* and bring its rows into the journal; None when rows are invalid and none may be left out.

    What is wrong and odd is noted in *review*. Nothing holds until the folder is committed. Raises `JobFileError`, and
    `SettingsError` when a row may not be sent.
    """
    at = own.site if own else parent.meta.get("site") or None
    inputs, now = parent.inputs, datetime.now(UTC)
    with open_job_file(
        file, job_file, site=at or "", now=now, need_site=True, route=servers.route(at), feedback_of=inputs
    ) as examined:
        book = FeedbackRows(folder.db)
        continuation = _continuation(folder, parent, book, retry_unknown=retry_unknown, job_file=job_file)
        stage, left_out = folder.stage(), 0

        def jobs() -> Iterator[Job]:
            nonlocal left_out
            for entry in review.watch(continuation.entries(examined.with_marks(), keep=book.keep)):
                if isinstance(entry, Job) and entry.selected:
                    yield entry
                else:
                    left_out += 1

        stage.add(jobs())
        _check_refused(file, parent, continuation)
        _find_repeated(stage, book, review, allow=job_file.allow_duplicates)
        lines = file_lines(examined, review.rows + continuation.done + continuation.unknown)
        observer.detail("\n".join([*lines, *_continued_lines(parent, continuation)]))
        if review.invalid and not job_file.skip_invalid:
            return None
        homes = homes_of(stage, servers, own)
        whole = not (left_out or review.invalid or continuation.unknown)
        loaded = _continued(folder, file, examined, stage, homes, skip_invalid=job_file.skip_invalid)
        return replace(loaded, invalid=review.invalid, taken_in=loaded.taken_in if whole else None)


def _continuation(
    folder: RunFolder, parent: Parent, book: FeedbackRows, *, retry_unknown: bool, job_file: JobFileOptions
) -> Continuation:
    return Continuation(
        book,
        folder.meta_of("uid") or "",
        parent.input_name,
        is_unchanged=partial(same_text, inputs=parent.inputs),
        with_items=lambda raw, items, kept: narrowed(raw, items, kept, parent.inputs),
        retry_unknown=retry_unknown,
        allow_duplicates=job_file.allow_duplicates,
    )


def _continued(
    folder: RunFolder,
    file: Path,
    examined: OpenJobFile,
    stage: Stage,
    homes: SettingsByProfile,
    *,
    skip_invalid: bool,
) -> LoadedFile:
    """Bring the staged rows into the journal; `taken_in` is set where *file* is in the run folder."""
    refuse_other_servers(folder, homes)
    digest = digest_of(examined.table.file)
    known = {"path": os.path.abspath(file), "sha256": digest, "skip_invalid": skip_invalid}  # noqa: PTH100 - links stay as they are
    changes = folder.continue_rows({**meta_of(homes, folder.meta()), FEEDBACK: json.dumps(known)})
    unknown = unknown_by_command(folder.db, staged=True)
    taken_in = (file.name, digest, stage.jobs) if _lies_in(file, folder.folder) else None
    return LoadedFile(examined.name, stage, changes, unknown, 0, homes, taken_in=taken_in)


def _check_refused(file: Path, parent: Parent, continuation: Continuation) -> None:
    pairs, counts = continuation.refused()
    if counts:
        advice = (
            f"Take these rows out of {file.name}, or mend {parent.input_name} and run it again;"
            f" `d3async results {parent.folder}` writes feedback files that fit."
        )
        raise SettingsError(refusal(file.name, parent.input_name, pairs, counts, advice), code="feedback")


def _find_repeated(stage: Stage, book: FeedbackRows, review: FileCheck, *, allow: bool) -> None:
    """Note rows that were mended into one another, or have the id of another row of the run."""
    for repeated in stage.duplicates(allow=allow, meant=book.is_unchanged):
        review.note(repeated)
    for row, line, own_id, other in book.reject_ids_of_others():
        problem = Problem("id", "id", own_id, f"is the id of line {other} of the file already", "make ids unique")
        review.note(Invalid(row=row, line=line, raw="", problems=(problem,)))


def _continued_lines(parent: Parent, continuation: Continuation) -> list[str]:
    lines = [f"  continues the run in {parent.folder} ({parent.input_name})"]
    if continuation.done:
        lines.append(f"  {continuation.done:,} done already as the file says")
    if continuation.unknown:
        unknown = f"{continuation.unknown:,} unknown: not sent, whatever the file says of them; d3async settle --help"
        lines.append(f"  {unknown}")
    return lines


def _lies_in(file: Path, folder: Path) -> bool:
    return file.absolute().parent.resolve() == folder.resolve()
