"""The bodies D3 answers with: as printed on its pages, GetIncidents, command-centre logs."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from d3async.sandbox.state import Task, World

Json = dict[str, Any]

# https://docs.d3security.com/api-docs/Working-version/http-status-codes
ERRORS = {
    400: "The body of the request must be a valid JSON object",
    401: "Invalid authentication key.",
    429: "The request exceeds rate limits or is otherwise blocked by rate limiting policies.",
    500: "Unexpected Error.",
}
NOT_LINKED = "The source incident is not linked to this incident."
HTML = "text/html; charset=utf-8"
JSON = "application/json; charset=utf-8"
_ENCODER = json.JSONEncoder(ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back over the wire."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


def encode(body: Json) -> bytes:
    """Write *body* as UTF-8 JSON."""
    return _ENCODER.encode(body).encode("utf-8", "replace")


def success(body: Json) -> Answer:
    """Answer 200."""
    return Answer(200, encode(body))


def error(status: int, text: str | None = None) -> Answer:
    """Answer with D3's body for *status*, or with a gateway's page where D3 has none."""
    text = text or ERRORS.get(status)
    if text is None:
        return page(status)
    return Answer(status, encode({"Error": text}))


def page(status: int) -> Answer:
    """Answer with what a gateway or a login page in front of D3 shows."""
    title = {200: "Sign in", 404: "Not Found", 405: "Method Not Allowed"}.get(status, f"Error {status}")
    text = f"<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return Answer(status, text.encode(), HTML)


def refused(text: str) -> Json:
    """Say that the command failed: HTTP 200 all the same."""
    return {"error": text, "returnData": "Failed", "rawData": ""}


def no_incident(incident: str) -> str:
    """Word the refusal of an incident that is not there; D3's own words are not published."""
    return f"Incident {incident} does not exist."


def task_created(task: Task, *, zone_label: str) -> Json:
    """Echo a task. Source: https://docs.d3security.com/api-docs/Working-version/create-task ."""
    return {"error": "", "returnData": "Successful", "rawData": task_echo(task, zone_label=zone_label)}


def task_echo(task: Task, *, zone_label: str) -> dict[str, str]:
    """Show the task the way D3 does: name trimmed, description as HTML, due date with its zone."""
    return {
        "Task Name": task.name.strip(),
        "Task Type": task.type,
        "Task Description": f"<p>{task.description}</p>",
        "Assignee": task.assignee,
        "Due Date": f"{task.due} {zone_label}",
        "Required on incident close": "Required" if task.required == "Yes" else "Not Required",
        "Creator": task.creator,
        "Incident Number": task.incident,
    }


def links_removed(source: str, remaining: list[str], refusals: list[tuple[str, str]], *, removed: int) -> Json:
    """Tell what became of the links.

    Source: https://docs.d3security.com/api-docs/Working-version/remove-linked-incidents ,
    the blank at the end of Data's key included.
    """
    status = "Successful" if not refusals else "Partially Successful" if removed else "Failed"
    return {
        "error": "",
        "returnData": {
            "Status": status,
            "Data": {f"Current linked Incident(s) of Incident {source} ": remaining},
            "ErrorData": [{"Incident Number": number, "Error message": text} for number, text in refusals],
        },
    }


def linked_incidents(numbers: list[str]) -> Json:
    """List incidents. Source: …/api-docs/Working-version/get-linked-incidents-of-an-incident ."""
    return {"error": "", "returnData": {"Status": "Successful", "Data": numbers}}


def incidents_page(rows: list[Json], total_pages: int | None) -> Json:
    """List incidents as GetIncidents does; *total_pages* is given only where a page size was given."""
    return {
        "error": "",
        "returnData": "Successful",
        "rawData": {"incidents": rows},
        "outputData": {} if total_pages is None else {"TotalPages": total_pages},
    }


def incident_row(world: World, number: str, created: str, fields: list[str]) -> Json:
    """Fill the static fields asked for; those the sandbox has nothing for are empty."""
    values: Json = {
        "IR Number": number,
        "Title": f"Incident {number}",
        "Status": "Open",
        "Severity": "Medium",
        "Owner": "admin user",
        "Creator": "admin user",
        "Date Created": created,
        "Linked Incidents": world.links.of(number) if "Linked Incidents" in fields else None,
    }
    return {name: values.get(name, "") for name in fields}


MAX_PAGE_SIZE = 1000
_TIME_SHAPE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII)


def _like(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.split("%")), re.DOTALL | re.IGNORECASE)


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
    def from_params(cls, params: Json) -> Query:
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


SHAPES = (1, 2)
_TYPES = {7: "Ad Hoc Tasks", 14: "Ad Hoc Tasks - Task Creation History"}


def log_entries(tasks: Sequence[Task], types: Sequence[int] | None, *, shape: int, zone_label: str) -> Json:
    """List the tasks as entries of type 7 and 14, or only of the *types* asked for."""
    wanted = [type_id for type_id in _TYPES if types is None or type_id in types]
    if shape == 1:
        data = list(_structured(tasks, wanted, zone_label))
        return {"error": "", "returnData": {"Status": "Successful", "Data": data}}
    return {"error": "", "returnData": "Successful", "rawData": {"logs": list(_narrated(tasks, wanted))}}


def _structured(tasks: Sequence[Task], wanted: Sequence[int], zone_label: str) -> Iterator[Json]:
    for task in reversed(tasks):
        for type_id in wanted:
            yield {
                "Log ID": task.n * 100 + type_id,
                "Log Type ID": type_id,
                "Log Type": _TYPES[type_id],
                "Operator": task.creator,
                "Content": task_echo(task, zone_label=zone_label),
            }


def _narrated(tasks: Sequence[Task], wanted: Sequence[int]) -> Iterator[Json]:
    for task in tasks:
        for type_id in wanted:
            said = f"created the ad hoc task <b>{task.name.strip()}</b> for {task.assignee}"
            yield {
                "logTypeId": type_id,
                "user": task.creator,
                "message": f"<p>{task.creator} {said}.</p>",
                "details": json.dumps({"taskName": task.name, "desc": task.description, "dueDate": task.due}),
            }
