"""A feedback file on its way back into the run that it came from: which folder that is, and how its rows are read."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from d3async.cli.homes import check_homes, meta_of
from d3async.cli.jobfile import examine
from d3async.cli.loading import Loaded, homes_of
from d3async.cli.mapping import Kept, file_lines
from d3async.errors import JobFileError, SettingsError
from d3async.files.feedback import narrowed
from d3async.files.feedback_files import digest_of
from d3async.files.marked import has_marks, same_text
from d3async.files.read import open_table
from d3async.files.suggestions import FEEDBACK
from d3async.files.write import inputs_of
from d3async.journal.continuation import Continuation
from d3async.journal.counts import unknown_by_command
from d3async.journal.feedback import FeedbackBook
from d3async.journal.read import FILE, JournalReader
from d3async.sansio.feedback_rows import refusal
from d3async.sansio.job import Invalid, Job, Problem
from d3async.sansio.next_step import APP
from d3async.sansio.row_marks import COLUMN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from d3async.cli.jobfile import JobFileOptions
    from d3async.cli.review import Review
    from d3async.cli.servers import Servers
    from d3async.files.inputs import Inputs
    from d3async.journal.sqlite import RunFolder
    from d3async.journal.stage import Stage
    from d3async.operations.observer import Observer
    from d3async.settings import Settings

_REMEMBERED = ("id_column", "date_format", "time_zone", "server_time_zone")
_PLAIN = frozenset({"utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"})


@dataclass(frozen=True, slots=True)
class Parent:
    """The run that a feedback file continues: its folder, what its journal says of itself, and how its rows look."""

    folder: Path
    meta: Mapping[str, str]
    inputs: Inputs

    @property
    def input_name(self) -> str:
        """What the user calls the file that the run began with."""
        return self.meta.get("input") or "the file"


def parent_of(file: Path, output: Path | None, job_file: JobFileOptions) -> Parent | None:
    """The run that *file* continues; None where it is no feedback file. Raises `SettingsError`, `JournalError`.

    It is the one in whose folder the file lies, unless *output* names one.
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
    with JournalReader(folder / FILE) as reader:
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
    kept = Kept("the run", parent.folder, options)
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
    review: Review,
    observer: Observer,
    retry_unknown: bool = False,
) -> Loaded | None:
    """Check *file* and bring its rows into the journal; None when rows are invalid and none may be left out.

    What is wrong and odd is noted in *review*. Nothing holds until the folder is committed. Raises `JobFileError`, and
    `SettingsError` when a row may not be sent.
    """
    at = own.site if own else parent.meta.get("site") or None
    inputs, now = parent.inputs, datetime.now(UTC)
    with examine(
        file, job_file, site=at or "", now=now, need_site=True, route=servers.route(at), feedback_of=inputs
    ) as examined:
        book = FeedbackBook(folder.db)
        continuation = Continuation(
            book,
            folder.meta_of("uid") or "",
            parent.input_name,
            is_unchanged=partial(same_text, inputs=inputs),
            with_items=lambda raw, items, kept: narrowed(raw, items, kept, inputs),
            retry_unknown=retry_unknown,
            allow_duplicates=job_file.allow_duplicates,
        )
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
        check_homes(folder, homes)
        digest = digest_of(examined.table.file)
        known = {"path": os.path.abspath(file), "sha256": digest, "skip_invalid": job_file.skip_invalid}  # noqa: PTH100 - links stay as they are
        changes = folder.continue_rows({**meta_of(homes, folder.meta()), FEEDBACK: json.dumps(known)})
        unknown = unknown_by_command(folder.db, staged=True)
        whole = not (left_out or review.invalid or continuation.unknown)
        taken_in = (file.name, digest, stage.jobs) if whole and _lies_in(file, folder.folder) else None
        return Loaded(examined.name, stage, changes, unknown, review.invalid, homes, taken_in=taken_in)


def _check_refused(file: Path, parent: Parent, continuation: Continuation) -> None:
    pairs, counts = continuation.refused()
    if counts:
        advice = (
            f"Take these rows out of {file.name}, or mend {parent.input_name} and run it again;"
            f" `d3async results {parent.folder}` writes feedback files that fit."
        )
        raise SettingsError(refusal(file.name, parent.input_name, pairs, counts, advice), code="feedback")


def _find_repeated(stage: Stage, book: FeedbackBook, review: Review, *, allow: bool) -> None:
    """Note rows that were mended into one another, or have the id of another row of the run."""
    for repeated in stage.duplicates(allow=allow):
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
