"""CreateTask. https://docs.d3security.com/api-docs/Working-version/create-task ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from d3async.d3.commands import AsGiven, Command, DueDate, Text, YesNo

if TYPE_CHECKING:
    from collections.abc import Mapping

ECHO = "rawData"


class CreateTask(Command):
    """Create a task in an incident and assign it to a user.

    D3 returns no id and takes no key, and nothing deletes a task: sent twice is a task twice.
    """

    repeatable: ClassVar = False
    subject: ClassVar = "incident"
    page: ClassVar = "https://docs.d3security.com/api-docs/Working-version/create-task"
    nouns: ClassVar = ("task", "tasks")
    verb: ClassVar = "create"
    facets: ClassVar = {"people": "assignee", "incidents": "incident"}
    example: ClassVar = {
        "incident": "20220125-1",
        "name": "Call the user",
        "type": "Default",
        "description": "Ask whether the sign-in from abroad was theirs.",
        "assignee": "admin user",
        "due": "2026-12-31 17:00:00",
        "required": "Yes",
    }

    similar: ClassVar = ("incident", "name")
    alike: ClassVar = ("incident", "assignee")
    when: ClassVar = "due"

    incident: Text = Field(alias="Incident Number")
    name: Text = Field(alias="Task Name")
    type: Text = Field("Default", alias="Task Type")
    description: AsGiven = Field(alias="Task Description")
    assignee: Text = Field(alias="Assignee")
    due: DueDate = Field(alias="Due Date")
    required: YesNo = Field("No", alias="Required")

    @classmethod
    def oddities(cls, params: Mapping[str, Any], answer: Any) -> tuple[str, ...]:
        """D3 echoes the due date with the zone it read it in; another time than was sent is worth knowing."""
        echo = answer.get(ECHO) if isinstance(answer, dict) else None
        due = echo.get("Due Date") if isinstance(echo, dict) else None
        if not isinstance(due, str) or due.startswith(sent := params.get("Due Date", "")):
            return ()
        return (f"Due Date was sent as {sent} and comes back as {due}",)
