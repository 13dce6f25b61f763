"""GetIncidents: which incidents a filter, a time range and a page select.

Source: https://docs.d3security.com/api-docs/Working-version/get-incidents .
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import Any

from d3async.sandbox.answers import Json
from d3async.sandbox.state import World

MAX_PAGE_SIZE = 1000
_TIME_SHAPE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII)
_OPERATORS: Mapping[str, Callable[[str, str], bool]] = {
    "=": lambda have, want: have == want,
    "!=": lambda have, want: have != want,
    "LIKE": lambda have, want: _like(want).fullmatch(have) is not None,
}


class NotUnderstoodError(Exception):
    """The query cannot be read; D3 says so in a 200."""


@dataclass(frozen=True, slots=True)
class Query:
    """What a GetIncidents asks for. *any_of* is D3's filter: a list of lists, AND inside, OR between."""

    fields: list[str]
    any_of: list[list[tuple[str, str]]]
    start: str
    end: str
    page_index: int = 0
    page_size: int = 0

    @classmethod
    def from_params(cls, params: Json) -> "Query":
        """Read CommandParams; raises `NotUnderstoodError`."""
        fields = params.get("Static Fields") or ["IR Number", "Title", "Status", "Severity", "Date Created"]
        if not isinstance(fields, list) or not all(isinstance(one, str) for one in fields):
            raise NotUnderstoodError("Static Fields must be an array of field names.")
        start, end = params["Start Time"], params["End Time"]
        if not (is_time(start) and is_time(end)):
            raise NotUnderstoodError("Start Time and End Time must be in the format yyyy-MM-dd HH:mm:ss.")
        return cls(
            fields=fields,
            any_of=_read_filter(params.get("Filter") or []),
            start=start,
            end=end,
            page_index=_whole(params, "Page Index"),
            page_size=min(MAX_PAGE_SIZE, _whole(params, "Page Size")),
        )

    def page(self, numbers: list[str]) -> list[str]:
        """Cut the page out of all that matched; without a page size, that is everything."""
        first = self.page_index * self.page_size
        return numbers[first : first + self.page_size] if self.page_size else numbers

    def total_pages(self, count: int) -> int | None:
        """Count the pages; None where no page size was given."""
        return ceil(count / self.page_size) if self.page_size else None


def matching(world: World, query: Query) -> list[str]:
    """List the incidents that the filter and the time range let through.

    Numbers that the filter names itself are looked at too: the sandbox knows them only by being asked.
    """
    named = [value for all_of in query.any_of for sign, value in all_of if sign == "=" and world.exists(value)]
    nothing_else = query.any_of and all(any(sign == "=" for sign, _ in all_of) for all_of in query.any_of)
    candidates = dict.fromkeys(named if nothing_else else [*world.known_incidents(), *named])
    return [number for number in candidates if query.start <= created(number) <= query.end and _passes(number, query)]


def created(number: str) -> str:
    """Give an incident's creation time: the date in its number, noon; else a fixed day."""
    try:
        return datetime.strptime(number[:8], "%Y%m%d").strftime("%Y-%m-%d 12:00:00")  # noqa: DTZ007 - D3 sends no zone
    except ValueError:
        return "2026-01-01 12:00:00"


def is_time(text: str) -> bool:
    """Tell whether *text* is a time as D3 writes it, `yyyy-MM-dd HH:mm:ss`."""
    if not _TIME_SHAPE.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _passes(number: str, query: Query) -> bool:
    if not query.any_of:
        return True
    return any(all(_OPERATORS[sign](number, value) for sign, value in all_of) for all_of in query.any_of)


def _read_filter(raw: object) -> list[list[tuple[str, str]]]:
    if not isinstance(raw, list) or not all(isinstance(all_of, list) for all_of in raw):
        raise NotUnderstoodError("Filter must be an array of arrays of conditions.")
    return [[_read_condition(condition) for condition in all_of] for all_of in raw]


def _read_condition(condition: object) -> tuple[str, str]:
    match condition:
        case {"field": "IR Number", "operator": str(sign), "value": str(value)} if sign in _OPERATORS:
            return sign, value
    raise NotUnderstoodError(f"The sandbox filters on IR Number with {', '.join(_OPERATORS)} only.")


def _whole(params: Json, name: str) -> int:
    # D3 added the names without a blank in March 2026; both are numbers or digits.
    value: Any = params.get(name, params.get(name.replace(" ", ""), 0))
    try:
        return max(0, int(value))
    except (TypeError, ValueError):
        raise NotUnderstoodError(f"{name} must be a whole number.") from None


def _like(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.split("%")), re.DOTALL | re.IGNORECASE)
