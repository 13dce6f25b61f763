"""The commands are what D3's two pages say, to the letter."""

from datetime import date, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from d3async.d3.commands import all_commands, find
from d3async.d3.commands.create_task import CreateTask
from d3async.d3.commands.remove_linked_incidents import RemoveLinkedIncidents

TASK: dict[str, Any] = {
    "incident": "20220125-1",
    "name": "Sample Task ",
    "type": "Default",
    "description": "Sample Task Description",
    "assignee": "admin user",
    "due": "2022-03-24 13:28:13",
    "required": "Yes",
}


def test_create_task_has_the_parameters_of_d3s_page() -> None:
    assert CreateTask.model_validate(TASK).params() == {
        "Incident Number": "20220125-1",
        "Task Name": "Sample Task",
        "Task Type": "Default",
        "Task Description": "Sample Task Description",
        "Assignee": "admin user",
        "Due Date": "2022-03-24 13:28:13",
        "Required": "Yes",
    }


def test_remove_linked_incidents_has_one_array_for_the_links() -> None:
    command = RemoveLinkedIncidents.model_validate(
        {"source": "20231025-130", "linked": ["20210127-198", "20210127-197"]}
    )
    assert command.model_dump(mode="json", by_alias=True) == {
        "Source Incident Number": "20231025-130",
        "Linked Incident Numbers to be Removed": ["20210127-198", "20210127-197"],
    }


@pytest.mark.parametrize(
    ("field", "given", "taken"),
    [
        ("incident", " 0042-1 ", "0042-1"),
        ("incident", 42, "42"),
        ("description", " as given \n", " as given \n"),
        ("due", datetime(2026, 12, 1, 17, 0), "2026-12-01 17:00:00"),  # noqa: DTZ001 - D3 takes no zone
        ("due", date(2026, 12, 1), "2026-12-01 00:00:00"),
        ("due", "2026-12-01T17:00", "2026-12-01 17:00:00"),
        ("required", "y", "Yes"),
        ("required", False, "No"),
        ("required", "0", "No"),
    ],
)
def test_what_a_field_takes(field: str, given: object, taken: str) -> None:
    assert getattr(CreateTask.model_validate({**TASK, field: given}), field) == taken


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("incident", ""),
        ("incident", "  "),
        ("incident", 4.5),
        ("incident", True),
        ("name", None),
        ("description", " \n"),
        ("assignee", ["a"]),
        ("due", "03/04/2026"),
        ("due", "2026-02-30 10:00:00"),
        ("due", "2026-12-01T17:00:00+02:00"),
        ("due", 46000),
        ("required", "perhaps"),
        ("colour", "blue"),
    ],
)
def test_what_a_field_refuses(field: str, given: object) -> None:
    with pytest.raises(ValidationError):
        CreateTask.model_validate({**TASK, field: given})


@pytest.mark.parametrize(
    ("cell", "numbers"),
    [
        ("1", ("1",)),
        ("1;2, 3\n4 5", ("1", "2", "3", "4", "5")),
        ("1;1;;2;", ("1", "2")),
        (["1", 2, " 3 "], ("1", "2", "3")),
        (7, ("7",)),
    ],
)
def test_links_are_read_from_one_cell_or_a_list_each_once_in_order(cell: object, numbers: tuple[str, ...]) -> None:
    assert RemoveLinkedIncidents.model_validate({"source": "1", "linked": cell}).linked == numbers


@pytest.mark.parametrize("cell", ["", " ; ,", [], [""], [None], [["1"]], {"a": 1}, None])
def test_a_row_without_a_link_is_refused(cell: object) -> None:
    with pytest.raises(ValidationError):
        RemoveLinkedIncidents.model_validate({"source": "1", "linked": cell})


@pytest.mark.parametrize("name", ["CreateTask", "create-task", "createtask", "CREATE_TASK", "Create Task"])
def test_a_command_is_found_however_it_is_spelt(name: str) -> None:
    assert find(name) is CreateTask


@pytest.mark.parametrize("name", ["", "Create", None, [], 1, "Command"])
def test_what_is_no_command_is_not_found(name: object) -> None:
    assert find(name) is None


def test_every_command_says_whether_twice_is_once_and_brings_an_example_that_holds() -> None:
    for name, command in all_commands().items():
        assert isinstance(command.repeatable, bool), name
        assert command.subject in command.model_fields, name
        assert command.model_validate(command.example), name


@pytest.mark.parametrize(
    ("echo", "odd"),
    [
        ("2022-03-24 13:28:13 China Standard Time", False),
        ("2022-03-24 13:28:13", False),
        ("2022-03-24 05:28:13 UTC", True),
        (None, False),
        (5, False),
    ],
)
def test_a_due_date_that_comes_back_as_another_time_is_said(echo: object, odd: bool) -> None:
    params = CreateTask.model_validate(TASK).params()
    assert bool(CreateTask.oddities(params, {"rawData": {"Due Date": echo}})) is odd


@pytest.mark.parametrize("answer", [None, "", [], {"rawData": ""}, {"rawData": []}])
def test_an_answer_without_an_echo_is_not_odd(answer: object) -> None:
    assert CreateTask.oddities(CreateTask.model_validate(TASK).params(), answer) == ()
