"""What is odd about a job without being wrong: said, and sent all the same. And what can't be seen, which is wrong."""

from __future__ import annotations

import re
import unicodedata
from functools import partial
from typing import TYPE_CHECKING, get_args

from d3async.commands.values import DueDate
from d3async.sansio.job import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from pydantic.fields import FieldInfo

    from d3async.commands.base import Command

_ORDINARY = re.compile(r"(?!\d{4}-\d\d-\d\d$)[A-Za-z0-9_-]*\d[A-Za-z0-9_-]*", re.ASCII)
_LONGEST = {"Task Name": 100}
_DUE = get_args(DueDate)[1]
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


class Advice:
    """What to look at in jobs of one command. *now* is `yyyy-MM-dd HH:mm:ss` in D3's zone; empty leaves times alone."""

    def __init__(self, command: type[Command], now: str = "") -> None:
        self._subject = command.subject
        self._items = command.items
        self._now = now
        fields = command.model_fields.items()
        self._dates = [name for name, info in fields if _is_due(info)]
        self._long = [(name, _LONGEST[info.alias]) for name, info in fields if info.alias in _LONGEST]
        self._looks: list[tuple[str, Callable[[Collection[str]], set[str]]]] = [
            *((name, self._strange_times) for name in self._dates),
            *((name, partial(_longer, most)) for name, most in self._long),
            (self._subject, _strange_numbers),
        ]

    def needless(self, job: Command) -> bool:
        """Whether a quick look finds nothing to say about *job*; true for nearly every row."""
        values = job.__dict__
        if any(look((values[name],)) for name, look in self._looks):
            return False
        items = values[self._items] if self._items else ()
        subject = values[self._subject].casefold()
        return not _strange_numbers(items) and subject not in map(str.casefold, items)

    def strange(self, name: str, values: Sequence[str | None]) -> set[str]:
        """Those of *values* of the field *name* that a closer look may have something to say about."""
        looks = [look for field, look in self._looks if field == name]
        if not looks:
            return set()
        different = {value for value in values if value is not None}
        return set().union(*(look(different) for look in looks))

    def _strange_times(self, times: Collection[str]) -> set[str]:
        return {due for due in times if due < self._now or due.endswith(" 00:00:00")}

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
        return (*self._odd_numbers(job), *self._odd_times(job, cells), *self._too_long(job))

    def _odd_numbers(self, job: Command) -> Iterator[Problem]:
        subject = getattr(job, self._subject)
        if not _ORDINARY.fullmatch(subject):
            yield _odd(self._subject, subject)
        if self._items:
            items: Iterable[str] = getattr(job, self._items)
            for item in items:
                if not _ORDINARY.fullmatch(item):
                    yield _odd(self._items, item)
                elif item.casefold() == subject.casefold():
                    yield Problem("own_link", self._items, item, "is linked to itself")

    def _odd_times(self, job: Command, cells: Mapping[str, object]) -> Iterator[Problem]:
        for name in self._dates:
            due = getattr(job, name)
            if due < self._now:
                yield Problem("past", name, due, "is in the past")
            if due.endswith(" 00:00:00") and ":" not in str(cells.get(name, ":")):
                yield Problem("midnight", name, str(cells[name]), "says no time: 00:00:00 is sent")

    def _too_long(self, job: Command) -> Iterator[Problem]:
        for name, most in self._long:
            text = getattr(job, name)
            if len(text) > most:
                yield Problem("long", name, text[:40], f"has more than {most} characters: D3 may cut it")


def _strange_numbers(numbers: Collection[str]) -> set[str]:
    return {number for number in numbers if not _ORDINARY.fullmatch(number)}


def _longer(most: int, texts: Collection[str]) -> set[str]:
    return {text for text in texts if len(text) > most}


def _odd(name: str, number: str) -> Problem:
    return Problem("odd_number", name, number, "does not look like an incident number")


def _is_due(info: FieldInfo) -> bool:
    return any(part is _DUE for part in info.metadata)


def _unseen(number: str) -> str:
    return next((letter for letter in number if unicodedata.category(letter) in _UNSEEN), "")


def _spelt(letter: str) -> str:
    return f"U+{ord(letter):04X}"
