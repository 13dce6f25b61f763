"""Rows settled by hand: which rows were named, which of them may be settled or taken back, and in what words."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from d3async.jobs.feedback_rows import Mark
    from d3async.policy.outcome import ItemOutcome

CODE = "settled_by_hand"
_RANGE = re.compile(r"([1-9][0-9]{0,8})(?:-([1-9][0-9]{0,8}))?", re.ASCII)
_OUTCOME = {"pending": "unsent", "sent": "unknown"}

Outcome = Literal["ok", "failed"]


@dataclass(frozen=True, slots=True)
class RowChoice:
    """The rows a user means: by number, in ranges with both ends, by mark, or *every* one that can be changed."""

    ranges: tuple[tuple[int, int], ...] = ()
    marks: tuple[Mark, ...] = ()
    every: bool = False

    @property
    def empty(self) -> bool:
        """Whether no row is named."""
        return not (self.ranges or self.marks or self.every)

    def numbers(self, rows: int) -> list[int]:
        """The numbers named that a file of *rows* rows has, each once, ascending."""
        named = (range(first, min(last, rows) + 1) for first, last in self.ranges)
        return sorted(set().union(*named))


@dataclass(frozen=True, slots=True)
class Hand:
    """Who settles rows, on which machine, and when: seconds since 1970, UTC."""

    who: str
    host: str
    at: float

    @property
    def words(self) -> str:
        """`alice, 2026-12-01 17:00:00 UTC`."""
        return f"{self.who}, {datetime.fromtimestamp(self.at, UTC):%Y-%m-%d %H:%M:%S} UTC"


@dataclass(frozen=True, slots=True)
class ItemBefore:
    """One item of a row as it was before it was settled; texts are as the journal keeps them."""

    id: int
    code: str | None
    message: str | None
    maybe: bool


@dataclass(frozen=True, slots=True)
class RowNow:
    """One row of the file as the journal has it; texts are as the journal keeps them."""

    job: int
    row: int
    line: int | None
    state: str
    code: str | None
    message: str | None
    maybe: bool
    attempts: int

    @property
    def outcome(self) -> str:
        """The outcome of its state."""
        return _OUTCOME.get(self.state, self.state)


@dataclass(frozen=True, slots=True)
class Settlement:
    """One row settled by hand: what it was before, and the state it got. *number* counts the `settle` commands."""

    number: int
    job: int
    outcome: Outcome
    became: str
    attempts: int
    code: str | None
    message: str | None
    maybe: bool
    items: tuple[ItemBefore, ...] = ()

    def to_json(self, row: int, by: Hand) -> str:
        """For the journal, with who did it; ASCII, which every database stores."""
        before = {"state": "unknown", "code": self.code, "message": self.message, "maybe": self.maybe}
        items = [[item.id, item.code, item.message, item.maybe] for item in self.items]
        return json.dumps(
            {
                "number": self.number, "job": self.job, "row": row, "as": self.outcome, "by": by.who, "host": by.host,
                "became": self.became, "attempts": self.attempts, "before": before, "items": items,
            }
        )  # fmt: skip

    @classmethod
    def from_json(cls, text: str) -> Settlement:
        """What `to_json` gave."""
        known: dict[str, Any] = json.loads(text)
        before = known["before"]
        return cls(
            number=known["number"], job=known["job"], outcome=known["as"], became=known["became"],
            attempts=known["attempts"], code=before["code"], message=before["message"], maybe=before["maybe"],
            items=tuple(ItemBefore(*item) for item in known["items"]),
        )  # fmt: skip


def undo_note(settlement: Settlement, row: int, by: Hand) -> str:
    """For the journal: *settlement* of *row* was taken back by *by*."""
    return json.dumps({"number": settlement.number, "job": settlement.job, "row": row, "by": by.who, "host": by.host})


def undone_in(note: str) -> tuple[int, int]:
    """The number and the job of the settlement that an `undo_note` takes back."""
    known = json.loads(note)
    return known["number"], known["job"]


def parse_rows(words: Iterable[str]) -> RowChoice:
    """`3 5-9` or `3,5-9` as a choice of rows. Raises `ValueError` with the word that is neither number nor range."""
    ranges = []
    for word in (part for text in words for part in text.split(",") if part.strip()):
        found = _RANGE.fullmatch(word.strip())
        if found is None or int(found[2] or found[1]) < int(found[1]):
            raise ValueError(word.strip())
        ranges.append((int(found[1]), int(found[2] or found[1])))
    return RowChoice(tuple(ranges))


def message_of(outcome: Outcome, by: Hand, before_code: str | None, before_message: str | None) -> str:
    """The message of a row or an item settled as *outcome*: who, when, and what it was before."""
    before = ": ".join(text for text in (before_code, before_message) if text)
    return f"Settled by hand as {outcome} ({by.words})." + (f" Before: unknown, {before}" if before else "")


def why_not_settle(row: RowNow) -> str:
    """Why *row* cannot be settled; "" where it can."""
    if row.state == "unknown":
        return ""
    if row.code == CODE:
        return f"is {row.outcome} already, settled by hand; `undo` takes that back"
    return f"is {row.outcome}; only rows that are unknown can be settled"


def why_not_undo(row: RowNow, last: Settlement | None, items: Sequence[ItemOutcome]) -> str:
    """Why the *last* settlement of *row* cannot be taken back; "" where it can. *items*: those settled, as they are."""
    if last is None:
        return "was not settled by hand"
    if row.attempts != last.attempts:
        return "was sent after it was settled"
    settled = [item for item in items if item.outcome == last.outcome and item.code == CODE]
    unchanged = len(settled) == len(last.items)
    if row.state != last.became or not unchanged:
        return "was changed after it was settled"
    return ""
