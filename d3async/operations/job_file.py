"""A job file opened as its options say; what checking it found: problems, counts, repeated rows, errors.csv."""

from __future__ import annotations

import csv
import io
import json
import sys
import tempfile
from array import array
from bisect import bisect_left
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import astuple, replace
from itertools import chain, islice, pairwise
from typing import TYPE_CHECKING, Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from d3async.d3.call import composed
from d3async.d3.commands import Reading, all_commands, find
from d3async.errors import JobFileError, SettingsError
from d3async.files.atomic_write import atomic_write, write_lines
from d3async.files.feedback_reader import MarkedTable
from d3async.files.job_file import open_table
from d3async.files.results_writer import guarded
from d3async.jobs.dates import Zones, due_reader
from d3async.jobs.job import Invalid, Job, Problem, Row
from d3async.jobs.problems import COLUMNS, Groups, records
from d3async.jobs.row_to_job import RowOptions, RowReader
from d3async.operations.mapping import blaming, form, pairs, read_as, words_for

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from d3async.d3.commands import Command
    from d3async.files.job_file import Table
    from d3async.files.results_writer import InputRows
    from d3async.jobs.feedback_rows import Mark
    from d3async.jobs.row_to_command import ProfileCheck
    from d3async.operations.mapping import JobFileOptions


class OpenJobFile:
    """An open job file and how its rows are read. Iterating yields its jobs and invalid rows, from the start each time.

    *command* is None where rows name it themselves. *read_as* are the options that count, *kept* is what the profile in
    use says of them, in words, *mapping* a line about what of that counts; "" for nothing. Iterating raises
    `JobFileError` when it is not clear any more what a row is, and for a file without rows.
    """

    def __init__(
        self, table: Table, options: RowOptions, read_as: JobFileOptions, marked: MarkedTable | None = None
    ) -> None:
        self.table = table
        self.read_as = read_as
        self.kept = self.mapping = ""
        self.format = table.format
        self.name = table.name
        self._marked = marked
        header = table.header if marked is None else marked.header
        self._reader: Callable[[], RowReader] = lambda: RowReader(options, header)
        self.command: type[Command] | None = self._reader().command

    def __iter__(self) -> Iterator[Job | Invalid]:
        rows = iter(self.table)
        first = next(rows, None)
        if first is None:
            raise JobFileError("has a header and no rows", code="job_file")
        return self._reader().read_all(chain([first], rows))

    def with_marks(self) -> Iterator[tuple[Mark | None, Job | Invalid]]:
        """The same of a feedback file, each with the mark of its row."""
        marks: deque[Mark | None] = deque()

        def rows() -> Iterator[Row | Invalid]:
            for row, mark in self._marked or ():
                marks.append(mark)
                yield row

        for entry in self._reader().read_all(rows()):
            yield marks.popleft(), entry

    @property
    def routed(self) -> bool:
        """Whether rows may name a profile: by the header, or by the first line where each has its own keys."""
        first = () if self.table.header else next(iter(self.table), ())
        return self._reader().routed(self.table.header or (first.keys if isinstance(first, Row) else ()))

    def describe(self, rows: int) -> str:
        """`3,114 rows, CreateTask, UTF-8 with BOM, separator ";"`."""
        command = [self.command.__name__] if self.command else []
        return ", ".join([f"{rows:,} row{'' if rows == 1 else 's'}", *command, self.format.describe()])


@contextmanager
def open_job_file(
    file: Path,
    options: JobFileOptions,
    *,
    site: str,
    now: datetime,
    need_site: bool = False,
    route: ProfileCheck | None = None,
    feedback_of: InputRows | None = None,
) -> Iterator[OpenJobFile]:
    """Open *file* (`-` is stdin) and find out what its rows are; *feedback_of* is the file that a feedback file is of.

    *site* is the site of rows that name neither it nor a profile, *route* judges profiles; *now* has a zone and is
    what due dates are past of. Raises `JobFileError` for what cannot be a job file, each with the file's name, and
    `SettingsError` for options.
    """
    path, stream = (None, sys.stdin.buffer) if str(file) == "-" else (file, None)
    with blaming(options.kept):
        table = open_table(path, stream=stream, kind=options.format, **form(options))
    with table:
        try:
            with blaming(options.kept):
                read = read_as(options, table)
                row_options = replace(_row_options(read, now=now), site=site, need_site=need_site, route=route)
                marked = None if feedback_of is None else MarkedTable(table, feedback_of)
                examined = OpenJobFile(table, row_options, read, marked)
                examined.kept, examined.mapping = words_for(options, table, examined.command)
            yield examined
        except JobFileError as error:
            if error.message.startswith(f"{table.name}: "):
                raise
            raise JobFileError(f"{table.name}: {error.message}", code=error.code) from error


def _row_options(options: JobFileOptions, *, now: datetime) -> RowOptions:
    zones = Zones(_zone(options.time_zone, "--time-zone"), _zone(options.server_time_zone, "--server-time-zone"))
    return RowOptions(
        reading=Reading(due_reader(options.date_format, zones)),
        command=_command(options.command),
        defaults=pairs(options.values, "--set"),
        renames=pairs(options.names, "--map"),
        key_column=options.id_column,
        where=pairs(options.where, "--where"),
        limit=options.limit,
        now=now.astimezone(zones.server).strftime("%Y-%m-%d %H:%M:%S"),
    )


def _command(name: str | None) -> type[Command] | None:
    found = find(name)
    if name is not None and found is None:
        raise SettingsError(f'--command "{name}" is none of {", ".join(all_commands())}', code="command")
    return found


def _zone(name: str | None, option: str) -> ZoneInfo | None:
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        text = f'{option} "{name}" is no time zone: they are called like Europe/Paris'
        raise SettingsError(text, code="option") from None


ERRORS = "errors.csv"
_IN_MEMORY = 1 << 20
_CHUNK = 100


class FileCheck:
    """Watches jobs and invalid rows go by. A context manager: what it keeps on disk is gone with it.

    *rows_to* is a file that stays: the invalid rows, as `invalid_rows` reads them.
    """

    def __init__(self, *, rows_to: Path | None = None) -> None:
        self._rows = None if rows_to is None else rows_to.open("w", encoding="utf-8", errors="surrogatepass")
        self.rows = 0
        self.invalid = 0
        self.selected = 0
        self._kinds: Counter[type[Command]] = Counter()
        self.problems = Groups()
        self.warnings = Groups()
        self._kept = tempfile.SpooledTemporaryFile(_IN_MEMORY, "w+", encoding="utf-8")  # noqa: SIM115 - see __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.close()
        if self._rows is not None:
            self._rows.close()

    @property
    def commands(self) -> dict[str, int]:
        """Jobs by D3's name of their command."""
        return {
            kind.__name__: count for kind, count in sorted(self._kinds.items(), key=lambda found: found[0].__name__)
        }

    def watch(
        self, entries: Iterable[Job | Invalid], is_done: Callable[[Invalid], bool] = lambda _: False
    ) -> Iterator[Job | Invalid]:
        """*entries*, counted. Invalid rows of which *is_done* says that they are done all the same are not wrong."""
        return chain.from_iterable(self.chunks(entries, is_done))

    def chunks(
        self, entries: Iterable[Job | Invalid], is_done: Callable[[Invalid], bool] = lambda _: False
    ) -> Iterator[list[Job | Invalid]]:
        """*entries*, counted, some at a time, which is faster than one by one; *is_done* as in `watch`."""
        entries = iter(entries)
        while True:
            chunk: list[Job | Invalid] = []
            try:
                chunk.extend(islice(entries, _CHUNK))
            finally:
                # when the file breaks off, what was found before is counted all the same
                self._look(chunk, is_done)
            if not chunk:
                return
            yield chunk

    def _look(self, chunk: Sequence[Job | Invalid], is_done: Callable[[Invalid], bool]) -> None:
        self.rows += len(chunk)
        jobs = [entry for entry in chunk if isinstance(entry, Job)]
        self.selected += sum([job.selected for job in jobs])
        self._kinds.update([job.asked.kind for job in jobs])
        if len(jobs) < len(chunk):
            for entry in chunk:
                if isinstance(entry, Invalid) and not is_done(entry):
                    self.note(entry)
        for job in jobs:
            if job.warnings:
                self.warnings.add(job.line, job.warnings)

    def note(self, entry: Invalid) -> None:
        """An invalid row, of `watch` or found later (a duplicate)."""
        self.invalid += 1
        self.problems.add(entry.line, entry.problems)
        for record in records(entry):
            self._kept.write(json.dumps(record) + "\n")
        if self._rows is not None:
            problems = [astuple(problem) for problem in entry.problems]
            self._rows.write(json.dumps([entry.row, entry.line, entry.raw, problems]) + "\n")

    def lines(self, *, sent: str = "nothing was sent") -> list[str]:
        """What is odd, and what is wrong, in words; *sent* says what becomes of the rows that are wrong."""
        lines = []
        if len(self.warnings):
            lines.append(f"\n{_count(len(self.warnings), 'thing')} to look at:")
            lines += [f"  {line}" for line in self.warnings.told()]
        if self.invalid:
            tail = f", {sent}" if sent else ""
            lines.append(f"\n{_count(len(self.problems), 'problem')} in {_count(self.invalid, 'row')}{tail}:")
            lines += [f"  {line}" for line in self.problems.told()]
        return lines

    def keep(self, folder: Path, name: str = ERRORS) -> Path:
        """Write errors.csv into *folder*, which is made if it is missing. Raises `JournalError`."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / name
        with atomic_write(path) as file:
            file.write("\ufeff".encode())
            write_lines(file, chain([_csv_line(COLUMNS)], (_csv_line(record.values()) for record in self.public())))
        return path

    def public(self) -> Iterator[dict[str, Any]]:
        """Every problem as an object, for `--json`."""
        self._kept.seek(0)
        for line in self._kept:
            yield dict(zip(COLUMNS, json.loads(line), strict=True))


def invalid_rows(
    file: Path, *, code: str = "", search: str = "", skip: int = 0, most: int = 50
) -> tuple[list[Invalid], int]:
    """Some of the invalid rows that `FileCheck` wrote into *file*, and how many there are in all.

    Only those with a problem `column code` that is *code*, and whose text has *search* in it, without regard to case;
    the first *skip* are left out, and *most* are given.
    """
    found: list[Invalid] = []
    count, wanted = 0, search.casefold()
    with file.open(encoding="utf-8", errors="surrogatepass") as lines:
        for text in lines:
            row, line, raw, told = json.loads(text)
            if (code and all(f"{column} {kind}" != code for kind, column, *_ in told)) or wanted not in raw.casefold():
                continue
            count += 1
            if skip < count <= skip + most:
                found.append(Invalid(row, line, raw, tuple(Problem(*problem) for problem in told)))
    return found, count


def _csv_line(cells: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow([guarded(cell) if isinstance(cell, str) else cell for cell in cells])
    return text.getvalue()


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


_PARTS = 64
_FULL = 1 << 13
_SIZE = 8
_BOUNDS = [-(1 << 63) + part * (1 << 64) // _PARTS for part in range(_PARTS)] + [1 << 63]


class Distinct:
    """Keeps 8 bytes a value in a temporary file: its hash, sorted in runs, so that equal ones can be found together.

    Two different values may be taken for the same, once in 10^19 pairs. *repeats* says whether `repeated` will be
    asked, which takes longer. A context manager: the file is gone with it.
    """

    def __init__(self, *, repeats: bool = False) -> None:
        self._new: list[int] | set[int] = [] if repeats else set()
        self._take = self._new.extend if isinstance(self._new, list) else self._new.update
        self._runs: list[list[tuple[int, int]]] = [[] for _ in range(_PARTS)]
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, values: Iterable[Hashable]) -> None:
        """Take *values* in."""
        self._take(map(hash, values))
        if len(self._new) >= _FULL:
            self._put_away()

    def _put_away(self) -> None:
        numbers = sorted(self._new)
        self._new.clear()
        start = self._file.seek(0, 2)
        array("q", numbers).tofile(self._file)
        edges = [bisect_left(numbers, bound) for bound in _BOUNDS]
        for runs, (first, end) in zip(self._runs, pairwise(edges), strict=True):
            if first < end:
                runs.append((start + first * _SIZE, end - first))

    def count(self) -> int:
        """How many different values there were."""
        return sum(len(set(part)) for part in self._parts())

    def repeated(self) -> Iterator[int]:
        """The hash of each value that came more than once."""
        for part in self._parts():
            seen: set[int] = set()
            again: set[int] = set()
            for number in part:
                (again if number in seen else seen).add(number)
            yield from again

    def _parts(self) -> Iterator[array[int]]:
        """All hashes, equal ones in the same part."""
        self._put_away()
        for runs in self._runs:
            part = array("q")
            for place, count in runs:
                self._file.seek(place)
                part.frombytes(self._file.read(count * _SIZE))
            yield part


_MANY = 50_000


class CheckCounts:
    """Counts subjects, people and items of jobs. A context manager, as `Distinct` is."""

    def __init__(self) -> None:
        self.subjects = Distinct()
        self.people = Distinct()
        self.items = 0
        self._meanings = Distinct(repeats=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for distinct in (self.subjects, self.people, self._meanings):
            distinct.__exit__()

    def add(self, entries: Sequence[Job | Invalid]) -> None:
        """Count *entries*; many at a time are faster than one by one."""
        self._meanings.add(filter(None, map(_meaning, entries)))
        asked = [entry.asked for entry in entries if isinstance(entry, Job)]
        self.subjects.add([one.subject for one in asked])
        self.people.add([one.person for one in asked if one.person is not None])
        self.items += sum([len(one.items) for one in asked])

    def suspect(self) -> Callable[[Job | Invalid], bool] | None:
        """Whether an entry may mean the same as another one; None when none does."""
        found: set[int] = set()
        for number in self._meanings.repeated():
            found.add(number)
            if len(found) > _MANY:
                return lambda entry: True  # noqa: ARG005 - all of them: a set of so many would fill the memory
        if not found:
            return None
        return lambda entry: (meaning := _meaning(entry)) is not None and hash(meaning) in found


def _meaning(entry: Job | Invalid) -> Hashable:
    """What makes `Stage` take two entries for the same: equal there is equal here. None where nothing does."""
    if isinstance(entry, Invalid):
        return None if entry.key is None else ("key", entry.key)
    site = composed(entry.site)
    where = site if entry.profile is None else (entry.profile, site)
    if entry.key is not None:
        return ("key", entry.key) if entry.profile is None else ("key", entry.profile, entry.key)
    asked = entry.asked
    params = composed(asked.params)
    return (where, params, tuple(map(composed, asked.items))) if asked.items else (where, params)
