"""What went wrong, by cause: the same trouble of many rows is told once, with the first rows that have it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from d3async.files.results import one_line, with_items

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from d3async.journal.reader import Reader
    from d3async.journal.records import ItemRecord, RowRecord

TROUBLED = ("partial", "failed", "unknown", "invalid")
_SPECIFIC = re.compile(r""""[^"]*+"|'[^']*+'|(?<![^\s"',;:()])[^\s\d"',;:()]*+\d[^\s"',;:()]*+""")
_LONGEST = 300
_SHOWN = 120


@dataclass(frozen=True, slots=True)
class Trouble:
    """One row, or one of its items, that did not end well. *raw* is how the row begins in the file."""

    row: int
    line: int
    label: str
    item: str
    outcome: str
    code: str
    message: str
    raw: str


@dataclass(slots=True)
class Cause:
    """Trouble of one kind: *count* of it in *rows* rows, the *first* ones kept."""

    outcome: str
    code: str
    message: str
    count: int = 0
    rows: int = 0
    first: list[Trouble] = field(default_factory=list)
    last_row: int = 0
    same: bool = True

    @property
    def text(self) -> str:
        """The message that all of it has; where they differ in names and numbers, `…` stands for these."""
        return (self.message if self.same else alike(self.message)) or self.code or self.outcome

    def tells(self, name: Literal["label", "item"]) -> bool:
        """Whether any of the first rows has a *name*."""
        return any(getattr(trouble, name) for trouble in self.first)

    def add(self, trouble: Trouble, keep: int) -> None:
        """Count *trouble*, and keep it if it is among the first *keep*."""
        self.count += 1
        self.rows += trouble.row != self.last_row
        self.last_row = trouble.row
        self.same = self.same and trouble.message == self.message
        if len(self.first) < keep:
            self.first.append(trouble)


@dataclass(frozen=True, slots=True)
class Causes:
    """The causes, the most frequent first. *others* is the trouble of kinds met after the limit of kinds."""

    causes: Sequence[Cause]
    others: int = 0


def find_causes(reader: Reader, *, keep: int = 10, kinds: int = 1000) -> Causes:
    """Group the trouble of the current rows in one pass. Memory is bounded by *keep* rows of *kinds* causes."""
    found: dict[tuple[str, str, str], Cause] = {}
    others = 0
    for trouble in _troubles(reader):
        key = (trouble.outcome, trouble.code, alike(trouble.message))
        cause = found.get(key)
        if cause is None and len(found) == kinds:
            others += 1
            continue
        if cause is None:
            cause = found[key] = Cause(trouble.outcome, trouble.code, trouble.message)
        cause.add(trouble, keep)
    return Causes(sorted(found.values(), key=lambda cause: -cause.count), others)


def alike(message: str) -> str:
    """*message* with `…` for what is quoted and what has a digit in it: the same for the same kind of trouble."""
    return _SPECIFIC.sub("…", message)


def _troubles(reader: Reader) -> Iterator[Trouble]:
    for row, items in with_items(reader.rows(TROUBLED, full=True), reader.items(TROUBLED)):
        bad = [item for item in items if item.outcome in {"failed", "unknown"}]
        if not bad:
            yield _trouble(row, row.outcome, row.code, row.message)
        for item in bad:
            yield _trouble(row, item.outcome, item.code or row.code, item.message or row.message, item)


def _trouble(row: RowRecord, outcome: str, code: str, message: str, item: ItemRecord | None = None) -> Trouble:
    return Trouble(
        row.row, row.line, _cut(row.label or ""), _cut(item.item) if item else "", outcome, code,
        one_line(message)[:_LONGEST], _cut(row.raw),
    )  # fmt: skip


def _cut(text: str) -> str:
    return one_line(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
