"""What readers count and check in a journal: statements of one text for both databases, see `journal.dialect`."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from d3async.journal.records import Run
from d3async.journal.states import check_items, check_numbers, counted, outcome_of
from d3async.sansio.hand_settlement import CODE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_STATES = "select state, count(*) from {job} where {here} and {present} group by state"
_ITEM_STATES = """
select i.state, count(*) from (select job, state from {item} where {here}) i
join (select id from {job} where {here} and {present}) j on j.id = i.job group by i.state"""
_BY_HAND = """
select state, count(*) from {job} j where {here} and {present} and (code = :code or exists
    (select 1 from {item} i where {here} and i.job = j.id and i.code = :code)) group by state order by state"""
_NUMBERS = "select count(row), min(row), max(row) from {row} where {here} and row is not null"
# a pending item is one that came with a change of its row: it waits for the next run
_BROKEN = """
select (select r.row from {row} r where {here} and r.id = j.id), j.state
from {job} j join (
    select job, count(*) as items, count(case when state = 'ok' then 1 end) as ok,
        count(case when state = 'failed' then 1 end) as failed,
        count(case when state = 'pending' then 1 end) as pending,
        count(case when state in ('unknown', 'sent') then 1 end) as unknown
    from {item} where {here} group by job
) i on i.job = j.id
where {here} and {present} and not todo and (ok + failed + unknown + pending <> items or not case j.state
    when 'ok' then ok = items
    when 'failed' then ok = 0 and unknown = 0
    when 'partial' then ok > 0 and ok < items and unknown = 0
    when 'unknown' then unknown > 0
    else true end)
limit 1"""
_RUNS = "select {number}, started_at, finished_at, exit_code, facts from {round} where {here} order by 1"


class ReaderBase(ABC):
    """A journal at one moment; *place* is what errors call it."""

    def __init__(self, place: Path | str) -> None:
        self._place = place
        self._states: dict[str, int] | None = None
        self._has_items = False

    @abstractmethod
    def _ask(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        """The rows that *statement* finds. Raises `JournalError`."""

    @abstractmethod
    def meta(self) -> dict[str, str]:
        """Everything the journal says about itself and its file."""

    def _unopened(self) -> int:
        """Rows that are pending and to be sent though no row of `{job}` says so."""
        return 0

    def counts(self) -> dict[str, int]:
        """Rows of the current file by outcome, all six always; a row in flight counts as `unknown`."""
        return counted([*self._by_state().items(), ("pending", self._unopened())], self._place)

    def _by_state(self) -> Mapping[str, int]:
        if self._states is None:
            self._states = dict(self._ask(_STATES))
        return self._states

    def item_counts(self) -> dict[str, int]:
        """Items of the current file's rows by outcome: ok, failed, unknown, unsent, always."""
        counts = counted(self._ask(_ITEM_STATES), self._place)
        return {outcome: counts[outcome] for outcome in ("ok", "failed", "unknown", "unsent")}

    def settled_by_hand(self) -> dict[str, int]:
        """Rows of the current file that a user settled, wholly or in some items, by outcome."""
        if not self._ask("select 1 from {event} where {here} and kind = 'settled' limit 1"):
            return {}
        return {outcome_of(state): count for state, count in self._ask(_BY_HAND, code=CODE)}

    def vanished(self) -> int:
        """Rows that were in an earlier state of the file and are no longer."""
        return self._count("not ({present})")

    def in_flight(self) -> int:
        """Rows sent whose answer is not recorded."""
        return self._by_state().get("sent", 0)

    def to_send(self) -> int:
        """Rows the current run still has to send."""
        return self._count("{to_send} and state <> 'sent'") + self._unopened()

    def done_since(self, at: float) -> int:
        """Rows answered after *at*, in seconds since 1970, UTC."""
        return self._count("{present} and done_at > :at", at=at)

    def _count(self, condition: str, **values: object) -> int:
        return int(self._ask(f"select count(*) from {{job}} j where {{here}} and {condition}", **values)[0][0])

    @property
    def has_items(self) -> bool:
        """Whether any row has items."""
        return self._has_items

    def runs(self) -> list[Run]:
        """Every run over it, the first one first."""
        return [
            Run(number, started, finished, code, json.loads(facts or "{}"))
            for number, started, finished, code, facts in self._ask(_RUNS)
        ]

    def check(self) -> None:
        """Raise `ConservationError` unless every row, and every item of a row that was tried, has one outcome."""
        [(rows, first, last)] = self._ask(_NUMBERS)
        check_numbers(self._place, int(self.meta().get("rows", 0)), (rows, first, last), self.counts())
        check_items(self._place, [(row, state) for row, state in self._ask(_BROKEN)] if self._has_items else [])
