"""What a journal holds: states, records of rows, items and runs, results of calls, events, changes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from d3async.d3.commands import all_commands
from d3async.d3.task_search import unmarked
from d3async.errors import ConservationError, LookAlikeError, SimilarPair
from d3async.policy.look_alikes import Lines, NewRow, SentRow, described
from d3async.policy.outcome import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from d3async.d3.call import Call
    from d3async.d3.commands import Command
    from d3async.policy.outcome import Verdict


class RowRecord(NamedTuple):
    """What became of one row of the current file. *sent_at* and *done_at* are seconds since 1970, UTC.

    *raw* is the row's own text. The item counts are None for rows without items and for rows none of whose items was
    tried. *label*, the incident it is about, and *answer*, the id of D3's answer, are given only where asked for.
    """

    row: int
    line: int
    outcome: str
    code: str
    message: str
    http: int | None
    attempts: int
    sent_at: float | None
    done_at: float | None
    raw: str
    items_ok: int | None
    items_failed: int | None
    items_unknown: int | None
    label: str | None
    answer: int | None


class ItemRecord(NamedTuple):
    """What became of one linked incident of one row; *source* is the incident it was linked to."""

    row: int
    line: int
    source: str
    item: str
    outcome: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class FolderOwner:
    """Who holds the run folder: *since* in seconds since 1970, UTC."""

    pid: int
    host: str
    since: float | None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run over the folder. *facts* are what the run wrote about itself; times in seconds since 1970, UTC."""

    epoch: int
    started_at: float | None
    finished_at: float | None
    exit_code: int | None
    facts: dict[str, Any] = field(default_factory=dict)


INTERRUPTED = "It was sent and no answer is recorded: it may have happened."
_OUTCOME = {"pending": "unsent", "sent": "unknown"}
_STATES = {"unsent": ("pending",), "unknown": ("unknown", "sent")}


def outcome_of(state: str) -> str:
    """The outcome that a row or an item of *state* has; of what is in flight it is not known."""
    return _OUTCOME.get(state, state)


def states_of(outcomes: Iterable[str]) -> list[str]:
    """The states whose outcome is one of *outcomes*."""
    return [state for outcome in outcomes for state in _STATES.get(outcome, (outcome,))]


def counted(found: Iterable[tuple[str, int]], place: Path | str) -> dict[str, int]:
    """Numbers by state as numbers by outcome, all six always. Raises `ConservationError` for any other state."""
    counts = dict.fromkeys(OUTCOMES, 0)
    for state, number in found:
        outcome = outcome_of(state)
        if outcome not in counts:
            raise ConservationError(f"{place}: a row has the unheard-of state {state!r}")
        counts[outcome] += number
    return counts


def check_numbers(
    place: Path | str, expected: int, found: tuple[int, int | None, int | None], outcomes: Mapping[str, int]
) -> None:
    """Raise `ConservationError` unless *found*, (how many, first, last), is 1 to *expected*, each with an outcome."""
    rows, first, last = found
    by_outcome = sum(outcomes.values())
    if rows != expected or by_outcome != expected or (rows and (first, last) != (1, expected)):
        raise ConservationError(
            f"{place}: the file has {expected} rows, the journal {rows} ({first} to {last}), "
            f"outcomes add up to {by_outcome}; nothing was overwritten"
        )


def check_items(place: Path | str, broken: Sequence[tuple[int, str]]) -> None:
    """Raise `ConservationError` for the first of the rows that are *broken*: (row, state)."""
    if broken:
        row, state = broken[0]
        raise ConservationError(
            f"{place}: the items of row {row} do not add up to its outcome `{state}`; nothing was overwritten"
        )


@dataclass(frozen=True, slots=True)
class JobItem:
    """What became of one link; `unsent` where the run stopped before it."""

    item: str
    outcome: str
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOutcome:
    """What became of one job. *row* counts the jobs from 1.

    *outcome* is `ok`, `partial`, `failed`, `unknown`, `invalid` or `unsent`; *code* and *message* say why. *items* are
    the links of a RemoveLinkedIncidents. *attempts* counts requests that left, in all runs over the journal;
    *earlier* says that nothing was to be sent for it now. *command* is None for a row that could not be read.
    """

    row: int
    outcome: str
    code: str
    message: str
    command: Command | None
    username: str | None
    site: str
    items: tuple[JobItem, ...] = ()
    http: int | None = None
    attempts: int = 0
    earlier: bool = False


class CallResult(NamedTuple):
    """The last word about a call: what the answer proves, D3's answer as text, when it came (seconds since 1970)."""

    call: Call
    verdict: Verdict
    answer: str | None
    at: float


class RowOutcome(NamedTuple):
    """What became of one row. *items* of a RemoveLinkedIncidents row: (ok, failed, unknown).

    *told* is how an app is told of it, where one is.
    """

    row: int
    outcome: str
    code: str
    message: str
    items: tuple[int, int, int] = (0, 0, 0)
    told: JobOutcome | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something about the run rather than a row; see `schema`, table event."""

    at: float
    kind: str
    seconds: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows this run is to send. *retry_unknown* sends `unknown` rows of commands that are not repeatable too."""

    retry_unknown: bool = False
    serial: bool = False


@dataclass(frozen=True, slots=True)
class Changes:
    """What a re-run found: rows as before, new, changed under the same id, gone from the file, ok but changed since.

    *changed_in_doubt* rows may have happened as they were: they are not sent again by themselves. *mended* rows were
    invalid before and stand in the file no more; what they became is among the *new* ones. *read_otherwise* rows are
    done as they were read when they were sent: among the *same* ones, for their text is; so are those that are done
    *as_mended* in a feedback file.
    """

    same: int
    new: int
    changed: int
    vanished: int
    changed_after_ok: int
    changed_in_doubt: int
    mended: int = 0
    read_otherwise: int = 0
    as_mended: int = 0


TOLD = 100
"""Pairs that are shown in full."""
OUTCOME = {"ok": "ok", "partial": "partial", "pending": "unsent", "failed": "unsent"}
"""What is said of a row that another one looks like, by its state; of others it is unknown."""


@dataclass(frozen=True, slots=True)
class Similar:
    """What was found. *count* rows look like rows sent before, the first hundred of them are *pairs*, all are *lines*.

    *other_day* and *other_name* rows only resemble rows sent before.
    """

    count: int
    pairs: tuple[SimilarPair, ...]
    lines: Lines
    other_day: int
    other_name: int

    def error(self) -> LookAlikeError:
        """What is raised where no user can be asked."""
        words = "\n".join(described(self.pairs, self.count, self.lines))
        return LookAlikeError(f"Nothing was sent. {words}", pairs=self.pairs, count=self.count)


NOTHING_SIMILAR = Similar(0, (), Lines(), 0, 0)


def by_line(pair: tuple[NewRow, SentRow]) -> tuple[int, int]:
    """Sorts pairs as their new rows are in the file."""
    return (pair[0].line or 0, pair[0].job)


def row_fields(command: str, params: str, mark: str | None) -> dict[str, str]:
    """The fields of a row by name, without its *mark*; *params* is `Request.params`."""
    kind = all_commands()[command]
    asked = json.loads(params)
    if mark is not None:
        asked = unmarked(asked, mark)
    values = {name: asked.get(kind.parameter(name)) for name in kind.model_fields}
    told = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    return {name: value for name, value in told.items() if values[name] is not None}
