"""How the cells below one header become one command; rows that nothing is odd about are read by the column."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import date
from functools import lru_cache
from itertools import chain, compress, repeat
from json.encoder import encode_basestring
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pydantic import BeforeValidator, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from d3async.d3.commands import ColumnValues, as_text
from d3async.jobs.columns import PROFILE, SITE, USERNAME
from d3async.jobs.job import Problem, Request, request_of
from d3async.jobs.problems import Advice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pydantic.fields import FieldInfo

    from d3async.d3.commands import Command, Reading

    Built = tuple[Request | None, tuple[Problem, ...], tuple[Problem, ...]]
    ProfileCheck = Callable[[str, type[Command]], str | Problem]
    """Of a profile ("" where a row names none) the site of its rows, or why it can't be sent rows of a command."""
    Column = Sequence[str | None]

_PARTS = 2
"""Of such a type: its validator, and `ColumnValues` beside it."""
_KEPT_DUES = 1000


class _Source(NamedTuple):
    """Where the values of a field come from: the column *at*, None for none; *blank* replaces an empty cell."""

    name: str
    at: int | None
    plainly: ColumnValues
    blank: str | None


class ColumnReader:
    """What the rows below one header ask for, as far as that is plain; `shape.Shape` says the same of every row."""

    def __init__(self, command: type[Command], sources: Sequence[_Source], reading: Reading, advice: Advice) -> None:
        self._command, self._sources = command, sources
        self._reading, self._advice = replace(reading, due=lru_cache(_KEPT_DUES)(reading.due)), advice
        names = [encode_basestring(command.parameter(source.name)) for source in sources]
        self._between = [f"{',' if at else '{'}{name}:" for at, name in enumerate(names)]

    def read(self, cells: Sequence[Sequence[Any]]) -> list[Request | None]:
        """What each row of *cells* asks for; None for one that is to be looked at by itself."""
        columns = list(zip(*cells, strict=True))
        values = [self._values(source, columns, len(cells)) for source in self._sources]
        if not any(None in column for column in values):
            return [*self._asked(cast("list[Sequence[str]]", values))]
        plain = [None not in row for row in zip(*values, strict=True)]
        found = self._asked([cast("list[str]", list(compress(column, plain))) for column in values])
        return [next(found) if whole else None for whole in plain]

    def _values(self, source: _Source, columns: Sequence[Sequence[Any]], count: int) -> Column:
        if source.at is None:
            return [source.blank] * count
        column = columns[source.at]
        if set(map(type, column)) != {str}:
            return [None] * count
        found = source.plainly.values(column, self._reading)
        if source.blank is not None and None in found:
            blank = source.blank
            found = [
                blank if value is None and not cell.strip() else value
                for value, cell in zip(found, column, strict=True)
            ]
        strange = self._advice.strange(source.name, found)
        return [None if value in strange else value for value in found] if strange else found

    def _asked(self, values: Sequence[Sequence[str]]) -> Iterator[Request]:
        kind, named = self._command, {source.name: column for source, column in zip(self._sources, values, strict=True)}
        people: Iterable[str | None] = named.get(kind.facets.get("people", ""), repeat(None))
        parts = zip(repeat(kind), self._params(values), named[kind.subject], people, repeat(()), strict=False)
        return map(Request._make, parts)

    def _params(self, values: Sequence[Sequence[str]]) -> Iterator[str]:
        """`CommandParams` as JSON, of each row."""
        columns = (map(encode_basestring, column) for column in values)
        parts = chain.from_iterable(
            (repeat(between), column) for between, column in zip(self._between, columns, strict=True)
        )
        return map("".join, zip(*parts, repeat("}"), strict=False))


def plain_rows(
    command: type[Command], at: Mapping[str, int], filled: Mapping[str, str], *, reading: Reading, advice: Advice
) -> ColumnReader | None:
    """What reads rows of *command* by the column; None where only its validators can say what a row is."""
    if command.items or _has_rules_of_its_own(command):
        return None
    sources = [_source(name, info, at, filled, reading) for name, info in command.model_fields.items()]
    known = [source for source in sources if source is not None]
    if len(known) < len(sources):
        return None
    constant = [source for source in known if source.at is None]
    if any(source.blank is None or advice.strange(source.name, [source.blank]) for source in constant):
        return None
    return ColumnReader(command, known, reading, advice)


def _source(
    name: str, info: FieldInfo, at: Mapping[str, int], filled: Mapping[str, str], reading: Reading
) -> _Source | None:
    plainly = _plainly(info)
    if plainly is None:
        return None
    blank = info.default if isinstance(info.default, str) else None
    if name in filled:
        (blank,) = plainly.values([filled[name]], reading)
    return _Source(name, at.get(name), plainly, blank)


def _plainly(info: FieldInfo) -> ColumnValues | None:
    """How the field is read by the column, if its type says so and the field itself asks for nothing more."""
    found = [part for part in info.metadata if isinstance(part, ColumnValues)]
    others = [part for part in info.metadata if not isinstance(part, ColumnValues | BeforeValidator)]
    usual = info.annotation is str and info.exclude is None and info.serialization_alias == info.alias
    return found[0] if len(found) == 1 and len(info.metadata) == _PARTS and not others and usual else None


def _has_rules_of_its_own(command: type[Command]) -> bool:
    """Whether the class adds validators or serializers to those of its fields' types."""
    added = command.__pydantic_decorators__
    return any(getattr(added, field.name) for field in fields(added))


_SHOWN = 200
_CURES = {"not_yes_no": "write Yes or No"}


class Envelope(NamedTuple):
    """Where a row goes and as whom: *site* "" for none, *username* and *profile* None where it names none."""

    site: str
    username: str | None
    profile: str | None
    problems: tuple[Problem, ...] = ()


class RowToCommand:
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
        route: ProfileCheck | None = None,
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
        return (request_of(job), (), ()) if self._advice.needless(job) else self._looked_at(job, values)

    def _again(self, values: dict[str, Any]) -> Built:
        try:
            job = self._validate(values, context=self._reading)
        except ValidationError as error:
            return self._wrong(error)
        return self._looked_at(job, values)

    def _looked_at(self, job: Command, values: Mapping[str, Any]) -> Built:
        if wrong := self._advice.unseen(job):
            return None, self._in_file(wrong), ()
        return request_of(job), (), self._in_file(self._advice.of(job, values))

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
    """*value* as a message shows it, cut where it is long."""
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
