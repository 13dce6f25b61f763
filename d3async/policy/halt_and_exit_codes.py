"""When to stop starting new work: `failed=3%`, `failed=20`, `unknown=5`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_RULE = re.compile(r"(failed|partial|unknown)\s*=\s*(\d+(?:\.\d+)?)\s*(%?)", re.IGNORECASE)


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
    """The rule *text* stands for. Raises `ValueError` saying what would be right."""
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
