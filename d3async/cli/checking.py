"""One `check` from file to exit code."""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
import sys
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from d3async.cli.console import out, say
from d3async.cli.jobfile import examine
from d3async.cli.mapping import save, tell_file, with_own, without_mapping
from d3async.cli.review import ERRORS, Review
from d3async.cli.servers import Servers
from d3async.cli.tally import Tally
from d3async.credentials import Hidden
from d3async.errors import JobFileError
from d3async.journal.stage import Stage
from d3async.sansio.exit_code import INVALID_FILE
from d3async.settings.sources import collect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from d3async.cli.examined import Examined
    from d3async.cli.jobfile import JobFileOptions

_CHECK_ONLY = frozenset({"--json", "--against-d3"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of `check` beside those of the job file. *settings* is what `settings_options` gathered."""

    settings: Mapping[str, Any]
    output: Path | None = None
    against_d3: bool = False
    as_json: bool = False
    save_mapping: bool = False


def check(file: Path, job_file: JobFileOptions, options: Options) -> int:
    """Check *file*, tell what was found, return the exit code. Raises `JobFileError` and `SettingsError`."""
    now = datetime.now(UTC).astimezone()
    site, servers = _site(options), Servers(options.settings)
    job_file = with_own(job_file, servers, save=options.save_mapping)
    with (
        examine(file, job_file, site=site, now=now, route=servers.route(site)) as examined,
        Review() as review,
        Tally() as tally,
    ):
        saved = save(job_file, examined) if options.save_mapping else ""
        try:
            for chunk in review.chunks(examined):
                tally.add(chunk)
        except JobFileError:
            review.tell(sent="")
            raise
        _find_duplicates(examined, review, tally, allow=job_file.allow_duplicates)
        tell_file(examined, review.rows, saved)
        if options.as_json:
            _print_json(examined, review, tally)
        else:
            _tell(examined, review, tally, job_file)
        _keep_errors(review, file, options)
        if options.against_d3 and not review.invalid:
            from d3async.cli.against import tell_against  # noqa: PLC0415 - aiohttp, for this option only

            tell_against(examined, servers)
        if not review.invalid:
            say(f"Nothing is wrong. To send it: {_run_line(file, sys.argv[1:], saved=bool(saved))}")
        return INVALID_FILE if review.invalid else 0


def _find_duplicates(examined: Examined, review: Review, tally: Tally, *, allow: bool) -> None:
    """What `run` would find, from the rows alone that may come again: most files have none."""
    suspect = tally.suspect()
    if suspect is None:
        return
    with closing(sqlite3.connect("")) as db:
        stage = Stage(db, keep=False)
        stage.add(entry for entry in examined if suspect(entry))
        before, already = review.invalid, stage.invalid
        for repeated in stage.duplicates(allow=allow):
            review.note(repeated)
        review.invalid = before + stage.invalid - already


def _run_line(file: Path, arguments: Sequence[str], *, saved: bool) -> str:
    """The same command line with `run` for `check`, without what is saved now."""
    if "check" not in arguments:
        return shlex.join(["d3async", "run", str(file)])
    arguments = without_mapping(arguments) if saved else arguments
    at = arguments.index("check")
    return shlex.join(
        ["d3async", *arguments[:at], "run", *(word for word in arguments[at + 1 :] if word not in _CHECK_ONLY)]
    )


def _site(options: Options) -> str:
    given, environ = Hidden({"site": options.settings["site"]}), Hidden(os.environ)
    at = options.settings
    found = collect(environ, profile=at["profile"], config=at["config"], needs=(), options=given)
    return str(found.values.get("site") or "")


def _tell(examined: Examined, review: Review, tally: Tally, job_file: JobFileOptions) -> None:
    if review.commands:
        say(f"  {_counts(examined, review, tally)}")
    if job_file.where or job_file.limit:
        say(f"  {review.selected:,} of them are selected")
    review.tell(sent="")


def _counts(examined: Examined, review: Review, tally: Tally) -> str:
    """`3,113 tasks to create: 41 people, 212 incidents`."""
    command = examined.command
    if command is None:
        return ", ".join(f"{count:,} {name}" for name, count in review.commands.items())
    count = tally.items if command.items else review.rows - review.invalid
    numbers = {
        name: (tally.subjects if at == command.subject else tally.people).count() for name, at in command.facets.items()
    }
    facets = [f"{number:,} {_singular(name) if number == 1 else name}" for name, number in numbers.items()]
    return f"{count:,} {command.nouns[count != 1]} to {command.verb}: {', '.join(facets)}"


def _singular(name: str) -> str:
    return "person" if name == "people" else name.removesuffix("s")


def _print_json(examined: Examined, review: Review, tally: Tally) -> None:
    """One object, its problems a line each as they may be many."""
    told: dict[str, Any] = {
        "file": examined.name,
        "rows": review.rows,
        "invalid": review.invalid,
        "commands": review.commands,
        "format": examined.format.to_json(),
        "counts": {"subjects": tally.subjects.count(), "people": tally.people.count(), "items": tally.items},
        "warnings": [group.public() for group in review.warnings],
    }
    out(json.dumps(told, ensure_ascii=False)[:-1] + ', "problems": [')
    comma = ""
    for problem in review.public():
        out(comma + json.dumps(problem, ensure_ascii=False))
        comma = ", "
    out("]}")


def _keep_errors(review: Review, file: Path, options: Options) -> None:
    """Write errors.csv where it was asked for or where more is wrong than was shown; an old one does not stay."""
    folder = options.output or (file.with_suffix(".d3run") if str(file) != "-" else None)
    if review.invalid and (options.output or not (review.problems.all_told or options.as_json)):
        if folder is None:
            say("All of them: give -o DIR, or --json")
        else:
            say(f"All of them: {review.keep(folder)}")
    elif folder is not None:
        (folder / ERRORS).unlink(missing_ok=True)
