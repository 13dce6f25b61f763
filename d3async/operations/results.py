"""Results and report of a run folder, or of a run of the fleet, written again from its journal."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from d3async.errors import JobFileError
from d3async.files.aside import aside, write_lines
from d3async.files.report import report_html
from d3async.files.write import usual_format, write_again, write_report, write_results
from d3async.journal.read import FILE, JournalReader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from d3async.journal.reader import Reader
    from d3async.operations.settle import FleetRun

__all__ = ["open_reader", "write_again", "write_report", "write_report_to", "write_selection", "write_selection_to"]


@contextmanager
def open_reader(target: Path | FleetRun) -> Iterator[Reader]:
    """The reader of a run folder, or of a run of the fleet. Raises `JournalError` where there is none."""
    if isinstance(target, Path):
        with JournalReader(target / FILE) as reader:
            yield reader
        return
    from d3async.journal.postgres.read import PostgresReader  # noqa: PLC0415 - psycopg, for those who have a fleet

    with PostgresReader(target.conninfo, target.name) as found:
        yield found


def write_selection(target: Path | FleetRun, file: BinaryIO, *, form: str | None, outcomes: Sequence[str] = ()) -> bool:
    """Write the rows of *outcomes*, or all, to *file*; *form* None is that of the input. Raises `JournalError`.

    Whether all were written: False where *file* is a pipe that is read no longer.
    """
    with open_reader(target) as reader:
        try:
            write_results(file, reader, form or usual_format(reader), outcomes or None, bom=False)
            file.flush()
        except BrokenPipeError:
            return False
    return True


def write_selection_to(target: Path | FleetRun, path: Path, *, form: str | None, outcomes: Sequence[str] = ()) -> None:
    """The same, into *path*: whole or not at all. Raises `JobFileError` where *path* is the journal itself."""
    if isinstance(target, Path) and path.exists() and path.samefile(target / FILE):
        raise JobFileError(f"{path} is the journal itself: give another file with -o.", code="output")
    with open_reader(target) as reader, aside(path) as file:
        write_results(file, reader, form or usual_format(reader), outcomes or None)


def write_report_to(target: Path | FleetRun, path: Path) -> None:
    """Write report.html to *path*. Raises `JournalError`."""
    with open_reader(target) as reader, aside(path) as file:
        write_lines(file, report_html(reader))
