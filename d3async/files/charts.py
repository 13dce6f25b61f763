"""Numbers of a run as positions on a page, in per cent of the width: the template draws them as SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_WIDTHS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
_MOST_BARS = 80
_LEAST_SHARE = 0.6
LATENCIES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60)
"""Upper bounds of the histogram, in seconds; what is beyond the last has a bar of its own."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a bar, in per cent: *x* from the left, *width*."""

    name: str
    count: int
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Column:
    """One stretch of time. *x*, *width* in per cent; heights in per cent of the chart; *rate* is rows a second."""

    at: float
    x: float
    width: float
    good: float
    bad: float
    rate: float
    throttled: int


@dataclass(frozen=True, slots=True)
class Pace:
    """Throughput over time. *seconds* is the length of a column; *top* the rate at the upper edge."""

    start: float
    end: float
    seconds: int
    top: float
    columns: Sequence[Column]
    pauses: Sequence[Part]


@dataclass(frozen=True, slots=True)
class Latency:
    """One bar of the histogram: answers that took at most *bound* seconds (None: longer than all bounds)."""

    bound: float | None
    count: int
    width: float


def shares(counts: Mapping[str, int]) -> list[Part]:
    """Pieces of one bar for *counts*; what there is at all can be seen."""
    seen = {name: count for name, count in counts.items() if count}
    total = sum(seen.values())
    widths = {name: max(100 * count / total, _LEAST_SHARE) for name, count in seen.items()}
    scale = 100 / sum(widths.values()) if widths else 0
    parts, x = [], 0.0
    for name, width in widths.items():
        parts.append(Part(name, seen[name], round(x, 3), round(width * scale, 3)))
        x += width * scale
    return parts


def column_seconds(span: float) -> int:
    """How long a column's stretch of time is, so that *span* seconds fit."""
    return next(
        (width for width in _WIDTHS if span / width <= _MOST_BARS), 86400 * math.ceil(span / 86400 / _MOST_BARS)
    )


def pace(
    start: float,
    end: float,
    answered: Iterable[tuple[int, int, int]],
    throttled: Mapping[int, int],
    pauses: Iterable[tuple[float, float]],
) -> Pace:
    """The chart from *start* to *end*, from (column, good, bad), 429s by column, and (when, seconds) of *pauses*."""
    span = max(end - start, 0.0)  # the clock may have been put back
    seconds = column_seconds(span)
    number = int(span / seconds) + 1
    by_column = {column: (good, bad) for column, good, bad in answered}
    top = _round_up(max((sum(pair) for pair in by_column.values()), default=0) / seconds)
    width = 100 / number

    def column(at: int) -> Column:
        good, bad = by_column.get(at, (0, 0))
        high = 100 / (top * seconds)
        return Column(
            start + at * seconds, round(at * width, 3), round(width, 3), round(good * high, 2), round(bad * high, 2),
            (good + bad) / seconds, throttled.get(at, 0),
        )  # fmt: skip

    whole = number * seconds
    return Pace(
        start, start + whole, seconds, top,
        [column(at) for at in range(number)],
        [_span(at - start, lasted, whole) for at, lasted in pauses],
    )  # fmt: skip


def latencies(counts: Sequence[int]) -> list[Latency]:
    """Bars for *counts*, one a bound and one beyond; empty ones at both ends are left out."""
    bars = list(zip((*LATENCIES, None), counts, strict=True))
    while bars and not bars[0][1]:
        bars.pop(0)
    while bars and not bars[-1][1]:
        bars.pop()
    most = max((count for _, count in bars), default=1)
    return [Latency(bound, count, round(100 * count / most, 2)) for bound, count in bars]


def within(counts: Sequence[int], share: float) -> float | None:
    """The first bound that *share* of the answers keep; None when that is beyond the last bound."""
    wanted, seen = share * sum(counts), 0
    for bound, count in zip(LATENCIES, counts, strict=False):
        seen += count
        if seen >= wanted:
            return bound
    return None


def _span(begin: float, lasted: float, whole: float) -> Part:
    left, right = (min(max(100 * at / whole, 0), 100) for at in (begin, begin + lasted))
    return Part("pause", 1, round(left, 3), round(max(right - left, 0.3), 3))


def _round_up(rate: float) -> float:
    """A round number not below *rate*: 1, 2 or 5 times a power of ten, or halves between."""
    if rate <= 0:
        return 1
    power = 10.0 ** math.floor(math.log10(rate))
    return next(step * power for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * power >= rate * 0.999)
