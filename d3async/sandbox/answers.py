"""The bodies D3 answers with, as printed on its pages."""

import json
from dataclasses import dataclass
from typing import Any

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
    """List incidents as GetIncidents does; *total_pages* is told only where a page size was given."""
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
