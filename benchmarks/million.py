"""A file may have a million rows: memory must not grow with it, a row must not get dearer, a re-run must be cheap.

One run over each of three sizes is measured, as a whole process; the server has no limit. A re-run over the finished
folder is held against `check` of the same file, in turns: the re-run knows the file by its digest and counts the
journal's rows anew, but neither checks them one by one nor writes results that lie there as they were written.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import jobs
from benchmarks.harness import Line, Scale, Spent, alternate, folder, median, medians, python, ratios, spend
from benchmarks.stub import stub

if TYPE_CHECKING:
    from pathlib import Path


def measure(scale: Scale) -> list[Line]:
    sizes = [scale.of(whole, quick) for whole, quick in ((10_000, 300), (100_000, 1_500), (1_000_000, 5_000))]
    with folder() as place, stub() as server:
        files = [jobs.write_tasks(place / f"{size}.csv", size) for size in sizes]
        spent = [_run(file, server.url) for file in files]
        before = json.loads((files[-1].with_suffix(".d3run") / "summary.json").read_text(encoding="utf-8"))
        pairs = alternate(
            partial(_run, files[-1], server.url, fresh=False), partial(_check, files[-1], server.url), scale.rounds
        )
        after = json.loads((files[-1].with_suffix(".d3run") / "summary.json").read_text(encoding="utf-8"))
    if before["requests"] != sizes[-1] or after["requests"] or after["outcomes"]["ok"] != sizes[-1]:
        raise RuntimeError(f"{before['requests']} requests, then {after['requests']}: {after['outcomes']}")
    return [_memory(sizes, spent), _rerun(sizes, pairs), _per_row(sizes, spent)]


def _run(file: Path, url: str, *, fresh: bool = True) -> Spent:
    return jobs.run(file, url, "--rate", jobs.UNLIMITED, fresh=fresh)


def _check(file: Path, url: str) -> Spent:
    return spend(python("-m", "d3async", "check", file), jobs.environment(url))


def _memory(sizes: list[int], spent: list[Spent]) -> Line:
    small, _, large = (one.memory for one in spent)
    return Line(
        f"RSS at {sizes[-1]:,} rows", f"at {sizes[0]:,} rows", f"{large:.0f} MB", f"{small:.0f} MB", large / small,
        "+ 15 MB at most, 130 MB in all", "", large - small <= 15 and large <= 130,
    )  # fmt: skip


def _rerun(sizes: list[int], pairs: list[tuple[Spent, Spent]]) -> Line:
    mine, other = medians(pairs, lambda spent: spent.wall)
    spread = ratios(pairs, lambda spent: spent.wall)
    ratio = median(spread)
    cpu = median(ratios(pairs, lambda spent: spent.cpu))
    return Line(
        f"re-run of a finished {sizes[-1]:,}-row folder", "`check` of the same file", f"{mine:.1f} s, 0 requests",
        f"{other:.1f} s", ratio, "<= 1.5 x, 0 requests", "1.1 x", ratio <= 1.5, spread, {"ratio_of_cpu": round(cpu, 3)},
    )  # fmt: skip


def _per_row(sizes: list[int], spent: list[Spent]) -> Line:
    """What a further row costs: between the sizes, so that the start of a process is not spread over few rows."""
    steps = [
        1e6 * (more.cpu - less.cpu) / (many - few)
        for few, many, less, more in zip(sizes, sizes[1:], spent, spent[1:], strict=False)
    ]
    ratio = steps[1] / steps[0]
    return Line(
        f"CPU a further row, {sizes[1]:,} to {sizes[2]:,} rows", f"{sizes[0]:,} to {sizes[1]:,} rows",
        f"{steps[1]:.0f} µs", f"{steps[0]:.0f} µs", ratio, "constant within 10 %", "", ratio <= 1.1,
    )  # fmt: skip
