"""JSON of an answer that nobody vouches for: what can be read of it, keys as they are compared, texts to be kept."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from typing import Any


class _Nothing:
    """What an unreadable body holds."""


NOTHING = _Nothing()
_SPELT = {
    "error": "error", "returndata": "returnData", "status": "Status", "errordata": "ErrorData", "data": "Data",
    "incident number": "Incident Number", "error message": "Error message",
}  # fmt: skip
"""The keys that decide, and how D3's pages spell them."""
_BLANKS = " \t\n\r"
_ECHOED = frozenset({"Task Name", "Task Type", "Task Description", "Assignee", "Due Date", "Required"})
_DISTINCT = _ECHOED.union(_SPELT.values(), ("rawData", "outputData", "contextData", "keyFields"))
"""Keys as D3's pages spell them, no two of them alike."""


def loads(body: bytes) -> Any:
    """The JSON in *body*, or `NOTHING`."""
    try:
        return parsed(body.removeprefix(BOM_UTF8).decode())
    except UnicodeDecodeError:
        return NOTHING


def parsed(text: str) -> Any:
    """The JSON in *text*, or `NOTHING`, also where a key that decides stands twice."""
    text = text.strip(_BLANKS)
    try:
        found, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return NOTHING
    return found if end == len(text) else NOTHING


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises `ValueError` where a key that decides stands twice: the last one winning would be a guess."""
    found = dict(pairs)
    if len(found) == len(pairs) and found.keys() <= _DISTINCT:
        return found
    if len(set(map(same_key, found))) < len(pairs):
        decisive = [same for key, _ in pairs if (same := same_key(key)) in _SPELT]
        if len(set(decisive)) < len(decisive):
            raise ValueError(f"a key stands twice: {decisive}")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def same_key(key: str) -> str:
    """*key* as keys are compared."""
    return key.strip().casefold()


def storable(text: str) -> str:
    """*text* without lone surrogates, which JSON may hold and UTF-8 can't."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def shown(value: Any, most: int = 200) -> str:
    """*value* in a message, at most *most* characters of it."""
    try:
        text = storable(json.dumps(value, ensure_ascii=False, default=str))
    except RecursionError:
        return "something nested too deep to show"
    return text if len(text) <= most else text[: most - 1] + "…"


def field(content: Any, name: str) -> Any:
    """What stands in the object *content* under *name* (as `same_key` gives it); None where nothing does."""
    if isinstance(content, dict):
        if (spelt := _SPELT.get(name)) in content:
            return content[spelt]
        for key, value in content.items():
            if same_key(key) == name:
                return value
    return None


def unwrapped(content: Any) -> Any:
    """An object that D3 serialised as text, or wrapped in a list of one, is the object."""
    if isinstance(content, str) and content.lstrip()[:1] in {"{", "["}:
        found = parsed(content)
        content = content if found is NOTHING else found
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict):
        return content[0]
    return content


def unwrapped_list(value: Any) -> list[Any] | None:
    """*value* as a list of entries, also where it is text or a single entry; None when it can't be read as one."""
    if isinstance(value, str):
        found = parsed(value) if value.strip() else []
        value = value if found is NOTHING else found
    if value is None or value == {}:
        return []
    if isinstance(value, dict):
        return [value]
    return value if isinstance(value, list) else None
