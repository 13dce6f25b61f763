"""Job files as users keep them: a few rows, edited in an editor or a spreadsheet program."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HERE, NOWHERE = "20220125-1", "19000101-1"
"""An incident that D3 has, and one that it has not."""
WHO = "admin user"
Trouble = Literal["", "nowhere", "no assignee"]


@dataclass(frozen=True)
class TaskRow:
    """A task; its number is in its name, which no edit changes."""

    number: int
    trouble: Trouble = ""

    @property
    def name(self) -> str:
        return f"Task {self.number}"

    def cells(self, form: DateForm) -> list[str]:
        incident = NOWHERE if self.trouble == "nowhere" else HERE
        who = "" if self.trouble == "no assignee" else WHO
        return [f"k{self.number}", incident, self.name, "Look at it", who, form.due(self.number)]


@dataclass(frozen=True)
class DateForm:
    """How a spreadsheet program writes due dates; *option* is what reads them."""

    text: str
    option: str | None = None

    def due(self, number: int) -> str:
        return self.text.format(day=number % 28 + 1, minute=number % 60)


DATES = (
    DateForm("2027-05-{day:02} 12:{minute:02}:37"),
    DateForm("2027-05-{day:02} 12:{minute:02}"),
    DateForm("{day:02}.05.2027 12:{minute:02}", "dd.MM.yyyy HH:mm"),
)
"""As it began; seconds dropped; another country's."""
_TASKS = ["key", "incident", "name", "description", "assignee", "due"]


@dataclass(frozen=True)
class LinkRow:
    """A removal of two links of one incident; its number is in the incident's."""

    number: int
    trouble: Trouble = ""

    @property
    def name(self) -> str:
        return f"{19000101 if self.trouble == 'nowhere' else 20230101}-{self.number}"

    def cells(self, form: DateForm) -> list[str]:
        return [f"k{self.number}", self.name, f"20210127-{self.number};20210127-{self.number + 100}"]


_LINKS = ["key", "source", "linked"]


@dataclass(frozen=True)
class JobFile:
    """A job file: its rows, and how it is written. *copies* of the first row stand at its end."""

    path: Path
    rows: tuple[TaskRow | LinkRow, ...]
    form: DateForm = DATES[0]
    copies: int = 0

    @property
    def written(self) -> Sequence[TaskRow | LinkRow]:
        return (*self.rows, *self.rows[:1] * self.copies)

    def save(self) -> None:
        header = _LINKS if any(isinstance(row, LinkRow) for row in self.rows) else _TASKS
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([header, *(row.cells(self.form) for row in self.written)])
        self.path.write_text(text.getvalue())

    def mended(self) -> JobFile:
        return replace(self, rows=tuple(replace(row, trouble="") for row in self.rows))

    def options(self) -> list[str]:
        """What has to be given for the file to be read."""
        return ["--date-format", self.form.option] if self.form.option else []


def mend_feedback(path: Path, *, thin: bool, turn: bool) -> bool:
    """Mend the rows of a feedback file; with *thin* without the first, with *turn* in another order."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        header, *rows = csv.reader(file)
    if thin and len(rows) > 1:
        rows = rows[1:]
    if turn:
        rows.reverse()
    kept = [dict(zip(header, row, strict=True)) for row in rows]
    for row in kept:
        for column, value in (("incident", HERE), ("assignee", WHO)):
            if column in row:
                row[column] = value
        if "source" in row:
            row["source"] = row["source"].replace("19000101", "20230101")
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *(row.values() for row in kept)])
    return True
