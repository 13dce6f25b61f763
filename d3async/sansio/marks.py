"""The reference that `--mark-tasks` puts at the end of a Task Description, by which a task is found again."""

from __future__ import annotations

import json
import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

DESCRIPTION = "Task Description"
MARK_START = "[d3async "
_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
_MARK = re.compile(rf"{re.escape(MARK_START)}([{_LETTERS}]{{8}})\]", re.IGNORECASE)


def mark_of(salt: str, identity: bytes, occurrence: int) -> str:
    """The mark of one row: 40 bits as 8 letters, the same whenever it is asked for.

    *salt* belongs to the run folder: the same row in another folder is another task.
    """
    origin = b"\x1f".join((salt.encode(), str(occurrence).encode(), identity))
    number = int.from_bytes(blake2b(origin, digest_size=5).digest(), "big")
    return "".join(_LETTERS[number >> shift & 31] for shift in range(35, -5, -5))


def marked(params: Mapping[str, Any], mark: str) -> dict[str, Any]:
    """CreateTask's *params* with *mark* at the end of the description, once."""
    description = str(params[DESCRIPTION])
    ending = _ending(mark)
    return {**params, DESCRIPTION: description if description.endswith(ending) else description + ending}


def unmarked(params: Mapping[str, Any], mark: str) -> dict[str, Any]:
    """CreateTask's *params* without *mark*."""
    return {**params, DESCRIPTION: str(params[DESCRIPTION]).removesuffix(_ending(mark))}


def with_mark(params: str, mark: str) -> str:
    """`marked` of *params* as JSON."""
    return _text(marked(json.loads(params), mark))


def without_mark(params: str, mark: str) -> str:
    """`unmarked` of *params* as JSON."""
    return _text(unmarked(json.loads(params), mark))


def mark_in(params: Mapping[str, Any], mark: str) -> bool:
    """Whether *params* were sent with *mark*."""
    return str(params[DESCRIPTION]).endswith(_ending(mark))


def marks_in(text: str) -> set[str]:
    """Every mark in *text*, whatever blanks and letter case it went through."""
    return {mark.lower() for mark in _MARK.findall(" ".join(text.split()))}


def _text(params: Mapping[str, Any]) -> str:
    return json.dumps(params, ensure_ascii=False, separators=(",", ":"))


def _ending(mark: str) -> str:
    return f" {MARK_START}{mark}]"
