"""What a user waits for: 1,000 tasks, a server that lets 50 a second in and answers after 200 ms.

Against the physical limit, and against four ways people write it. The server is the judge: it counts what came, what it
had to refuse, what it let in twice, and the time from the first request to the last answer. Its limit is a sliding
second, which forgives nothing. A 429 is not free: it is a request the server had to answer and others share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks import jobs
from benchmarks.harness import Line, Scale, folder, median, python, spend
from benchmarks.rivals import SPOKEN, installed
from benchmarks.stub import stub

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LIMIT, LATENCY = 50, 0.2
SLOW = {"sequential"}
"""200 s a thousand, with next to no spread: measured once."""


def measure(scale: Scale) -> list[Line]:
    count = scale.of(1_000, 50)
    seen: dict[str, list[dict[str, Any]]] = {}
    with folder() as place:
        file, bodies = jobs.write_tasks(place / "tasks.csv", count), jobs.write_bodies(place / "bodies", count)
        for number in range(scale.rounds):
            for name, run in _ways(file, bodies).items():
                if number == 0 or name not in SLOW:
                    seen.setdefault(name, []).append(_judged(run))
    return [_physical(seen["ours"], count), *(_rival(name, seen, count) for name in installed())]


def _ways(file: Path, bodies: Path) -> dict[str, Callable[[str], object]]:
    ways: dict[str, Callable[[str], object]] = {"ours": lambda url: jobs.run(file, url)}
    for name in installed():
        ways[name] = lambda url, name=name: spend(python("-m", "benchmarks.rivals", name, url, bodies))  # type: ignore[misc]
    return ways


def _judged(run: Callable[[str], object]) -> dict[str, Any]:
    with stub(limit=LIMIT, latency=LATENCY, count=True) as server:
        run(server.url)
    return server.seen


def _of(seen: list[dict[str, Any]], key: str) -> float:
    return median([one[key] for one in seen])


def _words(seen: list[dict[str, Any]]) -> str:
    requests, refused, duplicates = (round(_of(seen, key)) for key in ("requests", "refused", "duplicates"))
    return f"{_of(seen, 'seconds'):.2f} s, {requests:,} requests, {refused:,} x 429, {duplicates} twice"


def _physical(seen: list[dict[str, Any]], count: int) -> Line:
    spread = [round(one["seconds"] / (count / LIMIT), 4) for one in seen]
    ratio, worst = median(spread), max(one["refused"] for one in seen)
    return Line(
        f"{count:,} CreateTask rows, 50/s, answers after 200 ms", f"{count:,} / 50 s, the physical limit", _words(seen),
        f"{count / LIMIT:.2f} s", ratio, "<= 1.06 x, 0 x 429", "1.04 x", ratio <= 1.06 and not worst, spread,
    )  # fmt: skip


def _rival(name: str, seen: dict[str, list[dict[str, Any]]], count: int) -> Line:
    mine, other = seen["ours"], seen[name]
    keys = ("seconds", "requests", "duplicates", "refused")
    first = {key: _of(mine, key) <= _of(other, key) for key in keys}
    return Line(
        "the same", SPOKEN[name], _words(mine), _words(other), _of(mine, "seconds") / _of(other, "seconds"),
        "first in all four", "", all(first.values()) and all(one["requests"] == count for one in mine), [],
        {"first_in": first},
    )  # fmt: skip
