"""A row of a job file becomes a job, or everything that is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from d3async.d3.commands import all_commands, find
from d3async.errors import JobFileError
from d3async.jobs.columns import COMMAND, SITE, Naming, bare, choose, listed, match, meaning, missing, place_of, routed
from d3async.jobs.job import Invalid, Job, Problem, Row
from d3async.jobs.problems import with_hint
from d3async.jobs.row_to_command import RowToCommand, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from d3async.d3.commands import Command, Reading
    from d3async.jobs.columns import Columns
    from d3async.jobs.row_to_command import Envelope, ProfileCheck

_KEPT_PLANS = 256
_CHUNK = 250


@dataclass(frozen=True, slots=True)
class RowOptions:
    """How rows are read. *defaults* is `--set`, *renames* `--map` (theirs to ours), *key_column* `--id-column`.

    *site* is the site of rows that name none; with *need_site* a row without any is invalid. Jobs are selected where
    the columns of *where* have its values, *limit* of them at most. *now* is `yyyy-MM-dd HH:mm:ss` in D3's zone, for
    the warning about due dates in the past; empty: no warning. *route* judges the profiles that rows name; without it
    any is taken.
    """

    reading: Reading
    command: type[Command] | None = None
    defaults: Mapping[str, str] = field(default_factory=dict)
    renames: Mapping[str, str] = field(default_factory=dict)
    key_column: str | None = None
    site: str = ""
    need_site: bool = False
    where: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    now: str = ""
    route: ProfileCheck | None = None


class RowReader:
    """Reads the rows of one file, in order. *header* is empty where each row brings its own keys (JSONL).

    Raises `JobFileError` when options or header cannot be used; rows never raise. *command* is the one command of the
    file, None where rows choose.
    """

    def __init__(self, options: RowOptions, header: Sequence[str] = ()) -> None:
        self._options = options
        self._left = options.limit
        one = options.command
        self._commands = [one] if one else list(all_commands().values())
        self._filled = {meaning(name, self._commands): value for name, value in options.defaults.items()}
        renames = {theirs: ours and meaning(ours, self._commands) for theirs, ours in options.renames.items()}
        self._whole = bool(header) and options.limit is None and not options.where
        self._naming = Naming(renames, frozenset(self._filled), options.key_column)
        self._plans: dict[tuple[str, ...], _Plan] = {}
        self._plan = _Plan(("",), match((), (), Naming()), None, (), ())
        if header:
            self._plan = self._checked(tuple(header))
        self.command = self._plan.command

    def read_all(self, rows: Iterable[Row | Invalid]) -> Iterator[Job | Invalid]:
        """`read` of each of *rows*, some hundred at a time, which is faster. Raises what *rows* raise, in its place."""
        rows = iter(rows)
        while True:
            chunk: list[Row | Invalid] = []
            try:
                chunk.extend(islice(rows, _CHUNK))
            except JobFileError:
                yield from self._read_chunk(chunk)
                raise
            if not chunk:
                return
            yield from self._read_chunk(chunk)

    def _read_chunk(self, chunk: Sequence[Row | Invalid]) -> Iterable[Job | Invalid]:
        shape = self._plan.shape
        if not (self._whole and isinstance(shape, RowToCommand)) or set(map(type, chunk)) != {Row}:
            return map(self.read, chunk)
        return self._read_plain(shape, cast("Sequence[Row]", chunk))

    def _read_plain(self, shape: RowToCommand, chunk: Sequence[Row]) -> Iterable[Job | Invalid]:
        """Rows by the column; those that are not plain one by one."""
        if shape.plain is None or shape.envelope is None or not self._placed(shape.envelope):
            return map(self.read, chunk)
        site, username, profile, _ = shape.envelope
        numbers, lines, _, cells, raws = zip(*chunk, strict=True)
        asked, at, count = shape.plain.read(cells), self._plan.columns.key, len(chunk)
        keys = [None] * count if at is None else [_text(row[at]) for row in cells]
        whose, rest = ([username] * count, [site] * count), ([()] * count, [True] * count, [profile] * count)
        jobs = map(Job._make, zip(numbers, lines, raws, asked, *whose, keys, *rest, strict=True))
        return [
            job if job.asked is not None and job.key != "" else self.read(row)
            for job, row in zip(jobs, chunk, strict=True)
        ]

    def _placed(self, envelope: Envelope) -> bool:
        return not envelope.problems and bool(envelope.site or not self._options.need_site)

    def read(self, row: Row | Invalid) -> Job | Invalid:
        """The job that *row* asks for, or everything that is wrong with it; an `Invalid` comes back as it is."""
        if isinstance(row, Invalid):
            return row
        plan = self._plan if row.keys is self._plan.keys else self._planned(row.keys)
        shape = plan.shape or self._shape(plan, row.cells)
        if isinstance(shape, tuple):
            return Invalid(row.number, row.line, row.raw, shape, self._key(plan, row.cells) or None)
        asked, problems, warnings = shape.asked(row.cells)
        cells = row.cells
        key = self._key(plan, cells)
        site, username, profile, wrong = shape.envelope or shape.addressed(cells)
        problems += (*wrong, *self._lacking(key, placed=bool(site or wrong)))
        if asked is None or problems:
            return Invalid(row.number, row.line, row.raw, problems, key or None)
        selected = self._selected(plan, cells)
        return Job(row.number, row.line, row.raw, asked, username, site, key, warnings, selected, profile)

    def routed(self, keys: Sequence[str]) -> bool:
        """Whether rows of these *keys* may name a profile."""
        return routed(keys, self._naming)

    def _key(self, plan: _Plan, cells: Sequence[Any]) -> str | None:
        return None if plan.columns.key is None else _text(cells[plan.columns.key])

    def _lacking(self, key: str | None, *, placed: bool) -> tuple[Problem, ...]:
        problems: tuple[Problem, ...] = ()
        if key == "":
            problems += (Problem("id", self._options.key_column or "", "", "is empty"),)
        if not placed and self._options.need_site:
            problems += (Problem("site", SITE, "", "is empty", "give D3_SITE, a Site column, or --set 'Site=…'"),)
        return problems

    def _selected(self, plan: _Plan, cells: Sequence[Any]) -> bool:
        if any(at is None or _text(cells[at]) != wanted for at, wanted in plan.where):
            return False
        if self._left is not None:
            self._left -= 1
            return self._left >= 0
        return True

    def _checked(self, header: tuple[str, ...]) -> _Plan:
        """The plan of a file's one header. Raises `JobFileError`."""
        here = set(map(bare, header))
        absent = [name for name in self._naming.renames if bare(name) not in here]
        plan = self._new_plan(header)
        absent += [name for name, (at, _) in zip(self._options.where, plan.where, strict=True) if at is None]
        if absent:
            raise JobFileError(f'the header has no column "{absent[0]}"; it has: {listed(header)}', code="header")
        if plan.problems:
            told = "".join(f"\n  {_told(problem)}" for problem in plan.problems)
            raise JobFileError(f"the header cannot be used (it has: {listed(header)}):{told}", code="header")
        return plan

    def _planned(self, keys: tuple[str, ...]) -> _Plan:
        """The plan of one line's keys (JSONL); what is wrong with them is its problems."""
        plan = self._plans.get(keys)
        if plan is None:
            if len(self._plans) >= _KEPT_PLANS:
                self._plans.clear()
            try:
                plan = self._new_plan(keys)
            except JobFileError as error:
                unclear = Problem("command", COMMAND, "", error.message)
                plan = _Plan(keys, match((), (), Naming()), None, (unclear,), ())
            self._plans[keys] = plan
        self._plan = plan
        return plan

    def _new_plan(self, keys: tuple[str, ...]) -> _Plan:
        columns = match(keys, self._commands, self._naming)
        where = tuple((place_of(name, keys, columns), value.strip()) for name, value in self._options.where.items())
        named = find(self._filled[COMMAND]) if COMMAND in self._filled else None
        one = self._options.command or named
        if COMMAND in columns.at:
            return _Plan(keys, columns, one, columns.problems, where)
        one = one or choose(keys, self._naming)
        columns = match(keys, [one], self._naming)
        problems = (*columns.problems, *missing(one, columns, self._naming))
        plan = _Plan(keys, columns, one, problems, where)
        plan.shape = problems or self._new_shape(one, keys, columns)
        return plan

    def _shape(self, plan: _Plan, cells: Sequence[Any]) -> RowToCommand | tuple[Problem, ...]:
        """The shape of a row that names its command itself."""
        if plan.problems:
            return plan.problems
        at = plan.columns.at[COMMAND]
        named = _text(cells[at])
        command = find(named) if named else plan.command
        if command is None or (self._options.command and command is not self._options.command):
            return (_no_command(plan.keys[at], cells[at], self._options.command),)
        if command not in plan.shapes:
            columns = match(plan.keys, [command], self._naming, others=self._commands)
            problems = missing(command, columns, self._naming)
            plan.shapes[command] = problems or self._new_shape(command, plan.keys, columns)
        return plan.shapes[command]

    def _new_shape(self, command: type[Command], keys: Sequence[str], columns: Columns) -> RowToCommand:
        options = self._options
        return RowToCommand(
            command,
            keys,
            columns.at,
            self._filled,
            reading=options.reading,
            site=options.site,
            now=options.now,
            route=options.route,
        )


@dataclass(slots=True)
class _Plan:
    """What was worked out for one tuple of keys. *shape* is None where each row names its command."""

    keys: tuple[str, ...]
    columns: Columns
    command: type[Command] | None
    problems: tuple[Problem, ...]
    where: tuple[tuple[int | None, str], ...]
    shape: RowToCommand | tuple[Problem, ...] | None = None
    shapes: dict[type[Command], RowToCommand | tuple[Problem, ...]] = field(default_factory=dict)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value.strip()
    return "" if value is None else shown(value)


def _no_command(column: str, cell: object, wanted: type[Command] | None) -> Problem:
    if not _text(cell):
        return Problem("command", column, "", "is empty", f"write one of: {', '.join(all_commands())}")
    if find(_text(cell)):
        return Problem("command", column, shown(cell), f"is not the {wanted.__name__ if wanted else ''} of --command")
    return Problem("command", column, shown(cell), "is no known command", f"write one of: {', '.join(all_commands())}")


def _told(problem: Problem) -> str:
    return f'"{problem.column}" {with_hint(problem.message, problem.cure)}'
