"""A journal's rows as an app is told of them: each with its command and what became of every item."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from d3async.commands import all_commands
from d3async.journal.states import INTERRUPTED, outcome_of
from d3async.journal.store import Store

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from d3async.commands.base import Command
    from d3async.journal.base import RowOutcome, Settlement

_ROWS = "select id, row, state, code, message, command, params, username, site, http, attempts from job"


@dataclass(frozen=True, slots=True)
class JobItem:
    """What became of one link; `unsent` where the run stopped before it."""

    item: str
    outcome: str
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOutcome:
    """What became of one job. *row* counts the jobs from 1.

    *outcome* is `ok`, `partial`, `failed`, `unknown`, `invalid` or `unsent`; *code* and *message* say why. *items* are
    the links of a RemoveLinkedIncidents. *attempts* counts requests that left, in all runs over the journal;
    *earlier* says that nothing was to be sent for it now. *command* is None for a row that could not be read.
    """

    row: int
    outcome: str
    code: str
    message: str
    command: Command | None
    username: str | None
    site: str
    items: tuple[JobItem, ...] = ()
    http: int | None = None
    attempts: int = 0
    earlier: bool = False


class TellingStore(Store):
    """A `Store` whose finished rows come with how they are told."""

    def __init__(self, db: sqlite3.Connection, *, epoch: int) -> None:
        super().__init__(db, epoch=epoch)
        self._all = db

    def settle_all(self, settlements: Sequence[Settlement]) -> list[list[RowOutcome]]:
        """See `Store.settle_all`."""
        return [[self._finished(row) for row in rows] for rows in super().settle_all(settlements)]

    def _finished(self, row: RowOutcome) -> RowOutcome:
        found = self._all.execute(f"{_ROWS} where row = ?", (row.row,)).fetchone()
        return row._replace(told=_told(self._all, found, earlier=False))


def rows_told(db: sqlite3.Connection, *, todo: bool, after: int, most: int) -> list[JobOutcome]:
    """The next *most* rows after row *after*: those this run is still to send, or those it has nothing to do with."""
    found = db.execute(
        f"{_ROWS} where row is not null and todo = ? and row > ? order by row limit ?", (todo, after, most)
    ).fetchall()
    return [_told(db, row, earlier=not todo) for row in found]


def _told(db: sqlite3.Connection, found: Sequence[Any], *, earlier: bool) -> JobOutcome:
    job, row, state, code, message, name, params, username, site, http, attempts = found
    items = tuple(
        JobItem(item, outcome_of(became), why or "", text or "")
        for item, became, why, text in db.execute(
            "select name, state, code, message from item where job = ? order by pos", (job,)
        )
    )
    sent = state == "sent"
    return JobOutcome(
        row=row,
        outcome=outcome_of(state),
        code=("interrupted" if sent else code) or "",
        message=(INTERRUPTED if sent else message) or "",
        command=_command(name, params, items),
        username=username,
        site=site or "",
        items=items,
        http=http,
        attempts=attempts,
        earlier=earlier,
    )


def _command(name: str | None, params: str | None, items: Sequence[JobItem]) -> Command | None:
    kind = all_commands().get(name or "")
    if kind is None or params is None:
        return None
    given = json.loads(params)
    if kind.items:
        given[kind.parameter(kind.items)] = [item.item for item in items]
    try:
        return kind.model_validate(given)
    except ValidationError:
        return None
