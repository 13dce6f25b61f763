"""What every D3 command is: fields under D3's own names, and what may be done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Mapping


class Command(BaseModel):
    """One call D3 can be asked for. The class is named as D3 names the command.

    Fields are our column names, their aliases D3's parameter names. *repeatable* says whether doing it twice leaves
    D3 as doing it once does. *subject* is the field that names the incident it works on. *items* is the field that
    lists what one call carries several of, if there is one; the answer then speaks of each item.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_by_name=True,
        validate_by_alias=True,
        loc_by_alias=False,
        hide_input_in_errors=True,
    )

    repeatable: ClassVar[bool]
    subject: ClassVar[str]
    items: ClassVar[str | None] = None
    page: ClassVar[str]
    nouns: ClassVar[tuple[str, str]]
    """What one job is called, in the singular and the plural: `("task", "tasks")`."""
    verb: ClassVar[str]
    facets: ClassVar[dict[str, str]] = {}
    """What the plan counts: `{"people": "assignee"}`."""
    example: ClassVar[dict[str, str]]
    similar: ClassVar[tuple[str, ...]] = ()
    """Two rows that have these fields in common are probably the same one, asked for again by mistake."""
    alike: ClassVar[tuple[str, ...]] = ()
    """Two rows that have these fields and *when* in common may be the same one under another name."""
    when: ClassVar[str | None] = None
    """The field that says for when it is asked for: another day is another row."""

    def params(self) -> dict[str, Any]:
        """`CommandParams` of D3's envelope."""
        return self.model_dump(by_alias=True)

    @classmethod
    def oddities(cls, params: Mapping[str, Any], answer: Any) -> tuple[str, ...]:  # noqa: ARG003 - for commands that know
        """What in D3's *answer* to these *params* differs from what was asked, in words; it happened all the same."""
        return ()

    @classmethod
    def parameter(cls, field: str) -> str:
        """D3's name of our *field*."""
        return cls.model_fields[field].alias or field
