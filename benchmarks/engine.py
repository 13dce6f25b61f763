"""The engine must cost next to nothing beside the wire: CSV in, journal with fsync'd `sent`, results out, no limit.

Against a bare aiohttp POST loop with the same bodies and the same concurrency. Both are whole processes, start and end
included, on the same kind of event loop; the server has a process of its own. What the bare loop leaves out is what
d3async is for: it checks nothing, remembers nothing, and a crash or a 429 ends it.
"""

from __future__ import annotations

import importlib.util
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import jobs
from benchmarks.harness import Line, Scale, Spent, alternate, folder, median, medians, python, ratios, spend
from benchmarks.stub import stub

if TYPE_CHECKING:
    from pathlib import Path

CONCURRENCY = 32


def measure(scale: Scale) -> list[Line]:
    count = scale.of(20_000, 2_000)
    # single rounds differ by a third on a shared machine
    rounds = max(scale.rounds, scale.of(15, 1))
    with folder() as place, stub() as server:
        file, bodies = jobs.write_tasks(place / "tasks.csv", count), jobs.write_bodies(place / "bodies", count)
        options = ("--rate", jobs.UNLIMITED, "--concurrency", CONCURRENCY)
        pairs = alternate(partial(jobs.run, file, server.url, *options), partial(_bare, server.url, bodies), rounds)
    return [_cpu(pairs, count), _speed(pairs, count)]


def _bare(url: str, bodies: Path) -> Spent:
    return spend(python("-m", "benchmarks.bare", url, bodies, CONCURRENCY))


def _cpu(pairs: list[tuple[Spent, Spent]], count: int) -> Line:
    mine, other = (1e6 * value / count for value in medians(pairs, lambda spent: spent.cpu))
    spread = ratios(pairs, lambda spent: spent.cpu)
    ratio = median(spread)
    return Line(
        f"CPU a job, whole engine, no rate limit ({count:,} jobs{_loop()})",
        "a bare aiohttp POST loop", f"{mine:.0f} µs", f"{other:.0f} µs", ratio, "<= 1.8 x", "1.4 x", ratio <= 1.8,
        spread,
    )  # fmt: skip


def _speed(pairs: list[tuple[Spent, Spent]], count: int) -> Line:
    mine, other = (count / value for value in medians(pairs, lambda spent: spent.wall))
    spread = ratios(pairs, lambda spent: 1 / spent.wall)
    ratio = median(spread)
    return Line(
        "jobs a second, same", "same", f"{mine:,.0f}/s", f"{other:,.0f}/s", ratio, ">= 0.55 x", "0.75 x", ratio >= 0.55,
        spread,
    )  # fmt: skip


def _loop() -> str:
    return ", uvloop in both" if importlib.util.find_spec("uvloop") else ""
