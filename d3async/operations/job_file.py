"""A job file opened the way its options say, and the jobs in it."""

from __future__ import annotations

import sys
from collections import deque
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from d3async.cli.mapping import blaming, form, read_as, words_for
from d3async.commands import all_commands, find
from d3async.commands.values import Reading
from d3async.errors import JobFileError, SettingsError
from d3async.files.marked import MarkedTable
from d3async.files.read import open_table
from d3async.sansio.dates import Zones, due_reader
from d3async.sansio.job import Row
from d3async.sansio.mapping import pairs
from d3async.sansio.rows import RowOptions, RowReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from d3async.cli.jobfile import JobFileOptions
    from d3async.commands.base import Command
    from d3async.files.inputs import Inputs
    from d3async.files.read import Table
    from d3async.sansio.job import Invalid, Job
    from d3async.sansio.row_marks import Mark
    from d3async.sansio.shape import Route


class Examined:
    """An open job file and how its rows are read. Iterating yields its jobs and invalid rows, from the start each time.

    *command* is None where rows name it themselves. *read_as* are the options that count, *kept* is what the profile in
    use says of them, in words, *mapping* a line about what of that counts; "" for nothing. Iterating raises
    `JobFileError` when it can't be told any more what a row is, and for a file without rows.
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
def opened(
    file: Path,
    options: JobFileOptions,
    *,
    site: str,
    now: datetime,
    need_site: bool = False,
    route: Route | None = None,
    feedback_of: Inputs | None = None,
) -> Iterator[Examined]:
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
                examined = Examined(table, row_options, read, marked)
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
