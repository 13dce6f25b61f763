"""`--mark-tasks`: what a row sends gets its mark once the row's identity is known, and keeps it in every later run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from d3async.sansio.marks import mark_of, with_mark, without_mark

if TYPE_CHECKING:
    from collections.abc import Iterator

    from d3async.journal.session import Statements

_TO_MARK = """
from {rows} and r.command = 'CreateTask' and (:mark_on or {mark} is not null)
and {to_send} and not coalesce(j.maybe, false) and coalesce(j.state, 'pending') in ('pending', 'failed')"""
_ANY = f"select 1 {_TO_MARK} limit 1"
_PAGE = f"""
select r.id, r.params, r.identity, r.occurrence, {{mark}} {_TO_MARK} and r.id > :after order by r.id limit :most"""
_SET = "update {row} set params = :params, mark = :mark where {here} and id = :job"
_MOST = 1000


def mark_tasks(session: Statements, *, on: bool) -> None:
    """Put the mark of each CreateTask row that is to be sent into what it sends, or take it out again when not *on*.

    To be called after the rows to be sent are chosen, in the same transaction. Rows that may have been created keep
    what was sent. A row's content, by which changes are noticed, stays without the mark.
    """
    # most runs have nothing to do here, and a page looks through all rows
    if not session.all(_ANY, mark_on=on):
        return
    after = 0
    while found := session.all(_PAGE, mark_on=on, after=after, most=_MOST):
        after = found[-1][0]
        session.run_many(_SET, list(_changes(found, session.salt, on=on)))


def _changes(found: list[tuple[Any, ...]], salt: str, *, on: bool) -> Iterator[dict[str, object]]:
    for job, params, identity, occurrence, known in found:
        mark = known or mark_of(salt, identity, occurrence)
        text = with_mark(params, mark) if on else without_mark(params, mark)
        if text != params or known != (mark if on else None):
            yield {"job": job, "params": text, "mark": mark if on else None}
