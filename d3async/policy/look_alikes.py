"""Rows that look like rows sent before: which ones pair up, and what the user reads about them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from textwrap import shorten
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from d3async.errors import SimilarPair

DAY = 86_400
"""Two due dates that are closer than so many seconds are the same day of the same task, written twice."""
SHOWN = 3
_WIDTH = 60
_RANGE = re.compile(r"(\d+)(?:\s*-\s*(\d+))?")
_EXAMPLE = "give lines of the file, like 3,5-9, or all"


class NewRow(NamedTuple):
    """A row about to be sent for the first time. *due* in seconds, *line* of the file, *job* its number in the journal.

    *similar* is the digest of what makes two rows look alike.
    """

    similar: int
    due: int
    line: int
    job: int


class SentRow(NamedTuple):
    """A row that was sent, or may have been: row *job* of the run *run* of the index, None for the same run folder."""

    similar: int
    due: int
    run: int | None
    job: int


def matched(new: Iterable[NewRow], sent: Iterable[SentRow]) -> Iterator[tuple[NewRow, SentRow | None]]:
    """Pair *new* rows with *sent* ones of the same digest whose due dates are less than a day apart, one to one.

    Both are sorted by digest and due date. As many pairs as can be are made. A new row without a partner comes with
    None where rows of its digest were sent at all; other rows do not come.
    """
    there = iter(sent)
    known = next(there, None)
    met: int | None = None
    for row in new:
        while known is not None and (known.similar, known.due) <= (row.similar, row.due - DAY):
            met = known.similar
            known = next(there, None)
        if known is not None and known.similar == row.similar:
            met = known.similar
            if known.due < row.due + DAY:
                yield row, known
                known = next(there, None)
                continue
        if met == row.similar:
            yield row, None


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines of a file, as ranges that are sorted and do not touch; None of *ranges* means all lines."""

    ranges: tuple[tuple[int, int], ...] | None = ()

    def __contains__(self, line: int) -> bool:
        return self.ranges is None or any(first <= line <= last for first, last in self.ranges)

    def __bool__(self) -> bool:
        return self.ranges is None or bool(self.ranges)

    def __str__(self) -> str:
        if self.ranges is None:
            return "all"
        return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in self.ranges)


ALL = Lines(None)


def parse_lines(texts: Iterable[str]) -> Lines:
    """What `--allow-similar` says: `3 5-9`, `3,5-9` or `all`. Raises ValueError that says how it is written."""
    found: list[tuple[int, int]] = []
    for text in texts:
        for part in re.sub(r"\s*-\s*", "-", text).replace(",", " ").split():
            if part.casefold() == "all":
                return ALL
            range_ = _RANGE.fullmatch(part)
            first, last = (int(range_[1]), int(range_[2] or range_[1])) if range_ else (0, 0)
            if not 1 <= first <= last:
                raise ValueError(f'"{part}" is no line of a file: {_EXAMPLE}')
            found.append((first, last))
        if not text.replace(",", " ").strip():
            raise ValueError(f"it names no line: {_EXAMPLE}")
    return lines_of(found)


def lines_of(ranges: Iterable[tuple[int, int]]) -> Lines:
    """*ranges* (first, last) in any order, as the fewest that hold the same lines."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return Lines(tuple(joined))


def described(pairs: Sequence[SimilarPair], count: int, lines: Lines) -> list[str]:
    """What the user reads: the first *pairs* of *count* side by side, and the two ways to go on."""
    one = count == 1
    before = "sent before" + (" or about to be" if any(pair.outcome == "unsent" for pair in pairs) else "")
    told = [f"{count:,} row{'' if one else 's'} look{'s' if one else ''} like {'a row' if one else 'rows'} {before}:"]
    for pair in pairs[:SHOWN]:
        told += _side_by_side(pair)
    if count > SHOWN:
        told.append(f"  and {count - SHOWN:,} more")
    option = str(lines)
    them, rows = ("it", "a task of its own") if one else ("them", "tasks of their own")
    told.append(f"The same task? Put the row{'' if one else 's'} back as sent (or take {them} out of the file).")
    either = (
        "--allow-similar all"
        if len(option) > _WIDTH or lines == ALL
        else f"--allow-similar {option} (or: --allow-similar all)"
    )
    told.append(f"Meant as {rows}? {either}")
    return told


def _side_by_side(pair: SimilarPair) -> list[str]:
    when = f" on {datetime.fromtimestamp(pair.sent_at, UTC):%Y-%m-%d %H:%M} UTC" if pair.sent_at else ""
    doubt = " (its outcome is unknown)" if pair.outcome == "unknown" else ""
    where = f", from {pair.folder}" if pair.folder else ""
    there = f"waits to be sent{where}" if pair.outcome == "unsent" else f"was sent{when}{where}{doubt}"
    told = [f"  line {pair.line:,}; the other one {there}"]
    if pair.sent is None:
        due = f"; its due date was {pair.sent_due}" if pair.sent_due else ""
        return [*told, f"    same incident and name{due}; the rest cannot be read: its run folder is not there"]
    rows = [(name, pair.sent.get(name, ""), pair.new.get(name, "")) for name in pair.differs]
    same = [f"{name} {_cell(value)}" for name, value in pair.new.items() if name not in pair.differs]
    if rows:
        width = max(len(name) for name, *_ in rows)
        wide = max(len(_cell(before)) for _, before, _ in rows)
        told += [f"    {name:{width}}  sent {_cell(before):{wide}}  now {_cell(now)}" for name, before, now in rows]
    else:
        told.append("    nothing differs")
    return [*told, f"    the same: {shorten(', '.join(same), 2 * _WIDTH, placeholder=' …')}"] if same and rows else told


def _cell(value: str) -> str:
    return shorten(value, _WIDTH, placeholder=" …") if value.strip() else "(empty)"


def mentioned(other_day: int, other_name: int) -> list[str]:
    """What the plan says of rows that resemble rows sent before and are sent all the same."""
    told = []
    if other_day:
        told.append(f"{other_day:,} with incident and name of a task sent before, due on another day")
    if other_name:
        told.append(f"{other_name:,} with incident, assignee and due date of a task sent before, under another name")
    return told
