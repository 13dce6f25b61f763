"""RemoveLinkedIncidents. https://docs.d3security.com/api-docs/Working-version/remove-linked-incidents ."""

from typing import ClassVar

from pydantic import Field

from d3async.d3.commands import Command, Numbers, Text


class RemoveLinkedIncidents(Command):
    """Remove links from one source incident. Removing a link that is gone changes nothing."""

    repeatable: ClassVar = True
    subject: ClassVar = "source"
    items: ClassVar = "linked"
    page: ClassVar = "https://docs.d3security.com/api-docs/Working-version/remove-linked-incidents"
    nouns: ClassVar = ("link", "links")
    verb: ClassVar = "remove"
    facets: ClassVar = {"source incidents": "source"}
    example: ClassVar = {"source": "20231025-130", "linked": "20210127-198;20210127-197"}

    source: Text = Field(alias="Source Incident Number")
    linked: Numbers = Field(alias="Linked Incident Numbers to be Removed")
