"""What to do next with a run: commands that are safe to type as they are, and sentences where something comes first."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from d3async.errors import GONE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

UNAUTHORIZED: Final = "unauthorized"
"""Why nothing more is sent to a D3 that does not accept the key."""
_HELD_BY: Final[Mapping[str, str]] = {
    "unreachable": "D3 could not be reached",
    "not_d3": "something else answers at D3's address",
    "throttled": "D3 asked for a longer pause than --max-wait allows",
    "journal": "the run folder could not be written",
}
"""Why a run ended early that would end in the same way at once: what is left is sent only once that is over."""
GOES_ON: Final = frozenset({"interrupted", "terminated", "halt"})
"""Why a run ended early that goes on when it is typed again."""
STDIN: Final = "stdin"
APP: Final = "(jobs of an app)"

READING: Final[Mapping[str, str]] = {
    "command": "--command", "values": "--set", "names": "--map", "id_column": "--id-column",
    "date_format": "--date-format", "time_zone": "--time-zone", "server_time_zone": "--server-time-zone",
    "encoding": "--encoding", "delimiter": "--delimiter", "sheet": "--sheet", "format": "--format",
    "skip_invalid": "--skip-invalid", "max_links_per_call": "--max-links-per-call", "serial_by": "--serial-by",
    "mark_tasks": "--mark-tasks", "verify": "--verify", "halts": "--halt", "drain_timeout": "--drain-timeout",
}  # fmt: skip
"""Options of `run` that decide what rows say and how they are sent: a suggested command has them."""
SETTINGS: Final[Mapping[str, str]] = {
    "profile": "--profile", "username": "--username", "site": "--site", "rate": "--rate",
    "concurrency": "--concurrency", "timeout": "--timeout", "max_attempts": "--max-attempts",
    "max_wait": "--max-wait", "max_outage": "--max-outage", "jwt_lifetime": "--jwt-lifetime",
    "share_limit": "--share-limit",
}  # fmt: skip
"""Settings that a suggested command has."""
PLACES: Final[Mapping[str, str]] = {
    "config": "--config", "base_url": "--base-url", "api_key_header": "--api-key-header",
    "api_key_file": "--api-key-file", "jwt_file": "--jwt-file", "jwt_secret_file": "--jwt-secret-file",
    "ca_bundle": "--ca-bundle", "client_cert": "--client-cert", "client_key": "--client-key",
    "limit_url_file": "--limit-url-file",
}  # fmt: skip
"""Settings that say where keys are and where they go: a journal, which others may have written, keeps only names."""
NEVER: Final = frozenset(
    {"limit", "where", "allow_duplicates", "allow_similar", "retry_unknown", "fresh", "yes", "dry_run", "plan"}
)
"""Options that no suggested command has."""

_GOING_ON: Final = "to go on"
_MENDING: Final = "to mend"
_SETTLING: Final = "to settle"
_DOCTORS: Final = 3
_BACKSLASH: Final = "\\"
_SAFE_ON_WINDOWS: Final = re.compile(r"(?!-)[\w./:\\=+-]+|--[a-z-]+=?")
_NOT_ON_WINDOWS: Final = re.compile(r'["%$`“”„]')
"""Characters that cmd.exe or PowerShell replace inside double quotes, or that end these."""


class Note(NamedTuple):
    """Words for the user, after a label like `to go on`."""

    label: str
    text: str


class SuggestedCommand(NamedTuple):
    """A command to type, and what it is for."""

    label: str
    arguments: tuple[str, ...]


class Steps(NamedTuple):
    """What to do next; both are empty when nothing is left to do."""

    commands: tuple[SuggestedCommand, ...] = ()
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is known of a run that is over. Counts are rows.

    *file* is the job file's path, None where it is not there any more; *name* is what the user calls it. *stop* is the
    code of why the run ended early. *held* are rows left at a D3 that has to be mended or waited for, by the code of
    why; *doctors* are the profiles to examine. *repeatable* are unknown rows that the next run sends again,
    *did_not_happen* failed ones of which a look into D3 proved that. *identical*: identical rows are among those
    that are left. *progress*: the last run brought a row to `ok`, or was cut short. *home* is where the folder was.
    *feedback* is the feedback file that mended rows which are left; what the run's own file says of them failed before.
    """

    outcomes: Mapping[str, int]
    folder: str
    name: str
    file: str | None
    usual_folder: bool = True
    reading: Sequence[str] = ()
    settings: Sequence[str] = ()
    forgotten: Sequence[str] = ()
    stop: str | None = None
    held: Mapping[str, int] = field(default_factory=dict)
    doctors: Sequence[str | None] = ()
    repeatable: int = 0
    did_not_happen: int = 0
    to_mend: int = 0
    mend_file: str = ""
    identical: bool = False
    log_key: bool = False
    looked_up: bool = False
    progress: bool = True
    replaced: bool = False
    home: str = ""
    feedback: FeedbackRun | None = None


class FeedbackRun(NamedTuple):
    """A feedback file that says what it said when it was run, and how it was run. *inside*: in its run folder."""

    path: str
    inside: bool
    reading: Sequence[str] = ()


def next_steps(at: Situation) -> Steps:
    """The commands that would send or settle something by themselves, and a sentence for what must be mended first."""
    if at.stop == GONE:
        where = f" to {at.home}" if at.home else ""
        text = f"move {at.folder} back{where} first: without it the rows that are done would be sent again"
        return Steps(notes=(Note(_GOING_ON, text),))
    if at.replaced:
        return Steps(notes=(Note("note", "this run was replaced by a newer one with --fresh; nothing of it goes on"),))
    going = at if at.feedback is None else _of_feedback(at, at.feedback)
    sending = _send(going)
    found = [*([sending] if sending else _wait(going)), _settle(at), _mend(at)]
    commands = tuple(step for step in found if isinstance(step, SuggestedCommand))
    return Steps(commands, tuple(step for step in found if isinstance(step, Note)))


def _send(at: Situation) -> SuggestedCommand | Note | None:
    """The way to send what is left."""
    unsent = at.outcomes.get("unsent", 0)
    count = unsent + at.repeatable + at.did_not_happen - sum(at.held.values())
    if count <= 0:
        return None
    label = _GOING_ON if unsent else "again"
    if at.name == APP:
        return Note(label, "run the app again with the same jobs and the same journal")
    missing = _missing(at, stuck=not at.progress and not at.did_not_happen and (at.stop == "halt" or not unsent))
    if missing is None:
        return SuggestedCommand(label, run_arguments(at))
    return Note(label, f"{_rows_are(count)} left: {missing}")


def _of_feedback(at: Situation, file: FeedbackRun) -> Situation:
    """*at* for the way to go on with *file*; the rest of the run follows once its rows are sent."""
    return replace(at, name=file.path, file=file.path, usual_folder=file.inside, reading=file.reading, identical=False)


def _missing(at: Situation, *, stuck: bool) -> str | None:
    """What must be done before rows can be sent; None where a command sends them."""
    if at.name == STDIN:
        return f"give the same rows on stdin again, with -o {at.folder} and --continue"
    if at.file is None:
        return f"put {at.name} back where it was, then run it again"
    if at.identical:
        return f"run {at.name} again, and say once more that identical rows are meant"
    if at.forgotten:
        return f"run {at.name} again with --continue and, as before, {_and(at.forgotten)}"
    return f"no row got ok this time: see above why, and run {at.name} again later" if stuck else None


def run_arguments(at: Situation) -> tuple[str, ...]:
    """The command that brings D3 to what the file says, in the run folder there is."""
    place = () if at.usual_folder else ("-o", as_path(at.folder))
    return ("d3async", "run", as_path(at.file or at.name), *place, *at.reading, *at.settings, "--continue")


def _wait(at: Situation) -> list[Note]:
    """What must come first where a D3 takes nothing more; the run of the same file then sends what is left."""
    again = f"run {at.name} again: what is done is not sent again"
    found = []
    for stop, count in at.held.items():
        if stop == UNAUTHORIZED:
            found.append(Note(_MENDING, f"D3 does not accept the key: {_examine(at)}; once D3 accepts it, {again}"))
        else:
            why = _HELD_BY.get(stop, "the run says why it stopped")
            found.append(Note(_GOING_ON, f"{_rows_are(count)} left: {why}; once that is over, {again}"))
    return found


def _examine(at: Situation) -> str:
    profiles = [profile for profile in at.doctors if profile is not None]
    named = [["--profile", profile] for profile in profiles[:_DOCTORS]] or [list(at.settings)]
    looks = [typed(["d3async", "doctor", *words], windows=False) or "d3async doctor" for words in named]
    return f"{_and(looks)} {'says' if len(looks) == 1 else 'say'} more"


def _settle(at: Situation) -> SuggestedCommand | Note | None:
    """The way to settle rows that may have happened and are not sent again by themselves."""
    count = at.outcomes.get("unknown", 0) - at.repeatable
    if count <= 0:
        return None
    rows = "1 row" if count == 1 else f"{count:,} rows"
    if at.log_key and not at.looked_up and not at.forgotten:
        return SuggestedCommand(_SETTLING, ("d3async", "reconcile", as_path(at.folder), *at.settings))
    by_hand = f"look for {rows} in D3 and write down what became of them: d3async settle --help"
    if at.looked_up:
        return Note(_SETTLING, by_hand)
    if at.log_key:
        return Note(_SETTLING, f"look {rows} up with d3async reconcile and, as before, {_and(at.forgotten)}")
    return Note(_SETTLING, f"{by_hand}; with a key for D3's log, d3async reconcile looks them up")


def _mend(at: Situation) -> Note | None:
    """Rows that D3 refused, or that are wrong: no command helps before they are changed."""
    if at.to_mend <= 0:
        return None
    if at.name == APP:
        return Note(_MENDING, "change the jobs that failed, then run the app again with the same journal")
    return Note(_MENDING, f"{at.mend_file}: mend its rows, then run that file; or mend {at.name} and run it again")


def fleet_steps(
    outcomes: Mapping[str, int], *, run: str, submitted: Mapping[str, Any], file: str | None, fleet: Sequence[str]
) -> Steps:
    """The same for the run called *run* of a fleet, when no worker has anything to do for it. *fleet* is `--fleet URL`.

    *submitted* are the options it was submitted with, as far as they are kept.
    """
    commands, notes = [], []
    if outcomes.get("unsent"):
        words = ("d3async", "submit", as_path(file or ""), *arguments_of(submitted, {**_SUBMITTED, **READING}), *fleet)
        if file is None or submitted.get("forgotten") or submitted.get("allow_duplicates"):
            notes.append(Note(_GOING_ON, "submit its file again, as before: what is done is not sent again"))
        else:
            commands.append(SuggestedCommand(_GOING_ON, words))
    if outcomes.get("unknown"):
        commands.append(SuggestedCommand(_SETTLING, ("d3async", "reconcile", run, *fleet)))
    return Steps(tuple(commands), tuple(notes))


_SUBMITTED: Final[Mapping[str, str]] = {"run": "--run", "profile": "--profile"}


def arguments_of(options: Mapping[str, Any], names: Mapping[str, str]) -> tuple[str, ...]:
    """Those of *options* that *names* has, as they are typed; an empty text takes back what a profile says."""
    found: list[str] = []
    for name, option in names.items():
        value = options.get(name)
        if isinstance(value, bool):
            found += [option] if value else [option.replace("--", "--no-", 1)] if name == "share_limit" else []
        elif isinstance(value, list | tuple):
            found += [word for one in value if isinstance(one, str) for word in (option, one)]
        elif isinstance(value, int | float):
            found += [option, f"{value:.12g}"]
        elif isinstance(value, str):
            found += [option, value] if value else [f"{option}="]
    return tuple(found)


def forgotten(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The options that were given and whose value the journal with these *options* does not keep."""
    names = options.get("forgotten")
    return tuple(PLACES[name] for name in names if name in PLACES) if isinstance(names, list) else ()


def as_path(path: str) -> str:
    """*path* as an argument that is no option."""
    return f"./{path}" if path.startswith("-") else path


def typed(words: Iterable[str], *, windows: bool) -> str | None:
    """*words* as one line for the user's shell; None where no line means the same in each shell there is.

    On Windows that is cmd.exe as well as PowerShell.
    """
    words = list(words)
    if not all(word.isprintable() for word in words):
        return None
    if not windows:
        return shlex.join(words)
    if any(_NOT_ON_WINDOWS.search(word) for word in words):
        return None
    return " ".join(word if _SAFE_ON_WINDOWS.fullmatch(word) else _quoted(word) for word in words)


def _quoted(word: str) -> str:
    # backslashes before the quote at the end would take it for a part of the word
    return f'"{word}{word[len(word.rstrip(_BACKSLASH)) :]}"'


def lines(steps: Steps, *, windows: bool) -> list[Note]:
    """*steps* as labels and texts, in the order in which they are done."""
    return [command_line(command, windows=windows) for command in steps.commands] + list(steps.notes)


def command_line(command: SuggestedCommand, *, windows: bool) -> Note:
    """*command* as its label and the line to type."""
    line = typed(command.arguments, windows=windows)
    return Note(
        command.label, line or f"d3async {command.arguments[1]} again: its words cannot be shown as a line to type"
    )


def _rows_are(count: int) -> str:
    return "1 row is" if count == 1 else f"{count:,} rows are"


def _and(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)
