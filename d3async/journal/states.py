"""The states a journal keeps, as the outcomes it tells, whichever database keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from d3async.errors import ConservationError
from d3async.sansio.outcome import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

INTERRUPTED = "It was sent and no answer is recorded: it may have happened."
_OUTCOME = {"pending": "unsent", "sent": "unknown"}
_STATES = {"unsent": ("pending",), "unknown": ("unknown", "sent")}


def outcome_of(state: str) -> str:
    """The outcome that a row or an item of *state* has; of what is in flight nobody knows."""
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
