"""When a run stops (`failed=3%`), its exit code, and the error that a stop is for an app."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from d3async.errors import (
    GONE,
    D3Error,
    FencedError,
    FolderGoneError,
    JournalError,
    NotSentError,
    ThrottledError,
    UnauthorizedError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Final

_RULE = re.compile(r"(failed|partial|unknown)\s*=\s*(\d+(?:\.\d+)?)\s*(%?)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Stop:
    """Start no new work: every further request would meet the same. The call itself did not happen."""

    code: str
    message: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Halt:
    """Stop once *amount* rows of this run, or that share of them (*percent*), have *outcome*."""

    outcome: str
    amount: float
    percent: bool

    def reached(self, counts: Mapping[str, int], rows: int) -> bool:
        """Whether *counts* of outcomes, of *rows* rows this run is to send, are enough to stop."""
        most = rows * self.amount / 100 if self.percent else self.amount
        found = counts.get(self.outcome, 0)
        return found > 0 and found >= most

    def __str__(self) -> str:
        return f"{self.outcome}={self.amount:.12g}{'%' if self.percent else ''}"


DEFAULT = Halt("unknown", 50, percent=False)


def parse(text: str) -> Halt:
    """The rule that *text* means. Raises `ValueError` saying what would be right."""
    found = _RULE.fullmatch(text.strip())
    if found is None or (found[3] and float(found[2]) > 100):  # noqa: PLR2004 - per cent
        raise ValueError(f"{text!r} is not a rule like failed=3%, failed=20 or unknown=5")
    return Halt(found[1].lower(), float(found[2]), percent=bool(found[3]))


def reached(rules: Iterable[Halt], counts: Mapping[str, int], rows: int) -> str | None:
    """The words of the first of *rules* that is reached, see `Halt.reached`; None where none is."""
    for rule in rules:
        if rule.reached(counts, rows):
            return f"--halt {rule}: {counts[rule.outcome]} rows {rule.outcome}"
    return None


def with_default(rules: Iterable[Halt]) -> tuple[Halt, ...]:
    """The given rules, and `unknown=50` unless one of them speaks of `unknown`."""
    given = tuple(rules)
    return given if any(rule.outcome == "unknown" for rule in given) else (*given, DEFAULT)


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


GRACE: Final = 0.4
"""Seconds for which answers are waited for once the run folder is gone."""
_KINDS: dict[str, tuple[type[D3Error], int | None, bool]] = {
    "unauthorized": (UnauthorizedError, 401, True),
    "throttled": (ThrottledError, 429, True),
    "journal": (JournalError, None, False),
    GONE: (FolderGoneError, None, False),
    "fenced": (FencedError, None, False),
}


def stop_of(error: JournalError) -> Stop:
    """The stop of a run whose journal raised *error*."""
    return Stop(GONE if isinstance(error, FolderGoneError) else "journal", error.message)


def error_for_stop(stop: Stop, *, attempts: int = 0) -> D3Error:
    """The error that *stop* means; *attempts* counts requests that left."""
    kind, status, sent = _KINDS.get(stop.code, (NotSentError, None, False))
    return kind(stop.message, code=stop.code, status=status, retry_after=stop.retry_after, attempts=attempts, sent=sent)
