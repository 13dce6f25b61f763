"""Problems as people are told them: equal ones together, in memory that does not grow with the file."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from d3async.sansio.job import Invalid, Problem

COLUMNS = ("line", "row", "column", "code", "value", "message", "cure")
"""Of errors.csv."""
SHOWN = 20
"""Groups that are told; the rest is counted."""
_KINDS = 1000
_LINES = 3
_VALUE = 60
_WIDEST = 24
_OTHER_LINE = re.compile(r"\bline \d+")
DATE_FORMAT = "give --date-format "
_VERBS = frozenset({"is", "has", "comes", "does", "says", "means", "repeats", "stands"})
_DROPPED = ("is ", "has ")


def records(entry: Invalid) -> Iterator[tuple[Any, ...]]:
    """*entry* as lines of errors.csv, one a problem."""
    for problem in entry.problems:
        code = f"invalid.{problem.code}"
        yield entry.line, entry.row, problem.column, code, problem.value, problem.message, problem.cure


@dataclass(slots=True)
class Group:
    """Problems that differ in value and line only. *count* is the rows that have them, *lines* the first few."""

    column: str
    code: str
    message: str
    cure: str
    value: str = ""
    count: int = 0
    lines: list[int] = field(default_factory=list)
    last: int = 0

    def at(self, line: int) -> None:
        """One more of the kind, at *line*; several in one row count once."""
        if line != self.last:
            self.count, self.last = self.count + 1, line
            if len(self.lines) < _LINES:
                self.lines.append(line)

    def public(self) -> dict[str, Any]:
        """As an object, for `--json`."""
        told = asdict(self)
        del told["last"]
        return told

    def told(self) -> str:
        """`214 rows like "24/03/2027" (lines 12, 19, 22 …): day or month first? give --date-format dd/MM/yyyy`."""
        value = " ".join(self.value.split())
        shown = f'"{value[:_VALUE]}{"…" if len(value) > _VALUE else ""}"' if value else ""
        if self.count == 1:
            joint = " " if self.message.split(" ", 1)[0] in _VERBS else ": "
            return f"line {self.lines[0]}{' ' if shown else ''}{shown}{joint}{sentence(self.message, self.cure)}"
        lines = ", ".join(map(str, self.lines)) + (" …" if self.count > len(self.lines) else "")
        message = _OTHER_LINE.sub("an earlier line", self.message)
        for word in _DROPPED:
            message = message.removeprefix(word)
        like = f" like {shown}" if shown else ""
        return f"{self.count:,} rows{like} (lines {lines}): {sentence(message, self.cure)}"


def sentence(message: str, cure: str) -> str:
    """What is wrong and what to do about it."""
    if not cure:
        return message
    return f"{message} {cure}" if message.endswith("?") else f"{message}; {cure}"


class Groups:
    """Counts problems, equal ones together."""

    def __init__(self) -> None:
        self.count = 0
        self._groups: dict[tuple[str, str, str, str], Group] = {}
        self._other = 0

    def __len__(self) -> int:
        return len(_agreed(self._groups.values()))

    def __iter__(self) -> Iterator[Group]:
        return iter(self._groups.values())

    @property
    def all_told(self) -> bool:
        """Whether `told` names every line."""
        return not self._other and len(self._groups) <= SHOWN and all(group.count <= _LINES for group in self)

    def add(self, line: int, problems: Iterable[Problem]) -> None:
        """Count what is wrong with the row at *line*."""
        for problem in problems:
            self.count += 1
            key = (problem.column, problem.code, _OTHER_LINE.sub("", problem.message), problem.cure)
            group = self._groups.get(key)
            if group is None:
                if len(self._groups) >= _KINDS:
                    self._other += 1
                    continue
                group = self._groups[key] = Group(problem.column, problem.code, problem.message, problem.cure)
            group.value = group.value or problem.value
            group.at(line)

    def told(self) -> list[str]:
        """A line for each of the first groups, columns below each other."""
        groups = _agreed(self)
        shown = groups[:SHOWN]
        width = min(max((len(_name(group)) for group in shown), default=0), _WIDEST)
        lines = [f"{_name(group):{width}}  {group.told()}" for group in shown]
        rest = sum(group.count for group in groups[SHOWN:]) + self._other
        return [*lines, f"and {rest:,} more"] if rest else lines


def _agreed(groups: Iterable[Group]) -> list[Group]:
    """*groups*, but one for all that only differ in the date formats they could be, where one format fits all."""
    alike: dict[tuple[str, str], list[Group]] = {}
    for group in groups:
        alike.setdefault((group.column, group.message), []).append(group)
    found: list[Group] = []
    for same in alike.values():
        formats = [set(group.cure.removeprefix(DATE_FORMAT).split(" or ")) for group in same]
        common = set.intersection(*formats)
        if len(same) > 1 and len(common) == 1 and all(group.cure.startswith(DATE_FORMAT) for group in same):
            found.append(_merged(same, DATE_FORMAT + common.pop()))
        else:
            found += same
    return found


def _merged(groups: list[Group], cure: str) -> Group:
    lines = sorted(line for group in groups for line in group.lines)[:_LINES]
    one = min(groups, key=lambda group: len(group.cure))
    return replace(one, cure=cure, count=sum(group.count for group in groups), lines=lines)


def _name(group: Group) -> str:
    return group.column or "row"
