"""report.html: one page that says what a run did, and the positions of its charts."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from d3async.files.number_format import clock, fact, lasting, moment, number, share, short
from d3async.files.suggestions import suggest, to_type
from d3async.files.summary import find_causes, last_facts, summary
from d3async.journal import protocols

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from d3async.journal.model import RunRecord
    from d3async.journal.protocols import RunReader

_WIDTHS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
_MOST_BARS = 80
_LEAST_SHARE = 0.6
LATENCIES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60)
"""Upper bounds of the histogram, in seconds; what is beyond the last has a bar of its own."""


@dataclass(frozen=True, slots=True)
class BarPart:
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
class PaceChart:
    """Throughput over time. *seconds* is the length of a column; *top* the rate at the upper edge."""

    start: float
    end: float
    seconds: int
    top: float
    columns: Sequence[Column]
    pauses: Sequence[BarPart]


@dataclass(frozen=True, slots=True)
class Latency:
    """One bar of the histogram: answers that took at most *bound* seconds (None: longer than all bounds)."""

    bound: float | None
    count: int
    width: float


def shares(counts: Mapping[str, int]) -> list[BarPart]:
    """Pieces of one bar for *counts*; what there is at all can be seen."""
    seen = {name: count for name, count in counts.items() if count}
    total = sum(seen.values())
    widths = {name: max(100 * count / total, _LEAST_SHARE) for name, count in seen.items()}
    scale = 100 / sum(widths.values()) if widths else 0
    parts, x = [], 0.0
    for name, width in widths.items():
        parts.append(BarPart(name, seen[name], round(x, 3), round(width * scale, 3)))
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
) -> PaceChart:
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
    return PaceChart(
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


def _span(begin: float, lasted: float, whole: float) -> BarPart:
    left, right = (min(max(100 * at / whole, 0), 100) for at in (begin, begin + lasted))
    return BarPart("pause", 1, round(left, 3), round(max(right - left, 0.3), 3))


def _round_up(rate: float) -> float:
    """A round number not below *rate*: 1, 2 or 5 times a power of ten, or halves between."""
    if rate <= 0:
        return 1
    power = 10.0 ** math.floor(math.log10(rate))
    return next(step * power for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * power >= rate * 0.999)


MEANINGS = {
    "ok": "D3 said so",
    "partial": "some of its links are removed, some are not",
    "failed": "D3 refused it: it did not happen",
    "unknown": "it was sent and no trustworthy answer came: it may have happened",
    "invalid": "never sent: the row is wrong",
    "unsent": "never sent: the run stopped before it",
}
_TEMPLATE = Path(__file__).with_name("report.html.j2")
_CAUSES = 25
_RUNS = 20
_CHARTS = 3
_PAUSES = 300
_WARNINGS = 50
_SERVERS = 500
_WORDS = (clock, fact, lasting, moment, number, share, short)
_LABELS = {
    "base_url": "D3", "site": "Site", "command": "Command", "started_at": "Started, UTC",
    "finished_at": "Finished, UTC", "elapsed_s": "Took", "requests": "Requests", "rate": "Rate",
    "throttled": "Answers 429", "paused_s": "Paused", "exit_code": "Exit code", "version": "d3async",
    "settled_by_hand": "Settled by hand",
}  # fmt: skip
_APART = {
    "input",
    "outcomes",
    "servers",
    "items",
    "vanished",
    "next",
    "advice",
    "settings",
    "warnings",
    "stop",
    *_LABELS,
}


def report_html(reader: RunReader) -> Iterator[str]:
    """The page, piece by piece: the same for the same journal. Memory does not grow with the rows."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {word.__name__: word for word in _WORDS}
    return environment.get_template(_TEMPLATE.name).generate(_told(reader))


def _told(reader: RunReader) -> dict[str, Any]:
    runs = reader.runs()
    last = last_facts(runs)
    told = summary(reader, last)
    found = find_causes(reader)
    beside = Path(os.path.abspath(reader.folder)).parent  # noqa: PTH100 - links stay as they are
    steps = suggest(reader, last, seen_from=beside)
    timed = protocols.latency_counts(reader, LATENCIES)
    return {
        "told": told,
        "facts": _facts(told),
        "stop": told.get("stop"),
        "settings": told.get("settings") or {},
        "servers": _servers(told.get("servers") or ()),
        "warnings": (told.get("warnings") or [])[:_WARNINGS],
        "in_flight": reader.in_flight(),
        "parts": shares(told["outcomes"]),
        "meanings": MEANINGS,
        "causes": found.causes[:_CAUSES],
        "others": found.others + sum(cause.count for cause in found.causes[_CAUSES:]),
        "paces": list(islice(_paces(reader, reversed(runs)), _CHARTS)),
        "latencies": latencies(timed),
        "timed": sum(timed),
        "within": {within(timed, part): part for part in (0.5, 0.95, 0.99)},
        "runs": runs[-_RUNS:],
        "files": _files(told, reader),
        "next": to_type(steps),
        "advice": steps.notes,
    }


def _servers(servers: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those of several that stopped, then the others, as many as a page bears; none where there is one."""
    if len(servers) < 2:  # noqa: PLR2004 - of one the whole page tells
        return []
    return sorted(servers, key=lambda server: server.get("stop") is None)[:_SERVERS]


def _facts(told: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    """(key, what it is called, value): those that have a name first, in its order, then everything else."""
    named = [(key, label, told.get(key)) for key, label in _LABELS.items()]
    others = [(key, key, value) for key, value in told.items() if key not in _APART]
    return [fact for fact in named + others if fact[2] not in (None, "", [], {})]


def _files(told: Mapping[str, Any], reader: RunReader) -> list[tuple[str, str]]:
    """The files beside the page, as far as they have rows, each with what is in it."""
    counts: Mapping[str, int] = told["outcomes"]
    kind = "jsonl" if '"jsonl"' in reader.meta().get("format", "") else "csv"
    files = [(f"results.{kind}", "every row with its outcome")]
    if reader.has_items:
        files.append(("items.csv", "every link with its outcome"))
    if counts["failed"] + counts["invalid"] + counts["partial"]:
        files.append((f"failed.{kind}", "rows to mend and run"))
    if counts["unknown"]:
        files.append((f"unknown.{kind}", "rows to look up in D3"))
    return [*files, ("summary.json", "counts and facts, for programs")]


def _paces(reader: RunReader, runs: Iterable[RunRecord]) -> Iterator[tuple[RunRecord, PaceChart]]:
    """Throughput of each run that brought answers."""
    spans = protocols.spans(reader)
    for run in runs:
        if run.epoch not in spans:
            continue
        start, end = spans[run.epoch]
        width = column_seconds(end - start)
        yield run, pace(
            start, end,
            protocols.answered(reader, run.epoch, start, width),
            protocols.throttled(reader, run.epoch, start, width),
            protocols.pauses(reader, run.epoch, _PAUSES),
        )  # fmt: skip
