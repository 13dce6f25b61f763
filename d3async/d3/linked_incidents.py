"""Reading links back: what D3 is asked for, and what its answer proves about a link."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from d3async.d3.call import normalize_number
from d3async.d3.response import error_text, loose_field, objects, opened, plain_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

GET_INCIDENTS = "GetIncidents"
GET_LINKED = "GetLinkedIncidentsOfAnIncident"
PAGE_SIZE = 1000
MOST_PAGES = 20
"""Pages of one query that are read; a filter on 50 numbers never fills one."""

_TIME = "%Y-%m-%d %H:%M:%S"
_FIRST_DAY = datetime(2000, 1, 1)  # noqa: DTZ001 - D3 takes UTC without a zone
_MARGIN = timedelta(days=3)
_DATED = re.compile(r"(\d{8})-\d+", re.ASCII)
_NUMBER = re.compile(r"[^\W_][\w.-]*-\d+")
_BETWEEN = re.compile(r"(?:[;,|\s]|<[^<>]*>)+")
_NOTHING = object()
_NUMBER_KEYS = ("irnumber", "incidentnumber", "incidentno", "irno")


@dataclass(frozen=True)
class Links:
    """What one incident is linked to, case-folded. Not *direct*: the list also names what is linked through others."""

    numbers: frozenset[str]
    direct: bool

    @cached_property
    def forms(self) -> frozenset[str]:
        """What the numbers look like: `9-9`, `TEST-INCIDENT-9`."""
        return frozenset(map(_form, self.numbers))


@dataclass(frozen=True, slots=True)
class CannotTell:
    """Nothing is proven; *why* ends up in `_message`."""

    why: str


Reading = Links | CannotTell
Word = Literal["gone", "linked", "cannot_tell"]


@dataclass(frozen=True, slots=True)
class Page:
    """One page of GetIncidents: what it says of the incidents it was asked for; *pages* None when it does not say."""

    readings: dict[str, Reading]
    rows: int
    pages: int | None


@dataclass(frozen=True, slots=True)
class Period:
    """A range of `Date Created`, both ends in it, UTC."""

    start: datetime
    end: datetime


def judge(item: str, reading: Reading) -> tuple[Word, str]:
    """Whether the link to *item* is there, and why that is not known.

    Absence is proven by a list in which numbers look like *item*: one of internal ids would have none of them.
    """
    if isinstance(reading, CannotTell):
        return "cannot_tell", reading.why
    if normalize_number(item) in reading.numbers:
        if reading.direct:
            return "linked", ""
        return "cannot_tell", "it can be reached from the source, perhaps through another incident"
    if reading.numbers and _form(normalize_number(item)) not in reading.forms:
        return "cannot_tell", f"D3 lists links in another form: {min(reading.numbers)}"
    return "gone", ""


def _form(number: str) -> str:
    return re.sub(r"\d+", "9", number)


def periods(sources: Collection[str], *, now: datetime) -> tuple[Period, ...]:
    """Where to look for *sources*: around the days in their numbers first, if all have one, then everywhere.

    *now* is UTC, without a zone.
    """
    everywhere = Period(_FIRST_DAY, now + _MARGIN)
    days = [_day(source) for source in sources]
    dated = [day for day in days if day is not None]
    if not days or len(dated) < len(days):
        return (everywhere,)
    return Period(min(dated) - _MARGIN, max(dated) + _MARGIN), everywhere


def _day(number: str) -> datetime | None:
    dated = _DATED.fullmatch(number.strip())
    if not dated:
        return None
    try:
        day = datetime.strptime(dated[1], "%Y%m%d")  # noqa: DTZ007 - as above
    except ValueError:
        return None
    return day if day >= _FIRST_DAY else None


def incidents_query(sources: Sequence[str], period: Period, page: int) -> dict[str, Any]:
    """CommandParams of GetIncidents for the direct links of *sources*.

    https://docs.d3security.com/api-docs/Working-version/get-incidents : OR between the inner lists of a filter;
    output format 2 is JSON.
    """
    return {
        "Filter": [[{"field": "IR Number", "operator": "=", "value": source}] for source in sources],
        "Static Fields": ["IR Number", "Linked Incidents"],
        "Start Time": period.start.strftime(_TIME),
        "End Time": period.end.strftime(_TIME),
        "Output Format": 2,
        "Page Index": page,
        "Page Size": PAGE_SIZE,
    }


def read_page(answer: Any, wanted: Collection[str]) -> Page:
    """What *answer* says of the incidents *wanted* (case-folded); those it does not show are not in `readings`."""
    said = error_text(answer) if isinstance(answer, dict) else "the answer is no object"
    if said:
        return Page(dict.fromkeys(wanted, CannotTell(f"D3 says: {said}")), 0, None)
    rows = list(_rows(answer))
    works = any(numbers_of(_shown(row)) for _, row in rows)
    readings: dict[str, Reading] = {}
    for number, row in rows:
        if number in wanted:
            readings[number] = _both(readings.get(number), _links_of(row, works=works))
    return Page(readings, len(rows), _total_pages(answer))


def more_pages(page: Page, index: int, missing: Collection[str]) -> bool:
    """Whether the page after *index* may show what is *missing*."""
    if not missing or not page.rows or index + 1 >= MOST_PAGES:
        return False
    return index + 1 < page.pages if page.pages is not None else page.rows >= PAGE_SIZE


def linked_query(source: str) -> dict[str, Any]:
    """CommandParams of GetLinkedIncidentsOfAnIncident.

    https://docs.d3security.com/api-docs/Working-version/get-linked-incidents-of-an-incident
    """
    return {"Incident Number": source}


def read_linked(answer: Any, source: str) -> Reading:
    """What *answer* of GetLinkedIncidentsOfAnIncident says: all that *source* leads to, itself included."""
    said = error_text(answer) if isinstance(answer, dict) else "the answer is no object"
    if said:
        return CannotTell(f"D3 says: {said}")
    numbers = numbers_of(loose_field(loose_field(answer, "returndata"), "data"))
    if numbers is None:
        return CannotTell("the list of linked incidents cannot be read")
    if normalize_number(source) not in numbers:
        return CannotTell("the list of linked incidents lacks the source itself, which belongs in it")
    return Links(numbers, direct=False)


def numbers_of(value: Any) -> frozenset[str] | None:
    """The incident numbers in *value*, case-folded; None when anything in it may be a number we can't read.

    It may be a list, objects that hold a number, text with separators, or any of these as JSON text.
    """
    value = opened(value)
    if isinstance(value, str):
        return _in_text(value)
    if isinstance(value, list):
        parts = [numbers_of(part) for part in value]
        return None if None in parts else frozenset().union(*(part for part in parts if part))
    if isinstance(value, dict):
        return _in_object(value) if value else frozenset()
    return None


def _in_text(text: str) -> frozenset[str] | None:
    parts = [part for part in _BETWEEN.split(text) if part]
    return frozenset(map(normalize_number, parts)) if all(map(_NUMBER.fullmatch, parts)) else None


def _in_object(value: dict[str, Any]) -> frozenset[str] | None:
    """Every text of an object that is a number, and the numbers inside of it; None when there is neither."""
    own = {normalize_number(text) for pair in value.items() for text in pair if _is_number(text)}
    inner = [numbers_of(part) for part in map(opened, value.values()) if isinstance(part, list | dict) and part]
    if not own and None in inner:
        return None
    return frozenset(own).union(*(part for part in inner if part)) or None


def _is_number(value: object) -> bool:
    return isinstance(value, str) and _NUMBER.fullmatch(value.strip()) is not None


def _rows(answer: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for row in objects(answer, lambda node: bool(_number_of(node))):
        yield _number_of(row), row


def _number_of(row: dict[str, Any]) -> str:
    number = next((found for name in _NUMBER_KEYS if (found := loose_field(row, name)) is not None), None)
    return normalize_number(str(number)) if isinstance(number, str | int) else ""


def _shown(row: dict[str, Any]) -> Any:
    return next((value for key, value in row.items() if plain_key(key) == "linkedincidents"), _NOTHING)


def _links_of(row: dict[str, Any], *, works: bool) -> Reading:
    """The links *row* shows. Null and "" mean none where the field *works*: another incident shows links in it."""
    shown = _shown(row)
    if shown is _NOTHING:
        return CannotTell("the answer shows the incident without its Linked Incidents")
    if shown is None or (isinstance(shown, str) and not shown.strip()):
        return Links(frozenset(), direct=True) if works else CannotTell("Linked Incidents is blank for every incident")
    numbers = numbers_of(shown)
    if numbers is None:
        return CannotTell(f"Linked Incidents cannot be read: {str(shown)[:100]}")
    return Links(numbers, direct=True)


def _both(one: Reading | None, other: Reading) -> Reading:
    """Two rows about one incident: what either lists is there."""
    if isinstance(one, Links) and isinstance(other, Links):
        return Links(one.numbers | other.numbers, direct=True)
    return one if isinstance(one, CannotTell) else other


def _total_pages(answer: Any) -> int | None:
    for part in (loose_field(answer, name) for name in ("outputdata", "rawdata", "returndata")):
        told = loose_field(part, "totalpages")
        if isinstance(told, int | str) and str(told).isdecimal():
            return int(told)
    return None
