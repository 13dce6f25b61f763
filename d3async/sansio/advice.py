"""What is odd about a job without being wrong: said, and sent all the same. And what can't be seen, which is wrong."""

from __future__ import annotations

import re
import unicodedata
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, get_args

from d3async.commands.values import DueDate
from d3async.sansio.job import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from pydantic.fields import FieldInfo

    from d3async.commands.base import Command

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
