"""Figures of runs, added up by the database: how fast answers came, how long they took, what slowed them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from d3async.journal.reader import Reader


ANSWERED = "done_at >= coalesce(sent_at, done_at)"
"""Rows whose last answer is that of their last sending: after a 401 the answer that counts is an earlier one."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The questions in the words of one database; *mark* stands for a value, `{0}` for the cases of *latencies*."""

    mark: str
    spans: str
    slowed: str
    answered: str
    throttled: str
    pauses: str
    latencies: str


SQLITE = Figures(
    mark="?",
    spans="select epoch, min(coalesce(sent_at, done_at)), max(done_at) from job"
    f" where row is not null and {ANSWERED} group by epoch",
    slowed="select epoch, min(at) from event where kind = 'throttled' group by epoch",
    answered="select cast((done_at - ?) / ? as int) as at, sum(state = 'ok'), sum(state <> 'ok') from job"
    f" where row is not null and epoch = ? and {ANSWERED} group by at",
    throttled="select cast((at - ?) / ? as int), count(*) from event where epoch = ? and kind = 'throttled' group by 1",
    pauses="select at - case kind when 'pause' then seconds else 0 end, seconds from event"
    " where epoch = ? and kind in ('pause', 'outage') and seconds > 0 order by seconds desc, at limit ?",
    latencies="select case {0} end, count(*) from job"
    f" where row is not null and sent_at is not null and {ANSWERED} group by 1",
)


def spans(reader: Reader) -> dict[int, tuple[float, float]]:
    """When each run that brought answers sent first and was answered last, in seconds since 1970, by epoch."""
    slowed = dict(reader.query(reader.figures.slowed))
    return {
        epoch: (min(sent, slowed.get(epoch, sent)), done) for epoch, sent, done in reader.query(reader.figures.spans)
    }


def answered(reader: Reader, epoch: int, start: float, width: float) -> list[tuple[int, int, int]]:
    """Rows answered in each stretch of *width* seconds from *start*: (stretch from 0, ok, not ok)."""
    return reader.query(reader.figures.answered, start, width, epoch)


def throttled(reader: Reader, epoch: int, start: float, width: float) -> dict[int, int]:
    """429s in each stretch of *width* seconds from *start*."""
    return dict(reader.query(reader.figures.throttled, start, width, epoch))


def pauses(reader: Reader, epoch: int, most: int) -> list[tuple[float, float]]:
    """The longest pauses and outages, at most *most*: (when it began, seconds). A pause is noted when it ends."""
    return reader.query(reader.figures.pauses, epoch, most)


def latency_counts(reader: Reader, bounds: Sequence[float]) -> list[int]:
    """Rows answered within each of *bounds* (seconds, ascending) and not within the one before it; then the rest."""
    mark = reader.figures.mark
    cases = " ".join(f"when done_at - sent_at <= {mark} then {at}" for at in range(len(bounds)))
    found = dict(reader.query(reader.figures.latencies.format(f"{cases} else {len(bounds)}"), *bounds))
    return [found.get(at, 0) for at in range(len(bounds) + 1)]
