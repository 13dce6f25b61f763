"""GetIncidentCommandCenterLogs: an incident's ad hoc tasks, in two shapes, as D3 does not publish its own.

Types asked for: https://docs.d3security.com/api-docs/Working-version/get-incident-command-center-logs .
"""

import json
from collections.abc import Iterator, Sequence

from d3async.sandbox.answers import Json, task_echo
from d3async.sandbox.state import Task

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
