"""One operator serves many D3s: how many tenants at 48 requests a second each does one process carry?

Each tenant is a `D3Client` of its own, with its own limiter, against its own stub server that lets 50 a second in and
answers after 200 ms. A tenant is served when it gets 95 % of 48 a second. The number of tenants grows until some are
not: where that is, the core is full, and the rest of a hundred need further processes.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import os
import sys
import time
from contextlib import AsyncExitStack, suppress

from benchmarks import jobs
from benchmarks.harness import Line, Scale, python, spend
from benchmarks.stub import stub

RATE, SHARE, LIMIT, LATENCY = 48, 0.95, 50, 0.2
WARM_UP = 2.0
"""Seconds until every connection is open; not counted."""
WORKERS = 16
"""Callers a tenant: enough for 48 a second at 200 ms."""


def measure(scale: Scale) -> list[Line]:
    steps = (2, 4) if scale.quick else (5, 10, 15, 20, 25, 30, 40, 60, 80, 100)
    seconds = scale.of(10, 3)
    told, served = [], 0
    for tenants in steps:
        one = _try(tenants, seconds)
        told.append(one)
        if one["slowest"] < RATE * SHARE:
            break
        served = tenants
    last = told[-1]
    need = math.ceil(100 / served) if served else None
    return [
        Line(
            "tenants at 48/s each from one process", "100", f"{served} served, all >= 95 %",
            f"at {last['tenants']}: slowest {last['slowest']:.1f}/s, core {last['core']:.0%} busy", None,
            "100, or where the core is full", f"{need} processes for 100" if need and not scale.quick else "",
            served > 0, [],
            {"steps": told},
        )
    ]  # fmt: skip


def _try(tenants: int, seconds: int) -> dict[str, float]:
    with stub(limit=LIMIT, latency=LATENCY, ports=tenants) as server:
        spent = spend(python("-m", "benchmarks.tenants", seconds, *server.urls), jobs.environment(server.url))
    rates = json.loads(spent.out)
    refused = sum(one["refused"] for one in server.all_seen)
    return {
        "tenants": tenants, "slowest": round(min(rates), 2), "fastest": round(max(rates), 2), "refused": refused,
        "core": round(spent.cpu / spent.wall, 3),
    }  # fmt: skip


async def _tenant(url: str, since: float, until: float) -> int:
    from d3async import D3Client, Settings  # noqa: PLC0415 - the measuring process need not load it

    done = 0
    settings = Settings.from_env({**os.environ, "D3_BASE_URL": url})
    numbers = itertools.count()
    async with D3Client(settings) as d3, AsyncExitStack() as stack:
        group = await stack.enter_async_context(asyncio.TaskGroup())

        async def work() -> None:
            nonlocal done
            while time.monotonic() < until:
                name = f"task {next(numbers)}"
                await d3.create_task(
                    incident="1-1", name=name, description="x", assignee="user", due="2099-01-01 00:00:00"
                )
                done += since <= time.monotonic() < until

        for _ in range(WORKERS):
            group.create_task(work())
    return done


async def _all(seconds: int, urls: list[str]) -> list[float]:
    since = time.monotonic() + WARM_UP
    done = await asyncio.gather(*(_tenant(url, since, since + seconds) for url in urls))
    return [count / seconds for count in done]


def main(seconds: str, *urls: str) -> None:
    factory = None
    with suppress(ImportError):
        import uvloop  # noqa: PLC0415 - optional

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        print(json.dumps(runner.run(_all(int(seconds), list(urls)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
