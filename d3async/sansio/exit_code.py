"""The exit code of a run, and what to do next, from its outcomes and why it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from d3async.sansio.retry import Stop

OK, SOME_FAILED, USAGE, INVALID_FILE, SOME_UNKNOWN, STOPPED, THROTTLED, INTERNAL = 0, 1, 2, 3, 4, 5, 6, 70
INTERRUPTED, TERMINATED = 130, 143
_STOPS = {"throttled": THROTTLED, "interrupted": INTERRUPTED, "terminated": TERMINATED, "fenced": USAGE}

_RECOUNTED = (None, OK, SOME_FAILED, SOME_UNKNOWN)
"""Exit codes that say what the rows became. Any other one says why the run stopped."""


def worst(stops: Iterable[Stop | None]) -> Stop | None:
    """Of why several servers ended early, what gives the highest exit code; None when none did."""
    found = [stop for stop in stops if stop is not None]
    return max(found, key=lambda stop: _STOPS.get(stop.code, STOPPED), default=None)


def exit_code(outcomes: Mapping[str, int], stop: Stop | None) -> int:
    """The code the README lists: a stop outranks unknown rows, unknown rows outrank failed ones.

    A halt rule that was reached by the last row has stopped nothing.
    """
    if stop is not None and (stop.code != "halt" or outcomes.get("unsent")):
        return _STOPS.get(stop.code, STOPPED)
    if outcomes.get("unknown"):
        return SOME_UNKNOWN
    return SOME_FAILED if any(outcomes.get(outcome) for outcome in ("failed", "partial", "invalid")) else OK


def recounted(code: int | None, outcomes: Mapping[str, int]) -> int:
    """The exit code of a run that ended with *code*, now that its rows have *outcomes*: why it stopped is kept."""
    return exit_code(outcomes, None) if code is None or code in _RECOUNTED else code
