"""Settle unknown rows by hand: the user has looked in D3 and says what became of them, or takes that back."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from d3async.errors import JobFileError
from d3async.files.job_file import open_table
from d3async.files.run_files import write_again
from d3async.files.suggestions import suggest
from d3async.files.summary import last_facts
from d3async.jobs.feedback_rows import COLUMN, read_mark
from d3async.jobs.job import Invalid
from d3async.journal.settle import Change, HandSettlements
from d3async.journal.sqlite.reader import FILE, FolderReader
from d3async.journal.sqlite.session import FolderSession, hold, let_go
from d3async.policy.halt_and_exit_codes import recounted
from d3async.policy.hand_settlement import RowChoice
from d3async.policy.next_step import Steps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from d3async.files.run_files import WrittenFiles
    from d3async.journal.settle import Refusal
    from d3async.policy.hand_settlement import Hand

Verdict = Literal["ok", "failed", "undo"]
_NUMBER = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)


@dataclass(frozen=True, slots=True)
class FleetRunName:
    """A run of the fleet whose PostgreSQL is at *conninfo*."""

    conninfo: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleResult:
    """How many *rows* were settled or taken back: none where any was *refused*. *outcomes*: all rows now."""

    rows: int
    refused: tuple[Refusal, ...]
    outcomes: Mapping[str, int]
    files: WrittenFiles | None = None
    steps: Steps = field(default_factory=Steps)


def settle(target: Path | FleetRunName, verdict: Verdict, choice: RowChoice, *, by: Hand) -> SettleResult:
    """Settle the rows of *choice*, all or none, in a run folder or a run of the fleet; or undo that.

    The files of a run folder are written again. Raises `JournalError`, `FolderHeldError` while rows are being sent.
    """
    if isinstance(target, Path):
        return _settle_folder(target, verdict, choice, by=by)
    return _settle_run(target, verdict, choice, by=by)


def _settle_folder(path: Path, verdict: Verdict, choice: RowChoice, *, by: Hand) -> SettleResult:
    folder = hold(path, now=by.at)
    with closing(folder):
        change = _change(HandSettlements(FolderSession(folder)), verdict, choice, by)
        outcomes = folder.settle_leftovers()
        with FolderReader(path / FILE) as reader:
            facts = last_facts(reader.runs())
        let_go(folder, now=by.at, exit_code=recounted(facts.get("exit_code"), outcomes), told={})
    files = None if change.refused else write_again(path)
    with FolderReader(path / FILE) as reader:
        steps = suggest(reader, last_facts(reader.runs()), mend_file=files.failed if files else None)
    return SettleResult(rows=change.rows, refused=change.refused, outcomes=outcomes, files=files, steps=steps)


def _settle_run(run: FleetRunName, verdict: Verdict, choice: RowChoice, *, by: Hand) -> SettleResult:
    from d3async.journal.postgres.reader import FleetRunReader  # noqa: PLC0415 - psycopg, for those who have a fleet
    from d3async.journal.postgres.submission import RunSession  # noqa: PLC0415 - as above

    with RunSession(run.conninfo, run.name) as session:
        change = _change(HandSettlements(session), verdict, choice, by)
        with FleetRunReader(run.conninfo, run.name) as reader:
            outcomes, facts = reader.counts(), last_facts(reader.runs())
        if not change.refused:
            session.set_exit_code(recounted(facts.get("exit_code"), outcomes))
    return SettleResult(rows=change.rows, refused=change.refused, outcomes=outcomes)


def _change(settlements: HandSettlements, verdict: Verdict, choice: RowChoice, by: Hand) -> Change:
    return settlements.undo(choice, by) if verdict == "undo" else settlements.settle(choice, verdict, by)


def rows_named_in(file: Path) -> RowChoice:
    """The rows that the column `_row` of *file* names: by number, as in results, or by mark, as in feedback files.

    Raises `JobFileError`.
    """
    ranges, marks = [], []
    with open_table(file) as table:
        for row in table:
            if isinstance(row, Invalid):
                raise JobFileError(f"{file}, line {row.line}: {row.problems[0].message}", code="job_file")
            cells = dict(zip(row.keys, row.cells, strict=False))
            cell = str(cells.get(COLUMN, "")).strip()
            if (mark := read_mark(cell)) is not None:
                marks.append(mark)
            elif _NUMBER.fullmatch(cell):
                ranges.append((int(cell), int(cell)))
            else:
                found = f'"{cell}" is no row number' if cell else f"has no {COLUMN}"
                raise JobFileError(f"{file}, line {row.line}: {found}", code="job_file")
    return RowChoice(tuple(ranges), tuple(marks))
