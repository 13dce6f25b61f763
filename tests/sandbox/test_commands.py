"""Commands answer as printed on D3's pages, and change the world only when they say so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from d3async.sandbox.commands import LINKED, TASK_PARAMS, BadRequest, Look, canonical, perform, read_ask
from d3async.sandbox.state import World

if TYPE_CHECKING:
    from d3async.sandbox.commands import Done


def run(world: World, command: str, params: dict[str, Any], look: Look | None = None) -> Done:
    body = {"Username": "Admin", "Site": "Security Operations", "CommandParams": params}
    return perform(world, read_ask(1, command, body), look or Look())


def test_create_task_echoes_as_on_its_page(task: dict[str, str]) -> None:
    world = World()

    done = run(world, "CreateTask", task)

    assert done.body == {
        "error": "",
        "returnData": "Successful",
        "rawData": {
            "Task Name": "Sample Task",
            "Task Type": "Default",
            "Task Description": "<p>Sample Task Description</p>",
            "Assignee": "admin user",
            "Due Date": "2022-03-24 13:28:13 China Standard Time",
            "Required on incident close": "Required",
            "Creator": "admin user",
            "Incident Number": "20220125-1",
        },
    }
    assert [kept.as_params() for kept in world.tasks] == [task]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"Incident Number": "19000101-7"}, "Incident 19000101-7 does not exist."),
        ({"Assignee": "nobody"}, "The assignee nobody cannot be found."),
        ({"Due Date": "24/03/2027"}, "The due date 24/03/2027 is not in the format yyyy-MM-dd HH:mm:ss."),
        (
            {"Due Date": "2027-02-30 10:00:00"},
            "The due date 2027-02-30 10:00:00 is not in the format yyyy-MM-dd HH:mm:ss.",
        ),
        ({"Required": "true"}, "The value true of Required must be Yes or No."),
    ],
)
def test_a_refused_task_is_a_200_with_a_text_and_makes_nothing(
    task: dict[str, str], change: dict[str, str], text: str
) -> None:
    world = World()

    done = run(world, "CreateTask", task | change)

    assert (done.body, done.effect) == ({"error": text, "returnData": "Failed", "rawData": ""}, False)
    assert world.tasks == []


def test_a_task_that_is_not_required_says_so(task: dict[str, str]) -> None:
    done = run(World(), "CreateTask", task | {"Required": "No"}, Look(zone_label="UTC"))

    assert done.body["rawData"]["Required on incident close"] == "Not Required"
    assert done.body["rawData"]["Due Date"] == "2022-03-24 13:28:13 UTC"


def test_a_partial_removal_answers_as_on_its_page(removal: dict[str, Any], page_links: list[tuple[str, str]]) -> None:
    done = run(World(page_links), "RemoveLinkedIncidents", removal)

    assert done.body == {
        "error": "",
        "returnData": {
            "Status": "Partially Successful",
            "Data": {"Current linked Incident(s) of Incident 20231025-130 ": ["20231025-131"]},
            "ErrorData": [
                {
                    "Incident Number": "20210127-198",
                    "Error message": "The source incident is not linked to this incident.",
                }
            ],
        },
    }
    assert (done.effect, done.removed) == (True, 1)


@pytest.mark.parametrize(
    ("linked", "status", "remaining", "refused"),
    [
        (["B-1", "C-1"], "Successful", [], []),
        (["B-1"], "Successful", ["C-1"], []),
        (["B-1", "D-1"], "Partially Successful", ["C-1"], ["D-1"]),
        (["B-1", "MISSING-1"], "Partially Successful", ["C-1"], ["MISSING-1"]),
        (["B-1", "B-1"], "Partially Successful", ["C-1"], ["B-1"]),
        (["D-1", "A-1"], "Failed", ["B-1", "C-1"], ["D-1", "A-1"]),
    ],
)
def test_what_a_removal_says_is_what_happened(
    linked: Any, status: int, remaining: list[str], refused: list[str]
) -> None:
    world = World([("A-1", "B-1"), ("A-1", "C-1")])

    told = run(world, "RemoveLinkedIncidents", {"Source Incident Number": "A-1", LINKED: linked}).body["returnData"]

    assert told["Status"] == status
    assert told["Data"] == {"Current linked Incident(s) of Incident A-1 ": remaining}
    assert [item["Incident Number"] for item in told["ErrorData"]] == refused
    assert world.links.of("A-1") == remaining


def test_an_item_that_is_not_there_is_told_from_one_that_is_not_linked() -> None:
    params = {"Source Incident Number": "A-1", LINKED: ["MISSING-1", "D-1"]}

    told = run(World(), "RemoveLinkedIncidents", params).body["returnData"]

    assert [item["Error message"] for item in told["ErrorData"]] == [
        "Incident MISSING-1 does not exist.",
        "The source incident is not linked to this incident.",
    ]


def test_an_unknown_source_fails_as_a_whole() -> None:
    done = run(World(), "RemoveLinkedIncidents", {"Source Incident Number": "MISSING-1", LINKED: ["A-1"]})

    assert done.body == {"error": "Incident MISSING-1 does not exist.", "returnData": "Failed", "rawData": ""}


@pytest.mark.parametrize("name", TASK_PARAMS)
@pytest.mark.parametrize("value", [None, "", "  ", 5, ["x"]])
def test_a_parameter_that_is_missing_blank_or_no_text_is_a_bad_request(
    task: dict[str, str], name: str, value: object
) -> None:
    with pytest.raises(BadRequest, match=f"^The required parameter '{name}' is missing.$"):
        run(World(), "CreateTask", {**task, name: value})


@pytest.mark.parametrize(
    ("command", "body", "text"),
    [
        ("CreateTask", None, "The body of the request must be a valid JSON object"),
        ("CreateTask", [], "The body of the request must be a valid JSON object"),
        ("CreateTask", {}, "The required parameter 'Username' is missing."),
        ("CreateTask", {"Username": "Admin"}, "The required parameter 'Site' is missing."),
        ("CreateTask", {"Username": "Admin", "Site": "S"}, "The required parameter 'CommandParams' is missing."),
        (
            "RemoveLinkedIncidents",
            {"Username": "Admin", "Site": "S", "CommandParams": {"Source Incident Number": "A-1", LINKED: "B-1"}},
            f"The parameter '{LINKED}' must be an array of incident numbers.",
        ),
        (
            "GetIncidents",
            {"Username": "Admin", "Site": "S", "CommandParams": {"End Time": "x"}},
            "The required parameter 'Start Time' is missing.",
        ),
    ],
)
def test_a_bad_request_says_what_is_missing(command: str, body: Any, text: str) -> None:
    with pytest.raises(BadRequest) as problem:
        read_ask(1, command, body)

    assert str(problem.value) == text


@pytest.mark.parametrize("linked", [[], ["B-1", 7], None])
def test_links_are_an_array_of_texts(linked: Any) -> None:
    with pytest.raises(BadRequest, match="must be an array of incident numbers"):
        run(World(), "RemoveLinkedIncidents", {"Source Incident Number": "A-1", LINKED: linked})


def test_linked_incidents_come_with_the_start_and_what_is_linked_to_them() -> None:
    world = World([("20211015-2", "20211015-3"), ("20211015-3", "20211027-4")])

    done = run(world, "GetLinkedIncidentsOfAnIncident", {"Incident Number": "20211015-2"})

    assert done.body == {
        "error": "",
        "returnData": {"Status": "Successful", "Data": ["20211015-2", "20211015-3", "20211027-4"]},
    }


@pytest.mark.parametrize("command", ["GetLinkedIncidentsOfAnIncident", "GetIncidentCommandCenterLogs"])
def test_asking_about_an_incident_that_is_not_there_fails(command: str) -> None:
    done = run(World(), command, {"Incident Number": "MISSING-1"})

    assert done.body["error"] == "Incident MISSING-1 does not exist."


@pytest.mark.parametrize(("types", "found"), [([7, 14], [7, 14]), ([14], [14]), ([], [7, 14]), ([1, 2], [])])
def test_logs_hold_each_task_once_a_type(task: dict[str, str], types: list[int], found: Any) -> None:
    world = World()
    run(world, "CreateTask", task)

    done = run(world, "GetIncidentCommandCenterLogs", {"Incident Number": "20220125-1", "Log Type ID": types})

    entries = done.body["returnData"]["Data"]
    assert [entry["Log Type ID"] for entry in entries] == found
    assert all(entry["Content"]["Task Name"] == "Sample Task" for entry in entries)


def test_logs_have_a_second_shape_that_shares_no_key_with_the_first(task: dict[str, str]) -> None:
    world = World()
    run(world, "CreateTask", task)
    ask = "GetIncidentCommandCenterLogs", {"Incident Number": "20220125-1"}

    first = run(world, *ask).body["returnData"]["Data"][0]
    second = run(world, *ask, Look(log_shape=2)).body["rawData"]["logs"][0]

    assert not set(first) & set(second)
    assert "Sample Task" in second["message"]
    assert '"desc": "Sample Task Description"' in second["details"]


@pytest.mark.parametrize(
    ("name", "found"), [("createtask", "CreateTask"), ("CREATETASK", "CreateTask"), ("CreateTasks", None), ("", None)]
)
def test_command_names_have_no_case(name: str, found: Any) -> None:
    assert canonical(name) == found
