"""Entries of a log of unknown shape, each for itself, and times as D3 writes them, mostly without a zone."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from html import unescape
from typing import TYPE_CHECKING, Any

from d3async.d3.response import opened, plain_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_DEEPEST = 60
_TAG = re.compile(r"</?[A-Za-z!][^<>]*>")
_QUOTED = re.compile(r"[\"“”„«]([^\"“”„«»]+)[\"“”»]")
_PAIR = (frozenset({"name", "key", "label", "field", "fieldname"}), frozenset({"value", "val", "newvalue"}))
_PAIR_SIZE = 2


@dataclass(frozen=True)
class LogValue:
    """One text of an entry under its key, in the forms in which texts are compared."""

    key: str
    text: str

    @cached_property
    def forms(self) -> frozenset[str]:
        """The whole text, its HTML read in each way it may have been meant."""
        return forms(self.text)

    @cached_property
    def pieces(self) -> frozenset[str]:
        """What markup or quotes set apart in the text."""
        spoken = (self.text, unescape(self.text))
        parts = [part for text in spoken for part in (*_TAG.split(text), *_QUOTED.findall(text))]
        return frozenset(map(_folded, map(unescape, parts))) - {""}


@dataclass(frozen=True)
class LogEntry:
    """One entry and all that it says."""

    leaves: tuple[LogValue, ...]

    @cached_property
    def said(self) -> str:
        """All of it in one text, to find out quickly what it surely does not say."""
        return "\n".join(form for leaf in self.leaves for form in leaf.forms)


def forms(text: str) -> frozenset[str]:
    """*text* as texts are compared: no case, one blank for many; with its tags and without, escaped or not."""
    bare = _TAG.sub(" ", text)
    return frozenset(map(_folded, (unescape(text), unescape(bare), _TAG.sub(" ", unescape(text))))) - {""}


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()


def entries(answer: Any) -> Sequence[LogEntry]:
    """Everything in *answer* that may be an entry: objects, rows of a table, texts in a list.

    An entry says what its texts and the objects in it say. Of two or more elements of a list, and of two or more
    objects alike beside each other, each speaks for itself alone: they are entries, not parts of one.
    """
    walk = _Walk()
    walk.add(walk.visit(answer, "", 0))
    return walk.entries


class _Walk:
    def __init__(self) -> None:
        self.entries: list[LogEntry] = []

    def add(self, leaves: list[LogValue]) -> None:
        """What is said in one entry, and in no other."""
        if leaves:
            self.entries.append(LogEntry(tuple(leaves)))

    def visit(self, node: Any, key: str, depth: int) -> list[LogValue]:
        """What *node* says as a part of what it is in; entries in it are added on the way."""
        node = opened(node)
        if depth > _DEEPEST or node is None or isinstance(node, bool):
            return []
        if isinstance(node, list):
            return self._list(node, key, depth)
        if isinstance(node, dict):
            return self._object(node, depth)
        return [LogValue(plain_key(key), str(node))]

    def _list(self, node: list[Any], key: str, depth: int) -> list[LogValue]:
        if len(node) == 1:
            return self.visit(node[0], key, depth + 1)
        if _is_pairs(node):
            return self._object(dict(map(_pair, node)), depth)
        for part in map(opened, node):
            if isinstance(part, list) and not any(isinstance(cell, dict | list) for cell in map(opened, part)):
                self.add([leaf for cell in part for leaf in self.visit(cell, "", depth + 2)])
            else:
                self.add(self.visit(part, key, depth + 1))
        return []

    def _object(self, node: dict[str, Any], depth: int) -> list[LogValue]:
        parts = [(key, opened(part)) for key, part in node.items()]
        alike = _alike(part for _, part in parts)
        said = []
        for key, part in parts:
            leaves = self.visit(part, key, depth + 1)
            if isinstance(part, dict) and frozenset(part) in alike:
                self.add(leaves)
            else:
                said += leaves
        return said


def _alike(parts: Iterable[Any]) -> set[frozenset[str]]:
    """The key sets that two or more objects among *parts* have."""
    shapes = Counter(frozenset(part) for part in parts if isinstance(part, dict))
    return {shape for shape, count in shapes.items() if count > 1}


def _is_pairs(node: list[Any]) -> bool:
    """Whether *node* is an object written as a list: `[{"name": "Due Date", "value": "…"}, …]`."""
    return bool(node) and all(
        isinstance(part, dict)
        and len(part) == _PAIR_SIZE
        and all({plain_key(key) for key in part} & names for names in _PAIR)
        for part in node
    )


def _pair(part: dict[str, Any]) -> tuple[str, Any]:
    named = {plain_key(key): value for key, value in part.items()}
    (name,) = (value for key, value in named.items() if key in _PAIR[0])
    (value,) = (value for key, value in named.items() if key in _PAIR[1])
    return str(name), value


_ZONE = r"\s*(?P<zone>[A-Za-z(+\-].*)?"
_ISO = re.compile(r"(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d)(?::(\d\d)(?:\.\d+)?)?" + _ZONE, re.ASCII)
_AMERICAN = re.compile(
    r"(\d{1,2})/(\d{1,2})/(\d{4}),? (\d{1,2}):(\d\d)(?::(\d\d))?(?:\s*(?P<half>[AP]M)\b)?" + _ZONE,
    re.ASCII | re.IGNORECASE,
)
_SPELT = re.compile(r"([A-Z][a-z]{2})[a-z]* (\d{1,2}), (\d{4}),? (\d{1,2}):(\d\d)(?::(\d\d))?" + _ZONE, re.ASCII)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_OFFSET = re.compile(r"\(?(?:UTC|GMT)?([+-])(\d\d):?(\d\d)\b.*", re.ASCII)
_NOON = 12
_FARTHEST_WEST = timedelta(hours=12)
_CLOCKS = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class LogTime:
    """A time as it was written. *offset* from UTC is None where the zone is not told, or only by a Windows name."""

    written: datetime
    offset: timedelta | None
    seconds: bool

    def before(self, at: float) -> bool:
        """Whether it was surely before *at*, seconds since 1970; clocks may differ by a minute."""
        moment = datetime.fromtimestamp(at, UTC).replace(tzinfo=None) - _CLOCKS
        if self.offset is not None:
            return self.written - self.offset < moment
        return self.written < moment - _FARTHEST_WEST

    def same(self, other: datetime) -> bool:
        """Whether it is written as *other* is, as exactly as it tells."""
        return self.written == (other if self.seconds else other.replace(second=0))


def told_time(text: str) -> LogTime | None:
    """The time that *text* is, and nothing else."""
    text = text.strip()
    for form, order in ((_ISO, (0, 1, 2)), (_AMERICAN, (2, 0, 1)), (_SPELT, (2, 0, 1))):
        if found := form.fullmatch(text):
            return _read(found, order)
    return None


def _read(found: re.Match[str], order: tuple[int, int, int]) -> LogTime | None:
    parts = found.groups()[:6]
    year, month, day = (parts[place] for place in order)
    hour, minute, second = parts[3:6]
    groups = found.groupdict()
    try:
        written = datetime(  # noqa: DTZ001 - its zone is beside it, if anywhere
            int(year), _month(month), int(day), _hour(int(hour), groups.get("half")), int(minute), int(second or 0)
        )
    except ValueError:
        return None
    return LogTime(written, _offset(groups["zone"] or ""), second is not None)


def _month(text: str) -> int:
    return int(text) if text.isdecimal() else _MONTHS.index(text) + 1


def _hour(hour: int, half: str | None) -> int:
    if half is None:
        return hour
    return hour % _NOON + (_NOON if half.upper() == "PM" else 0)


def _offset(zone: str) -> timedelta | None:
    if zone.strip().upper() in {"Z", "UTC", "GMT", "(UTC)"}:
        return timedelta(0)
    found = _OFFSET.fullmatch(zone.strip())
    if not found:
        return None
    ahead = timedelta(hours=int(found[2]), minutes=int(found[3]))
    return ahead if found[1] == "+" else -ahead
