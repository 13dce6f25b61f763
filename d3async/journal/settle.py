"""Unknown rows settled by hand, and taken back: one text for both databases. Each change is in the event table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from d3async.jobs.feedback_rows import fits
from d3async.journal.reconcile import settle_row
from d3async.policy.hand_settlement import (
    CODE,
    Hand,
    ItemBefore,
    RowNow,
    Settlement,
    message_of,
    undo_note,
    undone_in,
    why_not_settle,
    why_not_undo,
)
from d3async.policy.outcome import ItemOutcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from d3async.jobs.feedback_rows import Mark
    from d3async.journal.protocols import Session
    from d3async.policy.hand_settlement import Outcome, RowChoice

_SETTLED, _UNDONE = "settled", "settle_undone"
_ROW = "select r.id, r.row, r.line, j.state, j.code, j.message, j.maybe, j.attempts from {rows} and r.row is not null"
_UNKNOWN = f"{_ROW} and j.state = 'unknown' order by r.row"
_STRANGE = "names no row of this run, or one that was changed since the file was written"
_ITEMS = "select id, name, state, code, message, maybe from {item} where {here} and job = :job order by pos"
_SET_ROW = (
    "update {job} set state = :state, code = :code, message = :message, maybe = :maybe, todo = false"
    " where {here} and id = :job"
)
_SET_ITEM = (
    "update {item} set state = :state, code = :code, message = :message, maybe = :maybe, todo = false"
    " where {here} and job = :job and id = :item"
)
_NOTE = "insert into {event}({owner}, at, kind, note) values ({owned}, :at, :kind, :note)"
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Refusal:
    """What cannot be changed, and why: *what* is `row 6`, `rows 6-9` or `mark 17-k3f9`, *line* where it starts."""

    what: str
    line: int | None
    why: str


@dataclass(frozen=True, slots=True)
class Change:
    """How many rows were changed: none where any was refused."""

    rows: int = 0
    refused: tuple[Refusal, ...] = ()


class HandSettlements:
    """Rows settled by hand in one journal. Each method is one transaction: all the rows chosen, or none."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def settle(self, choice: RowChoice, outcome: Outcome, by: Hand) -> Change:
        """Give the unknown rows of *choice*, and their unknown items, the *outcome* that the user has seen in D3."""
        by = replace(by, who=self._session.escape(by.who))
        with self._session.changing():
            rows, refused = (list(map(_row, self._session.all(_UNKNOWN))), []) if choice.every else self._chosen(choice)
            refused += [_refusal(row, why) for row in rows if (why := why_not_settle(row))]
            if refused:
                return Change(refused=tuple(refused))
            number = 1 + max((found.number for found in self._settlements()), default=0)
            for row in rows:
                self._settle(row, outcome, by, number)
        return Change(len(rows))

    def undo(self, choice: RowChoice, by: Hand) -> Change:
        """Make the rows of *choice* what they were before they were settled by hand."""
        with self._session.changing():
            last = self._last_settlements()
            rows, refused = (self._among("r.id", sorted(last)), []) if choice.every else self._chosen(choice)
            undone = []
            for row in rows:
                settlement = last.get(row.job)
                why = why_not_undo(row, settlement, self._settled_items(settlement))
                if settlement is not None and not why:
                    undone.append((row, settlement))
                elif not choice.every:
                    refused.append(_refusal(row, why))
            if refused:
                return Change(refused=tuple(refused))
            for row, settlement in undone:
                self._undo(row, settlement, by)
        return Change(len(undone))

    def _chosen(self, choice: RowChoice) -> tuple[list[RowNow], list[Refusal]]:
        """The rows of *choice*, ascending, and a refusal of numbers that the file does not have."""
        count = int(self._session.all("select coalesce(max(r.row), 0) from {rows}")[0][0])
        words = f"the file has {count:,} row{'' if count == 1 else 's'}"
        missing = [
            Refusal(_range(max(first, count + 1), last), None, words) for first, last in choice.ranges if last > count
        ]
        marked, strange = self._marked(choice.marks)
        named = {row.job: row for row in [*self._among("r.row", choice.numbers(count)), *marked]}
        return sorted(named.values(), key=lambda row: row.row), missing + strange

    def _marked(self, marks: Sequence[Mark]) -> tuple[list[RowNow], list[Refusal]]:
        """The rows of the file that *marks* name, and a refusal of each mark that names none."""
        jobs = sorted({mark.job for mark in marks})
        rows = {row.job: row for row in self._among("r.id", jobs)}
        contents = dict(self._paged("select r.id, coalesce(r.content, r.identity) from {rows} and r.id", jobs))
        uid = self._session.uid if marks else ""
        fitting = {mark for mark in marks if mark.job in rows and fits(mark, uid, bytes(contents[mark.job]))}
        strange = [Refusal(f"mark {mark}", None, _STRANGE) for mark in dict.fromkeys(marks) if mark not in fitting]
        return [rows[mark.job] for mark in fitting], strange

    def _among(self, column: str, numbers: Sequence[int]) -> list[RowNow]:
        """The rows of the file whose *column* is one of *numbers*, which are ascending."""
        return list(map(_row, self._paged(f"{_ROW} and {column}", numbers)))

    def _paged(self, question: str, numbers: Sequence[int]) -> list[tuple[Any, ...]]:
        """What *question* finds for *numbers*; it ends in the column that is one of them."""
        pages = (numbers[start : start + _PAGE] for start in range(0, len(numbers), _PAGE))
        return [
            found
            for page in pages
            for found in self._session.all(f"{question} in ({', '.join(map(str, page))}) order by r.row")
        ]

    def _settle(self, row: RowNow, outcome: Outcome, by: Hand, number: int) -> None:
        items = self._session.all(_ITEMS, job=row.job)
        unknown = tuple(
            ItemBefore(item, code, message, bool(maybe))
            for item, _, state, code, message, maybe in items
            if state == "unknown"
        )
        for item in unknown:
            # as after a look into D3: a link that is still there may yet go by an attempt of ours
            self._set_item(
                row.job, item, outcome, CODE, message_of(outcome, by, item.code, item.message),
                maybe=outcome == "failed",
            )  # fmt: skip
        words = CODE, message_of(outcome, by, row.code, row.message)
        state: str = outcome
        if items:
            state = settle_row(self._session, row.job, looked_up=words)
        else:
            self._set_row(row.job, outcome, *words, maybe=False)
        before = Settlement(number, row.job, outcome, state, row.attempts, row.code, row.message, row.maybe, unknown)
        self._event(_SETTLED, before.to_json(row.row, by), by)

    def _undo(self, row: RowNow, settlement: Settlement, by: Hand) -> None:
        for item in settlement.items:
            self._set_item(row.job, item, "unknown", item.code, item.message, maybe=item.maybe)
        self._set_row(row.job, "unknown", settlement.code, settlement.message, maybe=settlement.maybe)
        self._event(_UNDONE, undo_note(settlement, row.row, by), by)

    def _set_row(self, job: int, state: str, code: str | None, message: str | None, *, maybe: bool) -> None:
        self._session.run(_SET_ROW, job=job, state=state, code=code, message=message, maybe=maybe)

    def _set_item(
        self, job: int, item: ItemBefore, state: str, code: str | None, message: str | None, *, maybe: bool
    ) -> None:
        self._session.run(_SET_ITEM, job=job, item=item.id, state=state, code=code, message=message, maybe=maybe)

    def _event(self, kind: str, note: str, by: Hand) -> None:
        self._session.run(_NOTE, at=by.at, kind=kind, note=note)

    def _notes(self, kind: str) -> list[str]:
        found = self._session.all("select note from {event} where {here} and kind = :kind", kind=kind)
        return [note for (note,) in found]

    def _settlements(self) -> list[Settlement]:
        return list(map(Settlement.from_json, self._notes(_SETTLED)))

    def _last_settlements(self) -> dict[int, Settlement]:
        """The settlement in force of each row that has one, by job."""
        undone = set(map(undone_in, self._notes(_UNDONE)))
        last: dict[int, Settlement] = {}
        for found in sorted(self._settlements(), key=lambda settlement: settlement.number):
            if (found.number, found.job) not in undone:
                last[found.job] = found
        return last

    def _settled_items(self, settlement: Settlement | None) -> list[ItemOutcome]:
        """The items that *settlement* settled, as they are now."""
        if settlement is None:
            return []
        known = {item.id for item in settlement.items}
        return [
            ItemOutcome(name, state, code or "", message or "")
            for item, name, state, code, message, _ in self._session.all(_ITEMS, job=settlement.job)
            if item in known
        ]


def _row(found: Sequence[Any]) -> RowNow:
    job, row, line, state, code, message, maybe, attempts = found
    # of a row that the journal has no state of yet nothing was sent
    return RowNow(job, row, line, state or "pending", code, message, bool(maybe), attempts or 0)


def _refusal(row: RowNow, why: str) -> Refusal:
    return Refusal(_range(row.row, row.row), row.line, why)


def _range(first: int, last: int) -> str:
    return f"row {first}" if first == last else f"rows {first}-{last}"
