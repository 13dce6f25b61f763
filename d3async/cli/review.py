"""What checking a file found: counted as it passes, told at the end, every problem kept for errors.csv."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections import Counter
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Self

from d3async.files.aside import aside, write_lines
from d3async.files.results import guarded
from d3async.sansio.job import Invalid, Job
from d3async.sansio.problems import COLUMNS, Groups, records

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from d3async.commands.base import Command

ERRORS = "errors.csv"
_IN_MEMORY = 1 << 20
_CHUNK = 100


class Review:
    """Watches jobs and invalid rows go by. A context manager: what it keeps on disk is gone with it."""

    def __init__(self) -> None:
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

    @property
    def commands(self) -> dict[str, int]:
        """Jobs by D3's name of their command."""
        return {
            kind.__name__: count for kind, count in sorted(self._kinds.items(), key=lambda found: found[0].__name__)
        }

    def watch(self, entries: Iterable[Job | Invalid]) -> Iterator[Job | Invalid]:
        """*entries*, counted."""
        return chain.from_iterable(self.chunks(entries))

    def chunks(self, entries: Iterable[Job | Invalid]) -> Iterator[list[Job | Invalid]]:
        """*entries*, counted, some at a time, which is faster than one by one."""
        entries = iter(entries)
        while True:
            chunk: list[Job | Invalid] = []
            try:
                chunk.extend(islice(entries, _CHUNK))
            finally:
                # when the file breaks off, what was found before is told all the same
                self._look(chunk)
            if not chunk:
                return
            yield chunk

    def _look(self, chunk: Sequence[Job | Invalid]) -> None:
        self.rows += len(chunk)
        jobs = [entry for entry in chunk if isinstance(entry, Job)]
        self.selected += sum([job.selected for job in jobs])
        self._kinds.update([job.asked.kind for job in jobs])
        if len(jobs) < len(chunk):
            for entry in chunk:
                if isinstance(entry, Invalid):
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

    def keep(self, folder: Path) -> Path:
        """Write errors.csv into *folder*, which is made if it is missing. Raises `JournalError`."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / ERRORS
        with aside(path) as file:
            file.write("\ufeff".encode())
            write_lines(file, chain([_csv_line(COLUMNS)], (_csv_line(record.values()) for record in self.public())))
        return path

    def public(self) -> Iterator[dict[str, Any]]:
        """Every problem as an object, for `--json`."""
        self._kept.seek(0)
        for line in self._kept:
            yield dict(zip(COLUMNS, json.loads(line), strict=True))


def _csv_line(cells: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow([guarded(cell) if isinstance(cell, str) else cell for cell in cells])
    return text.getvalue()


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
