"""What is read from a journal: what became of rows and items, who holds the folder, which runs there were."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class RowRecord(NamedTuple):
    """What became of one row of the current file. *sent_at* and *done_at* are seconds since 1970, UTC.

    *raw* is the row's own text. The item counts are None for rows without items and for rows none of whose items was
    tried. *label*, the incident it is about, and *answer*, the id of D3's answer, are told only where asked for.
    """

    row: int
    line: int
    outcome: str
    code: str
    message: str
    http: int | None
    attempts: int
    sent_at: float | None
    done_at: float | None
    raw: str
    items_ok: int | None
    items_failed: int | None
    items_unknown: int | None
    label: str | None
    answer: int | None


class ItemRecord(NamedTuple):
    """What became of one linked incident of one row; *source* is the incident it was linked to."""

    row: int
    line: int
    source: str
    item: str
    outcome: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds the run folder: *since* in seconds since 1970, UTC."""

    pid: int
    host: str
    since: float | None


@dataclass(frozen=True, slots=True)
class Run:
    """One run over the folder. *facts* are what the run wrote about itself; times in seconds since 1970, UTC."""

    epoch: int
    started_at: float | None
    finished_at: float | None
    exit_code: int | None
    facts: dict[str, Any] = field(default_factory=dict)
