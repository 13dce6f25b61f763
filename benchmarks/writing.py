"""Writing the results of a million rows from the journal, against csv.writer with the same rows in memory.

The measurement itself is `benchmarks.results_speed`, which also knows rows with items.
"""

from __future__ import annotations

import csv
import itertools
import json

from benchmarks import results_speed
from benchmarks.harness import Line, Scale, folder, median, python, spend


def measure(scale: Scale) -> list[Line]:
    count = scale.of(1_000_000, 10_000)
    pairs: list[tuple[float, float]] = []
    with folder() as place:
        results_speed.fill(place, count, items=False)
        kept: list[list[str]] = []
        for _ in range(scale.rounds):
            mine, _memory = json.loads(spend(python("-m", "benchmarks.results_speed", "--one", place)).out)
            if not kept:
                with (place / "results.csv").open(encoding="utf-8-sig", newline="") as file:
                    kept = list(itertools.islice(csv.reader(file), min(results_speed.KEPT, count) + 1))
            pairs.append((mine, results_speed.theirs(place, kept, count)))
    spread = [round(mine / other, 4) for mine, other in pairs]
    ratio = median(spread)
    ours, other = (median(list(column)) for column in zip(*pairs, strict=True))
    return [
        Line(
            f"writing results for {count:,} rows",
            "`csv.writer` of the same rows from memory",
            f"{ours:.2f} s",
            f"{other:.2f} s",
            ratio,
            "<= 3 x",
            "2 x",
            ratio <= 3,
            spread,
        )
    ]
