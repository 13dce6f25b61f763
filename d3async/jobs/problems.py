"""Problems grouped for people, in memory that does not grow with the file; warnings about odd values."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from d3async.d3.commands import DueDate
from d3async.jobs.job import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from pydantic.fields import FieldInfo

    from d3async.d3.commands import Command
    from d3async.jobs.job import Invalid

COLUMNS = ("line", "row", "column", "code", "value", "message", "cure")
"""Of errors.csv."""
SHOWN = 20
"""Groups that are shown; the rest is counted."""
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
            return f"line {self.lines[0]}{' ' if shown else ''}{shown}{joint}{with_hint(self.message, self.cure)}"
        lines = ", ".join(map(str, self.lines)) + (" …" if self.count > len(self.lines) else "")
        message = _OTHER_LINE.sub("an earlier line", self.message)
        for word in _DROPPED:
            message = message.removeprefix(word)
        like = f" like {shown}" if shown else ""
        return f"{self.count:,} rows{like} (lines {lines}): {with_hint(message, self.cure)}"


def with_hint(message: str, cure: str) -> str:
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


_ORDINARY = re.compile(r"(?!\d{4}-\d\d-\d\d$)[A-Za-z0-9_-]*\d[A-Za-z0-9_-]*", re.ASCII)
_LONGEST = {"Task Name": 100}
_MIDNIGHT = " 00:00:00"
_DUE = get_args(DueDate)[1]
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


class _Look(NamedTuple):
    """Which of some values of the field *name* are *strange*, and what is *told* of such a one, read from a cell."""

    name: str
    strange: Callable[[Collection[str]], set[str]]
    told: Callable[[str, str, object], Iterator[Problem]]


class Advice:
    """What to look at in jobs of one command. *now* is `yyyy-MM-dd HH:mm:ss` in D3's zone; empty leaves times alone."""

    def __init__(self, command: type[Command], now: str = "") -> None:
        self._subject = command.subject
        self._items = command.items
        self._now = now
        self._looks = [_Look(self._subject, _strange_numbers, _odd_number)]
        for name, info in command.model_fields.items():
            if _is_due(info):
                self._looks.append(_Look(name, self._strange_times, self._odd_time))
            if info.alias in _LONGEST:
                most = _LONGEST[info.alias]
                self._looks.append(_Look(name, partial(_longer, most), partial(_too_long, most)))

    def needless(self, job: Command) -> bool:
        """Whether a quick look finds nothing to say about *job*; true for nearly every row."""
        values = job.__dict__
        if any(look.strange((values[look.name],)) for look in self._looks):
            return False
        items = values[self._items] if self._items else ()
        subject = values[self._subject].casefold()
        return not _strange_numbers(items) and subject not in map(str.casefold, items)

    def strange(self, name: str, values: Sequence[str | None]) -> set[str]:
        """Those of *values* of the field *name* that a closer look may have something to say about."""
        looks = [look for look in self._looks if look.name == name]
        if not looks:
            return set()
        different = {value for value in values if value is not None}
        return set().union(*(look.strange(different) for look in looks))

    def unseen(self, job: Command) -> tuple[Problem, ...]:
        """Incident numbers with characters that can't be seen: they would name another incident, or none."""
        numbers = [(self._subject, getattr(job, self._subject))]
        if self._items:
            numbers += [(self._items, number) for number in getattr(job, self._items)]
        return tuple(
            Problem(name, name, number, f"has a character that can't be seen ({_spelt(unseen)})", "type it again")
            for name, number in numbers
            if not number.isprintable() and (unseen := _unseen(number))
        )

    def of(self, job: Command, cells: Mapping[str, object]) -> tuple[Problem, ...]:
        """Everything odd about *job*, which was read from *cells*."""
        found: list[Problem] = []
        for look in self._looks:
            value = getattr(job, look.name)
            if look.strange((value,)):
                found += look.told(look.name, value, cells.get(look.name))
        return (*found, *self._odd_items(job))

    def _odd_items(self, job: Command) -> Iterator[Problem]:
        subject = getattr(job, self._subject).casefold()
        items: Iterable[str] = getattr(job, self._items) if self._items else ()
        for item in items:
            if _strange_numbers((item,)):
                yield from _odd_number(str(self._items), item)
            elif item.casefold() == subject:
                yield Problem("own_link", str(self._items), item, "is linked to itself")

    def _strange_times(self, times: Collection[str]) -> set[str]:
        return {due for due in times if due < self._now or due.endswith(_MIDNIGHT)}

    def _odd_time(self, name: str, due: str, cell: object) -> Iterator[Problem]:
        if due < self._now:
            yield Problem("past", name, due, "is in the past")
        if due.endswith(_MIDNIGHT) and cell is not None and ":" not in str(cell):
            yield Problem("midnight", name, str(cell), "says no time: 00:00:00 is sent")


def _strange_numbers(numbers: Collection[str]) -> set[str]:
    return {number for number in numbers if not _ORDINARY.fullmatch(number)}


def _odd_number(name: str, number: str, _: object = None) -> Iterator[Problem]:
    yield Problem("odd_number", name, number, "does not look like an incident number")


def _longer(most: int, texts: Collection[str]) -> set[str]:
    return {text for text in texts if len(text) > most}


def _too_long(most: int, name: str, text: str, _: object) -> Iterator[Problem]:
    yield Problem("long", name, text[:40], f"has more than {most} characters: D3 may cut it")


def _is_due(info: FieldInfo) -> bool:
    return any(part is _DUE for part in info.metadata)


def _unseen(number: str) -> str:
    return next((letter for letter in number if unicodedata.category(letter) in _UNSEEN), "")


def _spelt(letter: str) -> str:
    return f"U+{ord(letter):04X}"
