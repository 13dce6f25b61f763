"""The names of `journal.dialect` in PostgreSQL."""

from __future__ import annotations

import re
from functools import lru_cache

_NAMES = {
    "rows": "d3async_row r left join d3async_job j on j.run = r.run and j.id = r.id where r.run = :run",
    "job": "d3async_job",
    "item": "d3async_item",
    "event": "d3async_event",
    "round": "d3async_round",
    "here": "run = :run",
    "owner": "run, round",
    "owned": ":run, :round",
    "mark": "r.mark",
    "at_profile": "true",
    "row": "d3async_row",
    "present": "not gone",
    "to_send": "todo",
    "number": "round",
}
_VALUE = re.compile(r":(\w+)")


@lru_cache
def statement_text(statement: str) -> bytes:
    """*statement* in PostgreSQL's words."""
    return _VALUE.sub(r"%(\1)s", statement.format_map(_NAMES)).encode()
