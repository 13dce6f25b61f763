"""CreateTask. https://docs.d3security.com/api-docs/Working-version/create-task ."""

from typing import ClassVar

from pydantic import Field

from d3async.commands.base import Command
from d3async.commands.values import AsGiven, DueDate, Text, YesNo


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

    incident: Text = Field(alias="Incident Number")
    name: Text = Field(alias="Task Name")
    type: Text = Field("Default", alias="Task Type")
    description: AsGiven = Field(alias="Task Description")
    assignee: Text = Field(alias="Assignee")
    due: DueDate = Field(alias="Due Date")
    required: YesNo = Field("No", alias="Required")
