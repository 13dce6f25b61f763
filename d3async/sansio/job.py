"""What a job file is made of once it is read: rows, and the jobs or problems they turn out to be.

Rows and jobs are named tuples: a million of them are made, and a frozen dataclass takes four times as long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from d3async.commands.base import Command


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


class Job(NamedTuple):
    """A row that can be sent. *site* is the effective one; *username* only when the row has its own.

    *profile* names the profile of config.toml whose D3 it goes to; None is the D3 of the run itself.
    """

    row: int
    line: int
    raw: str
    command: Command
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
