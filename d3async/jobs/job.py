"""What a job file is made of once it is read: rows, and the jobs or problems they turn out to be.

Rows and jobs are named tuples: a million of them are made, and a frozen dataclass takes four times as long.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from d3async.d3.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Row(NamedTuple):
    """One row of a job file. *number* counts data rows from 1, *line* is the physical line it starts on.

    *keys* is the header as spelt in the file (one shared tuple for a CSV); *raw* is the row's own text, without its
    line end, from which results and feed-back files are written again.
    """

    number: int
    line: int
    keys: tuple[str, ...]
    cells: Sequence[object]
    raw: str


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong in a row, where, and what would be right. *code* is the word after `invalid.` in `_code`."""

    code: str
    column: str
    value: str
    message: str
    cure: str = ""


class Request(NamedTuple):
    """What a row asks D3 for: a command in the form in which it is kept and sent.

    *params* is `CommandParams` as JSON, without the list of *items*; *subject* the incident the command works on,
    *person* whom the plan counts it for.
    """

    kind: type[Command]
    params: str
    subject: str
    person: str | None = None
    items: tuple[str, ...] = ()

    @property
    def command(self) -> Command:
        """The command itself, made anew each time."""
        params = json.loads(self.params)
        if self.kind.items:
            params[self.kind.parameter(self.kind.items)] = self.items
        return self.kind.model_validate(params)


class Job(NamedTuple):
    """A row that can be sent. *site* is the effective one; *username* only when the row has its own.

    *profile* names the profile of config.toml whose D3 it goes to; None is the D3 of the run itself.
    """

    row: int
    line: int
    raw: str
    asked: Request
    username: str | None
    site: str
    key: str | None = None
    warnings: tuple[Problem, ...] = ()
    selected: bool = True
    """False when `--where` or `--limit` leaves the row out of this run: it stays `unsent`."""
    profile: str | None = None


class Invalid(NamedTuple):
    """A row that is never sent, with everything that is wrong with it."""

    row: int
    line: int
    raw: str
    problems: tuple[Problem, ...]
    key: str | None = None


class _Parts(NamedTuple):
    """What is the same for all commands of a kind: its serializer, and the names of fields that `Request` has apart."""

    to_json: Callable[..., bytes]
    subject: str
    person: str | None
    items: str | None
    left_out: frozenset[str] | None


@cache
def _parts(kind: type[Command]) -> _Parts:
    # as model_dump_json does, which takes twice as long to get there
    to_json = kind.__pydantic_serializer__.to_json
    return _Parts(
        to_json, kind.subject, kind.facets.get("people"), kind.items, frozenset({kind.items}) if kind.items else None
    )


def request_of(command: Command) -> Request:
    """What *command* asks for."""
    to_json, subject, person, items, left_out = _parts(type(command))
    params = to_json(command, by_alias=True, exclude=left_out).decode()
    values = command.__dict__
    return Request(
        type(command), params, values[subject], values[person] if person else None, values[items] if items else ()
    )


_ELSEWHERE = "give each D3 a client of its own"


def entry_of(row: int, given: Given, site: str, profile: str | None = None) -> Job | Invalid:
    """*given* as the row a journal takes, numbered *row*; *site* is the site of those that name none.

    A client is one D3: a job for another profile than its own, *profile*, is invalid.
    """
    match given:
        case Command():
            return _job(row, given, None, None, site)
        case (Command() as command, None | str() as username, None | str() as own):
            return _job(row, command, username, own, site)
        case Job() if given.profile not in {None, profile}:
            problem = Problem("profile", "profile", given.profile or "", "is another D3 than this client's", _ELSEWHERE)
            return Invalid(row, row, _raw(given.asked, given.username, given.site), (problem,), given.key)
        case Job():
            raw = _raw(given.asked, given.username, None if given.site == site else given.site)
            return given._replace(row=row, raw=raw, site=given.site or site, profile=None)
        case Invalid():
            return given._replace(row=row, raw=json.dumps({"row": given.raw}))
        case _:
            raise TypeError(f"job {row} is a {type(given).__name__}: give commands, or (command, username, site)")


def _job(row: int, command: Command, username: str | None, own: str | None, site: str) -> Job:
    told = request_of(command)
    return Job(row, row, _raw(told, username, own), told, username or None, own or site)


def _raw(told: Request, username: str | None, site: str | None) -> str:
    """The line of a JSONL job file that asks for the same."""
    kind, params = told.kind, json.loads(told.params)
    if kind.items:
        params[kind.parameter(kind.items)] = told.items
    names = {kind.parameter(name): name for name in kind.model_fields}
    own = {name: value for name, value in {"Username": username, "Site": site}.items() if value}
    fields = {name: params[parameter] for parameter, name in names.items() if parameter in params}
    return json.dumps({"command": kind.__name__, **own, **fields}, ensure_ascii=False)


if TYPE_CHECKING:
    Given = Command | tuple[Command, str | None, str | None] | Job | Invalid
