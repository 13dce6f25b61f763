"""report.html: one page that says what a run did, to read in a browser, to print, to send on."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from d3async.files.causes import find_causes
from d3async.files.charts import LATENCIES, Pace, column_seconds, latencies, pace, shares, within
from d3async.files.suggestions import suggest, to_type
from d3async.files.summary import last_facts, summary
from d3async.files.words import clock, fact, lasting, moment, number, share, short
from d3async.journal import figures

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from d3async.journal.reader import Reader
    from d3async.journal.records import Run

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


def report_html(reader: Reader) -> Iterator[str]:
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


def _told(reader: Reader) -> dict[str, Any]:
    runs = reader.runs()
    last = last_facts(runs)
    told = summary(reader, last)
    found = find_causes(reader)
    beside = Path(os.path.abspath(reader.folder)).parent  # noqa: PTH100 - links stay as they are
    steps = suggest(reader, last, seen_from=beside)
    timed = figures.latency_counts(reader, LATENCIES)
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
    """(key, what it is called, value): those that have a name first, in its order, then whatever else was told."""
    named = [(key, label, told.get(key)) for key, label in _LABELS.items()]
    others = [(key, key, value) for key, value in told.items() if key not in _APART]
    return [fact for fact in named + others if fact[2] not in (None, "", [], {})]


def _files(told: Mapping[str, Any], reader: Reader) -> list[tuple[str, str]]:
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


def _paces(reader: Reader, runs: Iterable[Run]) -> Iterator[tuple[Run, Pace]]:
    """Throughput of each run that brought answers."""
    spans = figures.spans(reader)
    for run in runs:
        if run.epoch not in spans:
            continue
        start, end = spans[run.epoch]
        width = column_seconds(end - start)
        yield run, pace(
            start, end,
            figures.answered(reader, run.epoch, start, width),
            figures.throttled(reader, run.epoch, start, width),
            figures.pauses(reader, run.epoch, _PAUSES),
        )  # fmt: skip
