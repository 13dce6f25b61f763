"""Figures of runs, added up by SQLite: how fast answers came, how long they took, what slowed them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from d3async.journal.read import JournalReader


def span(reader: JournalReader, epoch: int) -> tuple[float, float] | None:
    """When a run sent first and was answered last, in seconds since 1970; None when it brought no answer."""
    [(sent, done)] = reader.query(
        "select min(coalesce(sent_at, done_at)), max(done_at) from job"
        " where row is not null and epoch = ? and done_at is not null",
        epoch,
    )
    [(slowed,)] = reader.query("select min(at) from event where epoch = ? and kind = 'throttled'", epoch)
    if done is None:
        return None
    return (sent if slowed is None else min(sent, slowed)), done


def answered(reader: JournalReader, epoch: int, start: float, width: float) -> list[tuple[int, int, int]]:
    """Rows answered in each stretch of *width* seconds from *start*: (stretch from 0, ok, not ok)."""
    return reader.query(
        "select cast((done_at - ?) / ? as int) as at, sum(state = 'ok'), sum(state <> 'ok') from job"
        " where row is not null and epoch = ? and done_at is not null group by at",
        start, width, epoch,
    )  # fmt: skip


def throttled(reader: JournalReader, epoch: int, start: float, width: float) -> dict[int, int]:
    """429s in each stretch of *width* seconds from *start*."""
    return dict(
        reader.query(
            "select cast((at - ?) / ? as int), count(*) from event where epoch = ? and kind = 'throttled' group by 1",
            start, width, epoch,
        )
    )  # fmt: skip


def pauses(reader: JournalReader, epoch: int, most: int) -> list[tuple[float, float]]:
    """The longest pauses and outages, at most *most*: (when it began, seconds). A pause is noted when it ends."""
    return reader.query(
        "select at - case kind when 'pause' then seconds else 0 end, seconds from event"
        " where epoch = ? and kind in ('pause', 'outage') and seconds > 0 order by seconds desc, at limit ?",
        epoch, most,
    )  # fmt: skip


def latency_counts(reader: JournalReader, bounds: Sequence[float]) -> list[int]:
    """Rows answered within each of *bounds* (seconds, ascending) and not within the one before it; then the rest."""
    cases = " ".join(f"when done_at - sent_at <= ? then {at}" for at in range(len(bounds)))
    found = dict(
        reader.query(
            f"select case {cases} else {len(bounds)} end, count(*) from job"
            " where row is not null and sent_at is not null and done_at is not null group by 1",
            *bounds,
        )
    )
    return [found.get(at, 0) for at in range(len(bounds) + 1)]
