"""A clean-up of links is as fast as it sends few requests: 10,000 links over 200 sources, merged and one call a link.

The server is the sandbox in a process of its own: a strict 50 requests in any second, 100 ms an answer. The file is
sorted by linked incident, so that no two rows of a source stand together; every tenth pair is not linked, every 25th
names an incident that is not there. Both ways of sending must give every row the outcome that the server's links prove.

One call a link would take 10,000 / 50 = 200 s at the least. It is sent without a limit, to compare its outcomes, and
its time is taken to be those 200 s: what d3async, or anything else that sends one call a link, can't get below.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks import jobs
from benchmarks.harness import Line, Scale, folder, median, python, spend

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMIT = 50
LATENCY = "100ms"
PER_SOURCE = 50


@dataclass(frozen=True)
class Sent:
    """One run: requests, seconds from the first send to the last outcome, refusals, and (outcome, code) of each row."""

    requests: int
    seconds: float
    refused: int
    lane_max: int
    outcomes: list[tuple[str, str]]


def measure(scale: Scale) -> list[Line]:
    sources = scale.of(200, 20)
    with folder() as place:
        expected = _write(place, sources)
        merged = [_send(place, LIMIT) for _ in range(scale.rounds)]
        single = _send(place, 0, "--max-links-per-call", 1, "--rate", jobs.UNLIMITED)
    for sent in (*merged, single):
        if sent.outcomes != expected:
            raise RuntimeError("the outcomes are not what the links of the server prove")
        if sent.refused or sent.lane_max > 1:
            raise RuntimeError(f"{sent.refused} requests refused, {sent.lane_max} of one source in flight at once")
    return [_requests(merged, single), _time(merged), _faster(merged, single)]


def _requests(merged: list[Sent], single: Sent) -> Line:
    ours = max(sent.requests for sent in merged)
    count = len(single.outcomes)
    return Line(
        f"requests for {count:,} links over {count // PER_SOURCE} sources, file sorted by linked incident",
        "one call a link, the same outcomes", f"{ours:,}", f"{single.requests:,}", round(ours / single.requests, 4),
        "<= 250 of 10,000", "200", ours <= count / 40 and single.requests == count,
    )  # fmt: skip


def _time(merged: list[Sent]) -> Line:
    spread = [round(sent.seconds / (sent.requests / LIMIT), 3) for sent in merged]
    ratio = median(spread)
    return Line(
        f"the same, server at {LIMIT}/s with {LATENCY} answers (first send to last outcome)",
        f"requests / {LIMIT} s, the physical limit", f"{median([sent.seconds for sent in merged]):.2f} s",
        f"{merged[0].requests / LIMIT:.2f} s", ratio, "<= 1.1 x, 0 x 429", "1.04 x", ratio <= 1.1, spread,
    )  # fmt: skip


def _faster(merged: list[Sent], single: Sent) -> Line:
    least = single.requests / LIMIT
    spread = [round(least / sent.seconds, 2) for sent in merged]
    ratio = median(spread)
    return Line(
        f"the same: how many times faster than one call a link at {LIMIT}/s",
        f"{single.requests:,} requests / {LIMIT} s, its physical limit",
        f"{median([sent.seconds for sent in merged]):.2f} s", f"{least:.0f} s", ratio, ">= 40 x", "48 x", ratio >= 40,
        spread, {"sent_without_a_limit_s": round(single.seconds, 2)},
    )  # fmt: skip


def _write(place: Path, sources: int) -> list[tuple[str, str]]:
    """The job file, the server's links, and what each row is to become."""
    rows, links, expected = [], [], []
    for n in range(PER_SOURCE):
        for source in range(sources):
            pair = (f"20260125-{source + 1}", f"{'1900' if n % 25 == 1 else '2021'}0127-{n * sources + source}")
            rows.append(pair)
            if n % 25 == 1:
                expected.append(("failed", "item_error"))
            elif n % 10 == 0:
                expected.append(("failed", "not_linked"))
            else:
                links.append(pair)
                expected.append(("ok", ""))
    for name, pairs in (("unlink.csv", rows), ("links.csv", links)):
        with (place / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("source", "linked"), *pairs])
    return expected


def _send(place: Path, limit: int, *options: object) -> Sent:
    target = place / "unlink.d3run"
    with _sandbox(place / "links.csv", limit) as url:
        command = python("-m", "d3async", "run", place / "unlink.csv", "-o", target, "--fresh", "--yes", "-q", *options)
        spend(command, jobs.environment(url, D3_API_KEY="sandbox-key"), codes=(1,))
        with urllib.request.urlopen(f"{url.removesuffix('/ce_site/VSOC')}/ledger?summary=1") as answer:
            ledger: dict[str, Any] = json.load(answer)
    told = json.loads((target / "summary.json").read_text(encoding="utf-8"))
    with (target / "results.csv").open(encoding="utf-8-sig", newline="") as file:
        outcomes = [(row["_outcome"], row["_code"]) for row in csv.DictReader(file)]
    return Sent(
        ledger["counts"]["requests"], told["elapsed_s"], ledger["counts"]["by_status"].get("429", 0),
        ledger["in_flight_max_per_source"], outcomes,
    )  # fmt: skip


@contextmanager
def _sandbox(links: Path, limit: int) -> Iterator[str]:
    options = ("--port", 0, "--rate", limit, "--latency", LATENCY if limit else "0s", "--links", links, "--counts-only")
    with subprocess.Popen(python("-m", "d3async", "sandbox", *options), stderr=subprocess.PIPE, text=True) as process:
        try:
            if process.stderr is None or not (found := re.search(r"at (http\S+):", process.stderr.readline())):
                raise RuntimeError("the sandbox does not say where it is")
            yield found[1]
        finally:
            process.terminate()
            process.communicate()
