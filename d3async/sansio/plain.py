"""Rows that nothing is odd about, read by the column: nearly all of a file, in a third of the time of one by one."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import lru_cache
from itertools import chain, compress, repeat
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pydantic import BeforeValidator

from d3async.commands.values import Plainly
from d3async.sansio.job import Asked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pydantic.fields import FieldInfo

    from d3async.commands.base import Command
    from d3async.commands.values import Reading
    from d3async.sansio.advice import Advice

    Column = Sequence[str | None]

_PARTS = 2
"""Of such a type: its validator, and `Plainly` beside it."""
_KEPT_DUES = 1000


class _Source(NamedTuple):
    """Where the values of a field come from: the column *at*, None for none; *blank* stands for an empty cell."""

    name: str
    at: int | None
    plainly: Plainly
    blank: str | None


class PlainRows:
    """What the rows below one header ask for, as far as that is plain; `shape.Shape` says the same of every row."""

    def __init__(self, command: type[Command], sources: Sequence[_Source], reading: Reading, advice: Advice) -> None:
        self._command, self._sources = command, sources
        self._reading, self._advice = replace(reading, due=lru_cache(_KEPT_DUES)(reading.due)), advice
        names = [encode_basestring(command.parameter(source.name)) for source in sources]
        self._between = [f"{',' if at else '{'}{name}:" for at, name in enumerate(names)]

    def read(self, cells: Sequence[Sequence[Any]]) -> list[Asked | None]:
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

    def _asked(self, values: Sequence[Sequence[str]]) -> Iterator[Asked]:
        kind, named = self._command, {source.name: column for source, column in zip(self._sources, values, strict=True)}
        people: Iterable[str | None] = named.get(kind.facets.get("people", ""), repeat(None))
        parts = zip(repeat(kind), self._params(values), named[kind.subject], people, repeat(()), strict=False)
        return map(Asked._make, parts)

    def _params(self, values: Sequence[Sequence[str]]) -> Iterator[str]:
        """`CommandParams` as JSON, of each row."""
        columns = (map(encode_basestring, column) for column in values)
        parts = chain.from_iterable(
            (repeat(between), column) for between, column in zip(self._between, columns, strict=True)
        )
        return map("".join, zip(*parts, repeat("}"), strict=False))


def plain_rows(
    command: type[Command], at: Mapping[str, int], filled: Mapping[str, str], *, reading: Reading, advice: Advice
) -> PlainRows | None:
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
    return PlainRows(command, known, reading, advice)


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


def _plainly(info: FieldInfo) -> Plainly | None:
    """How the field is read by the column, if its type says so and the field itself asks for nothing more."""
    found = [part for part in info.metadata if isinstance(part, Plainly)]
    others = [part for part in info.metadata if not isinstance(part, Plainly | BeforeValidator)]
    usual = info.annotation is str and info.exclude is None and info.serialization_alias == info.alias
    return found[0] if len(found) == 1 and len(info.metadata) == _PARTS and not others and usual else None


def _has_rules_of_its_own(command: type[Command]) -> bool:
    """Whether the class adds validators or serializers to those of its fields' types."""
    added = command.__pydantic_decorators__
    return any(getattr(added, field.name) for field in fields(added))
