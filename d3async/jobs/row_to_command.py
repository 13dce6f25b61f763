"""How the cells below one header become one command: worked out once, used for every row."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from d3async.commands.values import as_text
from d3async.sansio.advice import Advice
from d3async.sansio.headers import PROFILE, SITE, USERNAME
from d3async.sansio.job import Problem, asked
from d3async.sansio.plain import plain_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from d3async.commands.base import Command
    from d3async.commands.values import Reading
    from d3async.sansio.job import Asked

    Built = tuple[Asked | None, tuple[Problem, ...], tuple[Problem, ...]]
    Route = Callable[[str, type[Command]], str | Problem]
    """Of a profile ("" where a row names none) the site of its rows, or why it can't be sent rows of a command."""

_SHOWN = 200
_CURES = {"not_yes_no": "write Yes or No"}


class Envelope(NamedTuple):
    """Where a row goes and as whom: *site* "" for none, *username* and *profile* None where it names none."""

    site: str
    username: str | None
    profile: str | None
    problems: tuple[Problem, ...] = ()


class Shape:
    """*at* says where the columns of *command* stand among *keys*, *filled* what empty or absent ones are taken for.

    *site* is the site of rows that name neither it nor a profile, *now* what due dates are past of.
    """

    def __init__(
        self,
        command: type[Command],
        keys: Sequence[str],
        at: Mapping[str, int],
        filled: Mapping[str, str],
        *,
        reading: Reading,
        site: str = "",
        now: str = "",
        route: Route | None = None,
    ) -> None:
        self._kind, self._route = command, route
        self._validate = TypeAdapter(command).validator.validate_python
        self._reading = reading
        self._spelt = {name: keys[place].strip() for name, place in at.items()}
        self._fields = tuple(name for name in command.model_fields if name in at)
        self._pick = _picker([at[name] for name in self._fields])
        self._set = {name: filled[name] for name in command.model_fields if name in filled}
        self._optional = [
            name for name in self._fields if name in filled or not command.model_fields[name].is_required()
        ]
        self._at = {name: at.get(name) for name in (SITE, USERNAME, PROFILE)}
        self._given = {name: filled.get(name, "") for name in self._at}
        self._site = site
        self.envelope = None if at.keys() & self._at.keys() else self.addressed(())
        """Where every row goes and as whom; None where rows may have their own."""
        self._advice = Advice(command, now)
        self.plain = plain_rows(command, at, filled, reading=reading, advice=self._advice)
        """What reads rows by the column; None where rows of such a file cannot be read so."""

    def asked(self, cells: Sequence[Any]) -> Built:
        """What the row asks for, or what is wrong; and what is odd about it."""
        picked = self._pick(cells)
        values = dict(zip(self._fields, picked))  # noqa: B905 - as long as each other, and this runs for every row
        if self._set or "" in picked:
            values = self._filled(values)
        try:
            job = self._validate(values, context=self._reading)
        except ValidationError as error:
            # cells of blanks are rare: they are looked for when something is wrong anyway
            filled = self._filled(values)
            return self._wrong(error) if filled == values else self._again(filled)
        return (asked(job), (), ()) if self._advice.needless(job) else self._looked_at(job, values)

    def _again(self, values: dict[str, Any]) -> Built:
        try:
            job = self._validate(values, context=self._reading)
        except ValidationError as error:
            return self._wrong(error)
        return self._looked_at(job, values)

    def _looked_at(self, job: Command, values: Mapping[str, Any]) -> Built:
        if wrong := self._advice.unseen(job):
            return None, self._in_file(wrong), ()
        return asked(job), (), self._in_file(self._advice.of(job, values))

    def _wrong(self, error: ValidationError) -> Built:
        return None, tuple(self._problem(one) for one in error.errors(include_url=False)), ()

    def _filled(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """*values* without empty cells of fields that have a default or are set; JSON's null is empty."""
        found = {name: "" if value is None else value for name, value in values.items()}
        for name in self._optional:
            value = found.get(name)
            if isinstance(value, str) and not value.strip():
                del found[name]
        return {**self._set, **found}

    def addressed(self, cells: Sequence[Any]) -> Envelope:
        """Where the row goes and as whom, and what is wrong with that."""
        problems: list[Problem] = []
        site, username, profile = (self._text(cells, name, problems) or self._given[name] for name in self._at)
        home = self._home(profile, problems)
        return Envelope(site or home, username or None, profile or None, tuple(problems))

    def _home(self, profile: str, problems: list[Problem]) -> str:
        """The site of rows of *profile* that name none."""
        unread = any(problem.code == PROFILE for problem in problems)
        if self._route is None or unread or not (profile or self._at[PROFILE] is not None):
            return self._site
        found = self._route(profile, self._kind)
        if isinstance(found, str):
            return found
        problems.append(replace(found, column=self._spelt.get(PROFILE, PROFILE), value=shown(profile)))
        return ""

    def _text(self, cells: Sequence[Any], name: str, problems: list[Problem]) -> str:
        at = self._at[name]
        if at is None or cells[at] is None:
            return ""
        try:
            return as_text(cells[at]).strip()
        except PydanticCustomError as error:
            problems.append(Problem(name.casefold(), self._spelt[name], shown(cells[at]), error.message()))
            return ""

    def _problem(self, error: Mapping[str, Any]) -> Problem:
        name = str(next(iter(error["loc"]), ""))
        column = self._spelt.get(name, name)
        if error["type"] == "missing":
            return Problem(name, column, "", "is missing", f"--set '{name}=…' fills it")
        cure = error.get("ctx", {}).get("cure") or _CURES.get(error["type"], "")
        return Problem(name, column, shown(error["input"]), error["msg"], cure)

    def _in_file(self, problems: Sequence[Problem]) -> tuple[Problem, ...]:
        """*problems* under the names that columns have in the file."""
        return tuple(replace(problem, column=self._spelt.get(problem.column, problem.column)) for problem in problems)


def shown(value: object) -> str:
    """*value* as people are told it, cut where it is long."""
    try:
        text = str(value) if isinstance(value, str | date) else json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        return "a value too large to show"
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _picker(places: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """What takes the cells at *places* out of a row; `itemgetter` gives a tuple for two and more only."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda cells: tuple(cells[place] for place in places)
