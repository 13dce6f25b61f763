"""What each command asks for, does to the world, and answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from d3async.sandbox import answers
from d3async.sandbox.answers import Json, log_entries
from d3async.sandbox.state import Task, World

TASK_PARAMS = ("Task Name", "Task Type", "Task Description", "Assignee", "Due Date", "Required", "Incident Number")
_ENVELOPE = ("Username", "Site")
SOURCE = "Source Incident Number"
LINKED = "Linked Incident Numbers to be Removed"
INCIDENT = "Incident Number"


class BadRequest(Exception):  # noqa: N818 - it is HTTP's own name for it
    """The request is answered 400 with this text."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One understood request: *n* is its place in the ledger."""

    n: int
    command: str
    username: str
    params: Json
    skip_first: bool = False
    """The `still-linked` fault: the first link stays and nothing is said about it."""

    @property
    def incident(self) -> str:
        """The incident that the request is about, `""` where it names none."""
        found = self.params.get(SOURCE if self.command == "RemoveLinkedIncidents" else INCIDENT, "")
        return found if isinstance(found, str) else ""

    @property
    def items(self) -> tuple[str, ...]:
        """The linked incidents that a RemoveLinkedIncidents names."""
        return tuple(self.params[LINKED]) if self.command == "RemoveLinkedIncidents" else ()


@dataclass(frozen=True, slots=True)
class Done:
    """What a command answered, and whether it changed anything."""

    body: Json
    effect: bool = False
    task: Task | None = None
    removed: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """How the sandbox words what D3 does not publish: the due date's zone, the shape of a log."""

    zone_label: str = "China Standard Time"
    log_shape: int = 1


def read_ask(n: int, command: str, body: object) -> Ask:
    """Understand a request body; raises `BadRequest`."""
    if not isinstance(body, dict):
        raise BadRequest(answers.ERRORS[400])
    _require_texts(body, _ENVELOPE)
    params = body.get("CommandParams")
    if not isinstance(params, dict):
        raise BadRequest("The required parameter 'CommandParams' is missing.")
    _CHECKS[command](params)
    return Ask(n=n, command=command, username=body["Username"], params=params)


def perform(world: World, ask: Ask, look: Look) -> Done:
    """Let the command take effect and word the answer."""
    return _PERFORMERS[ask.command](world, ask, look)


def canonical(name: str) -> str | None:
    """Give a command's name its own case; None for a command that is not there."""
    return _BY_FOLDED_NAME.get(name.casefold())


def _create_task(world: World, ask: Ask, look: Look) -> Done:
    task = Task.from_params(ask.n, ask.params, creator=f"{ask.username.lower()} user")
    if refusal := _task_refusal(world, task):
        return Done(answers.refused(refusal))
    world.add_task(task)
    return Done(answers.task_created(task, zone_label=look.zone_label), effect=True, task=task)


def _task_refusal(world: World, task: Task) -> str:
    if not world.exists(task.incident):
        return answers.no_incident(task.incident)
    if not world.knows_assignee(task.assignee):
        return f"The assignee {task.assignee} cannot be found."
    if not answers.is_time(task.due):
        return f"The due date {task.due} is not in the format yyyy-MM-dd HH:mm:ss."
    if task.required not in {"Yes", "No"}:
        return f"The value {task.required} of Required must be Yes or No."
    return ""


def _remove_linked_incidents(world: World, ask: Ask, look: Look) -> Done:  # noqa: ARG001 - one shape for all commands
    source = ask.incident
    if not world.exists(source):
        return Done(answers.refused(answers.no_incident(source)))
    refusals: list[tuple[str, str]] = []
    removed = 0
    for number in ask.items[1:] if ask.skip_first else ask.items:
        if world.links.remove(source, number):
            removed += 1
        else:
            refusals.append((number, answers.NOT_LINKED if world.exists(number) else answers.no_incident(number)))
    body = answers.links_removed(source, world.links.of(source), refusals, removed=removed + ask.skip_first)
    return Done(body, effect=removed > 0, removed=removed)


def _get_incidents(world: World, ask: Ask, look: Look) -> Done:  # noqa: ARG001 - one shape for all commands
    try:
        query = answers.Query.from_params(ask.params)
        numbers = answers.matching(world, query)
    except answers.NotUnderstoodError as problem:
        return Done(answers.refused(str(problem)))
    rows = [
        answers.incident_row(world, number, answers.created(number), query.fields) for number in query.page(numbers)
    ]
    return Done(answers.incidents_page(rows, query.total_pages(len(numbers))))


def _get_linked_incidents(world: World, ask: Ask, look: Look) -> Done:  # noqa: ARG001 - one shape for all commands
    if not world.exists(ask.incident):
        return Done(answers.refused(answers.no_incident(ask.incident)))
    return Done(answers.linked_incidents(world.links.reach(ask.incident)))


def _get_logs(world: World, ask: Ask, look: Look) -> Done:
    if not world.exists(ask.incident):
        return Done(answers.refused(answers.no_incident(ask.incident)))
    types = ask.params.get("Log Type ID") or None
    entries = log_entries(world.tasks_of(ask.incident), types, shape=look.log_shape, zone_label=look.zone_label)
    return Done(entries)


def _check_task(params: Json) -> None:
    _require_texts(params, TASK_PARAMS)


def _check_removal(params: Json) -> None:
    _require_texts(params, (SOURCE,))
    numbers = params.get(LINKED)
    if not isinstance(numbers, list) or not numbers or not all(isinstance(one, str) for one in numbers):
        raise BadRequest(f"The parameter '{LINKED}' must be an array of incident numbers.")


def _check_incident(params: Json) -> None:
    _require_texts(params, (INCIDENT,))
    types = params.get("Log Type ID", [])
    if not isinstance(types, list) or not all(isinstance(one, int) for one in types):
        raise BadRequest("The parameter 'Log Type ID' must be an array of integers.")


def _check_listing(params: Json) -> None:
    _require_texts(params, ("Start Time", "End Time"))


def _require_texts(where: Json, names: tuple[str, ...]) -> None:
    for name in names:
        value = where.get(name)
        if not isinstance(value, str) or not value.strip():
            raise BadRequest(f"The required parameter '{name}' is missing.")


_CHECKS: Mapping[str, Callable[[Json], None]] = {
    "CreateTask": _check_task,
    "RemoveLinkedIncidents": _check_removal,
    "GetIncidents": _check_listing,
    "GetLinkedIncidentsOfAnIncident": _check_incident,
    "GetIncidentCommandCenterLogs": _check_incident,
}
_PERFORMERS: Mapping[str, Callable[[World, Ask, Look], Done]] = {
    "CreateTask": _create_task,
    "RemoveLinkedIncidents": _remove_linked_incidents,
    "GetIncidents": _get_incidents,
    "GetLinkedIncidentsOfAnIncident": _get_linked_incidents,
    "GetIncidentCommandCenterLogs": _get_logs,
}
COMMANDS = tuple(_PERFORMERS)
_BY_FOLDED_NAME = {name.casefold(): name for name in COMMANDS}
