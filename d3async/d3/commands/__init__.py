"""What D3 can be asked: one file a command, found by being here; what a command is, and the types of its fields."""

from __future__ import annotations

import importlib
import pkgutil
import re
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationInfo
from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import LiteralString


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


@cache
def all_commands() -> Mapping[str, type[Command]]:
    """Every command of this package, by D3's name."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    found = sorted(Command.__subclasses__(), key=lambda command: command.__name__)
    return MappingProxyType({command.__name__: command for command in found if command.__module__.startswith(__name__)})


def find(name: object) -> type[Command] | None:
    """The command called *name*, in any case, with or without dashes, blanks and underscores."""
    if not isinstance(name, str):
        return None
    wanted = plain(name)
    return next((command for known, command in all_commands().items() if plain(known) == wanted), None)


def plain(name: str) -> str:
    """*name* as names are compared: without regard to case, blanks, `_` and `-`."""
    return "".join(letter for letter in name if letter not in " _-\t").casefold()


D3_TIME = "%Y-%m-%d %H:%M:%S"
_SEPARATORS = re.compile(r"[;,\s]+")
_YES_NO = {
    **dict.fromkeys(("yes", "y", "true", "1"), "Yes"),
    **dict.fromkeys(("no", "n", "false", "0"), "No"),
}


@dataclass(frozen=True, slots=True)
class Reading:
    """How cells are read, handed to pydantic as its context. *due* turns a Due Date cell into D3's form."""

    due: Callable[[object], str]


@dataclass(frozen=True, slots=True)
class ColumnValues:
    """Beside a validator: what it makes of a column of texts, None where it is to look itself."""

    values: Callable[[Sequence[str], Reading], list[str | None]]


def as_text(value: object) -> str:
    """Text as it is; whole numbers of JSON as their digits. Raises `PydanticCustomError`."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, date):
        raise PydanticCustomError("date_cell", "is a date to Excel: make the column text and type it again")
    raise PydanticCustomError("not_text", "is not text: write it in quotes")


def _texts(cells: Sequence[str], _: object = None) -> list[str | None]:
    return [cell.strip() or None for cell in cells]


def _as_given(cells: Sequence[str], _: object = None) -> list[str | None]:
    return [cell if cell.strip() else None for cell in cells]


def _answers(cells: Sequence[str], _: object = None) -> list[str | None]:
    return [_YES_NO.get(cell.strip().casefold()) for cell in cells]


def _stripped(value: object) -> str:
    return _found(_texts([as_text(value)]), "empty", "is empty")


def _filled(value: object) -> str:
    return _found(_as_given([as_text(value)]), "empty", "is empty")


def _yes_no(value: object) -> str:
    return _found(_answers([str(value)]), "not_yes_no", "is neither Yes nor No")


def _found(values: Sequence[str | None], code: LiteralString, message: LiteralString) -> str:
    (value,) = values
    if value is None:
        raise PydanticCustomError(code, message)
    return value


def _due(value: object, info: ValidationInfo) -> str:
    reading = info.context
    if isinstance(reading, Reading):
        return reading.due(value)
    return plain_due(value)


def plain_due(value: object) -> str:
    """D3's `yyyy-MM-dd HH:mm:ss` of a `datetime` or an ISO 8601 text, both without a zone: D3's page knows none.

    Raises `PydanticCustomError` for anything else.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise PydanticCustomError("not_a_date", "is not a date like 2026-12-31 17:00:00") from None
    if not isinstance(value, date):
        raise PydanticCustomError("not_a_date", "is not a date like 2026-12-31 17:00:00")
    if not isinstance(value, datetime):
        return f"{value:%Y-%m-%d} 00:00:00"
    if value.tzinfo is not None:
        raise PydanticCustomError("zone", "has a time zone and D3 takes none: convert it to the server's zone")
    return f"{value:%Y-%m-%d %H:%M:%S}"


def _numbers(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        parts: list[str] = _SEPARATORS.split(value)
    elif isinstance(value, list | tuple):
        parts = [as_text(part).strip() for part in value]
    else:
        parts = [as_text(value)]
    return tuple(dict.fromkeys(part for part in parts if part))


def _some(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise PydanticCustomError("empty", "is empty")
    return value


def _dues(cells: Sequence[str], reading: Reading) -> list[str | None]:
    known: dict[str, str | None] = {}
    for cell in set(cells):
        try:
            known[cell] = reading.due(cell)
        except PydanticCustomError:
            known[cell] = None
    return [known[cell] for cell in cells]


Text = Annotated[str, BeforeValidator(_stripped), ColumnValues(_texts)]
"""Text without blanks at its ends; empty is an error."""
AsGiven = Annotated[str, BeforeValidator(_filled), ColumnValues(_as_given)]
"""Text sent as given, blanks and all; nothing but blanks is an error."""
YesNo = Annotated[str, BeforeValidator(_yes_no), ColumnValues(_answers)]
"""`Yes` or `No`; also y/n, true/false, 1/0."""
DueDate = Annotated[str, BeforeValidator(_due), ColumnValues(_dues)]
"""`yyyy-MM-dd HH:mm:ss`, as D3's Create Task page asks."""
Numbers = Annotated[tuple[str, ...], BeforeValidator(_numbers), AfterValidator(_some)]
"""Incident numbers: a list, or text with `;`, `,`, blanks or newlines between them; each once, in order."""
