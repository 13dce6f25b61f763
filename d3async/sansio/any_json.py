"""JSON whose shape nobody has published: opened where it hides in text, its keys made comparable."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_DEEPEST = 60
_NOT_PLAIN = re.compile(r"[\W_]+")


def opened(value: Any) -> Any:
    """*value*, or the object or list that it is the text of."""
    if not isinstance(value, str) or value.lstrip()[:1] not in {"{", "["}:
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def plain_key(key: str) -> str:
    """*key* as keys are compared: letters and digits alone, in one case."""
    return _NOT_PLAIN.sub("", key).casefold()


def field(value: Any, name: str) -> Any:
    """What stands under the key that reads *name* (plain) in *value*, opened; None where there is no such key."""
    if not isinstance(value, dict):
        return None
    return next((opened(found) for key, found in value.items() if plain_key(key) == name), None)


def objects(value: Any, found: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """The objects in *value* for which *found* says yes, none from inside another, to a depth no answer has."""
    hits: list[dict[str, Any]] = []
    level = [opened(value)]
    for _ in range(_DEEPEST):
        here = [node for node in level if isinstance(node, dict) and found(node)]
        hits += here
        seen = set(map(id, here))
        level = [opened(child) for node in level if id(node) not in seen for child in _children(node)]
        if not level:
            break
    return hits


def _children(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []
