"""What to do next with a run, from what its journal says: see `policy.next_step`, which decides it."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d3async.d3.commands import all_commands
from d3async.errors import GONE
from d3async.files.feedback_writer import digest_of, ending_of_kind, feedback_paths
from d3async.journal.sqlite.reader import FolderReader
from d3async.policy.hand_settlement import CODE
from d3async.policy.next_step import (
    APP,
    GOES_ON,
    READING,
    SETTINGS,
    STDIN,
    UNAUTHORIZED,
    FeedbackRun,
    Note,
    Situation,
    Steps,
    arguments_of,
    command_line,
    fleet_steps,
    forgotten,
    lines,
    next_steps,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from d3async.journal.protocols import RunReader

OPTIONS = "options"
"""Where a journal keeps the options that a suggested command has: `policy.next_step` chooses among them."""
FEEDBACK = "feedback"
"""Where a journal keeps which feedback file was run last, and how."""
INPUT_PATH = "input_path"
"""Where a journal keeps the path of its job file."""
REPLACED = "replaced_at"
"""Where a journal keeps when its folder was moved aside for a new run."""
_GOES_ON = GOES_ON | {GONE}
_UNDONE = frozenset({CODE, "not_found", "still_linked"})
"""Codes of failed rows of which a look into D3 proved that they did not happen: they need not be changed."""


def suggest(
    reader: RunReader,
    facts: Mapping[str, Any],
    *,
    places: Sequence[str] = (),
    mend_file: Path | None = None,
    seen_from: Path | None = None,
) -> Steps:
    """What to do next with the run of *reader*; *facts* are those of its last run.

    *places* are the settings that a journal does not keep, where they are known: as arguments. Paths are as they are
    *seen_from* there, else from the present folder.
    """
    if not isinstance(reader, FolderReader):
        return _of_fleet(reader, facts)
    folder = str(reader.folder) if seen_from is None else _short(reader.folder, seen_from)
    return next_steps(_situation(reader, facts, folder, places=places, mend_file=mend_file, seen_from=seen_from))


def suggested_lines(steps: Steps) -> list[Note]:
    """*steps* as labels and texts, for the shell of this system."""
    return lines(steps, windows=os.name == "nt")


def to_type(steps: Steps) -> list[str]:
    """The commands of *steps* alone."""
    return [command_line(command, windows=os.name == "nt").text for command in steps.commands]


def _situation(
    reader: FolderReader,
    facts: Mapping[str, Any],
    folder: str,
    *,
    places: Sequence[str],
    mend_file: Path | None,
    seen_from: Path | None,
) -> Situation:
    meta, outcomes = reader.meta(), reader.counts()
    options = _options(meta)
    repeatable, by_hand = _unknown(reader, outcomes)
    undone, to_mend = _not_done(reader, outcomes, verify=bool(options.get("verify")))
    held, doctors = _held(reader, facts, outcomes["unsent"] + repeatable + undone)
    home = str(facts.get("home") or "")
    file, reconciled, stop = _input(meta, reader.folder), facts.get("reconciled"), _code(facts.get("stop"))
    return Situation(
        outcomes=outcomes,
        folder=folder,
        name=meta.get("input") or "FILE",
        file=_short(file, seen_from) if file else None,
        usual_folder=file is not None and _same(file.with_suffix(".d3run"), reader.folder),
        reading=arguments_of(options, READING),
        settings=(*arguments_of(options, SETTINGS), *places),
        forgotten=() if places else forgotten(options),
        stop=None if stop == GONE and _same(Path(home), reader.folder) else stop,
        held=held,
        doctors=doctors,
        repeatable=repeatable,
        did_not_happen=undone,
        to_mend=to_mend,
        mend_file=str(mend_file or Path(folder) / _mend_name(reader, meta)),
        identical=options.get("allow_duplicates") is True and reader.has_identical(_once()),
        log_key=bool(by_hand & set(facts.get("log_keys") or ())),
        looked_up=isinstance(reconciled, dict) and not reconciled.get("ended_early"),
        progress=facts.get("exit_code") is None or not (stop == "halt" or repeatable) or reader.brought_forward(),
        replaced=REPLACED in meta,
        home=_short(Path(home), seen_from) if home else "",
        feedback=_feedback(reader, meta, seen_from) if outcomes["unsent"] else None,
    )


def _unknown(reader: FolderReader, outcomes: Mapping[str, int]) -> tuple[int, set[str | None]]:
    """Unknown rows that are sent again by themselves, and the profiles of those that are not."""
    unknown = reader.unknown_rows() if outcomes["unknown"] else []
    repeatable = sum(count for _, command, count in unknown if _repeatable(command))
    return repeatable, {profile for profile, command, _ in unknown if not _repeatable(command)}


def _not_done(reader: FolderReader, outcomes: Mapping[str, int], *, verify: bool) -> tuple[int, int]:
    """Rows that did not happen and need no mending, and rows to mend."""
    if not any(outcomes[name] for name in ("failed", "partial", "invalid")):
        return 0, 0
    undone = reader.failed_with(_UNDONE - ({"still_linked"} if verify else set()))
    return undone, reader.to_mend() - undone


def _mend_name(reader: FolderReader, meta: Mapping[str, str]) -> str:
    """The newest feedback file of failed rows in the folder, or the one that is written next."""
    newest = feedback_paths(reader.folder, "failed")[-1:]
    return newest[0].name if newest else f"failed.{ending_of_kind(json.loads(meta.get('format') or '{}').get('kind'))}"


def _feedback(reader: FolderReader, meta: Mapping[str, str], seen_from: Path | None) -> FeedbackRun | None:
    """The feedback file that was run last, if rows that it mended are left and it still says the same."""
    known = json.loads(meta.get(FEEDBACK) or "null")
    if known is None or not reader.has_mended_left():
        return None
    path = Path(known["path"])
    if not path.is_file():
        path = reader.folder / path.name
    try:
        with path.open("rb") as file:
            unchanged = digest_of(file) == known["sha256"]
    except OSError:
        return None
    inside = path.parent.resolve() == reader.folder.resolve()
    reading = ("--skip-invalid",) if known.get("skip_invalid") else ()
    return FeedbackRun(_short(path, seen_from), inside, reading) if unchanged else None


def _options(meta: Mapping[str, str]) -> dict[str, Any]:
    """The options the file was read with; of an older journal those that decided what its rows mean."""
    found = json.loads(meta.get(OPTIONS) or meta.get("read_by") or "{}")
    return {name: value for name, value in found.items() if value not in (None, [], False) or name == "share_limit"}


def _repeatable(command: str) -> bool:
    return command not in _once()


def _once() -> list[str]:
    return [name for name, command in all_commands().items() if not command.repeatable]


def _held(reader: FolderReader, facts: Mapping[str, Any], left: int) -> tuple[dict[str, int], list[str | None]]:
    """Rows that are left at a D3 that takes nothing more, by why it does not, and the profiles that need a key."""
    servers = facts.get("servers") or ()
    if len(servers) < 2:  # noqa: PLR2004 - where there is one, the stop of the run is its own
        stop = _code(facts.get("stop"))
        return ({} if stop is None or stop in _GOES_ON or not left else {stop: left}), []
    counts = reader.counts_by_profile()
    held: Counter[str] = Counter()
    doctors = []
    for server in servers:
        profile, stop = server["profile"], _code(server.get("stop"))
        unsent = counts[profile]["unsent"] if profile in counts else 0
        if stop is not None and stop not in _GOES_ON and unsent:
            held[stop] += unsent
            doctors += [profile] if stop == UNAUTHORIZED else []
    return dict(held), doctors


def _code(stop: object) -> str | None:
    return str(stop.get("code")) if isinstance(stop, dict) else None


def _input(meta: Mapping[str, str], folder: Path) -> Path | None:
    """Where the job file is; None where it is no file, or not there."""
    name = meta.get("input") or ""
    if name in {"", STDIN, APP}:
        return None
    known = [Path(meta[INPUT_PATH])] if meta.get(INPUT_PATH) else []
    beside = folder.parent / Path(name).name
    return next((path for path in (*known, beside) if path.is_file()), None)


def _short(path: Path, seen_from: Path | None = None) -> str:
    """*path* from the present folder, or from the one named, where it is below; else from the root."""
    whole = os.path.abspath(path)  # noqa: PTH100 - links stay as they are
    try:
        return str(Path(whole).relative_to(seen_from or Path.cwd()))
    except (ValueError, OSError):
        return whole


def _same(one: Path, other: Path) -> bool:
    return os.path.abspath(one) == os.path.abspath(other)  # noqa: PTH100 - as above


def _of_fleet(reader: RunReader, facts: Mapping[str, Any]) -> Steps:
    if facts.get("exit_code") is None:
        return Steps()
    return fleet_run_steps(str(reader.folder), reader.counts(), facts, ())


def fleet_run_steps(run: str, outcomes: Mapping[str, int], facts: Mapping[str, Any], fleet: Sequence[str]) -> Steps:
    """What to do next with the *run* of a fleet that is over."""
    submitted = facts.get("submitted") or {}
    path = Path(str(submitted.get("file") or ""))
    file = _short(path) if path.is_absolute() and path.is_file() else None
    return fleet_steps(outcomes, run=run, submitted=submitted, file=file, fleet=fleet)
