"""`check` must be worth its time: a million rows against csv.reader and the same pydantic validation in a loop.

The measurement itself is `benchmarks.check_speed`: processor seconds of processes of their own, imports left out.
"""

from __future__ import annotations

from functools import partial

from benchmarks import check_speed
from benchmarks.harness import Line, Scale, alternate, folder, median, medians


def measure(scale: Scale) -> list[Line]:
    count = scale.of(1_000_000, 20_000)
    with folder() as place:
        small, large = place / "small.csv", place / "large.csv"
        check_speed.write_tasks(small, check_speed.SMALL)
        check_speed.write_tasks(large, count)
        pairs = alternate(
            partial(check_speed.measured, "check", large), partial(check_speed.measured, "bare", large), scale.rounds
        )
    mine, other = (count / seconds for seconds in medians(pairs, lambda one: one["seconds"]))
    spread = [round(other["seconds"] / mine["seconds"], 4) for mine, other in pairs]
    ratio = median(spread)
    return [
        Line(
            f"`check` {count:,} rows", "`csv.reader` + pydantic loop", f"{mine:,.0f} rows/s", f"{other:,.0f} rows/s",
            ratio, ">= 0.8 x its speed", "1.0 x", ratio >= 0.8, spread,
            {"memory_mb": round(median([one["peak_mib"] for one, _ in pairs]))},
        )
    ]  # fmt: skip
