"""What the entries of an answer of unknown shape say, each for itself: what stands in two entries is in neither."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from html import unescape
from typing import TYPE_CHECKING, Any

from d3async.sansio.any_json import opened, plain_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_DEEPEST = 60
_TAG = re.compile(r"</?[A-Za-z!][^<>]*>")
_QUOTED = re.compile(r"[\"“”„«]([^\"“”„«»]+)[\"“”»]")
_PAIR = (frozenset({"name", "key", "label", "field", "fieldname"}), frozenset({"value", "val", "newvalue"}))
_PAIR_SIZE = 2


@dataclass(frozen=True)
class Leaf:
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
class Entry:
    """One entry and all that it says."""

    leaves: tuple[Leaf, ...]

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


def entries(answer: Any) -> Sequence[Entry]:
    """Everything in *answer* that may be an entry: objects, rows of a table, texts in a list.

    An entry says what its texts and the objects in it say. Of two or more elements of a list, and of two or more
    objects alike beside each other, each speaks for itself alone: they are entries, not parts of one.
    """
    walk = _Walk()
    walk.add(walk.visit(answer, "", 0))
    return walk.entries


class _Walk:
    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def add(self, leaves: list[Leaf]) -> None:
        """What is said in one entry, and in no other."""
        if leaves:
            self.entries.append(Entry(tuple(leaves)))

    def visit(self, node: Any, key: str, depth: int) -> list[Leaf]:
        """What *node* says as a part of what it stands in; entries in it are added on the way."""
        node = opened(node)
        if depth > _DEEPEST or node is None or isinstance(node, bool):
            return []
        if isinstance(node, list):
            return self._list(node, key, depth)
        if isinstance(node, dict):
            return self._object(node, depth)
        return [Leaf(plain_key(key), str(node))]

    def _list(self, node: list[Any], key: str, depth: int) -> list[Leaf]:
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

    def _object(self, node: dict[str, Any], depth: int) -> list[Leaf]:
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
