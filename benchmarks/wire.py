"""Our programs send past aiohttp's session, with its connections and its parser: is that worth a room of its own?

The same requests both ways, in whole processes: `python -m benchmarks.wire URL BODIES CONCURRENCY session|direct`.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import jobs
from benchmarks.engine import CONCURRENCY
from benchmarks.harness import Line, Scale, Spent, alternate, folder, median, medians, python, ratios, spend
from benchmarks.stub import stub
from d3async.network import Network
from d3async.program import loop_factory
from d3async.sansio.protocol import ApiRequest, ApiResponse
from d3async.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADERS = {"d3key": "bench-key-of-nobody"}


def measure(scale: Scale) -> list[Line]:
    count = scale.of(20_000, 2_000)
    with folder() as place, stub() as server:
        bodies = jobs.write_bodies(place / "bodies", count)
        ways = (partial(_process, server.url, bodies, way) for way in ("direct", "session"))
        pairs = alternate(*ways, scale.rounds)
    mine, other = (1e6 * value / count for value in medians(pairs, lambda spent: spent.cpu))
    spread = ratios(pairs, lambda spent: spent.cpu)
    return [
        Line(
            f"CPU a request, past the session ({count:,} requests)", "through the session",
            f"{mine:.0f} µs", f"{other:.0f} µs", median(spread), "", "", None, spread,
        )
    ]  # fmt: skip


def _process(url: str, bodies: Path, way: str) -> Spent:
    return spend(python("-m", "benchmarks.wire", url, bodies, CONCURRENCY, way))


async def _work(transport: Transport, bodies: Iterator[bytes]) -> None:
    for body in bodies:
        answer = await transport.send(ApiRequest("CreateTask", body.rstrip(b"\n")), _HEADERS)
        if not isinstance(answer, ApiResponse) or answer.status != 200:
            raise RuntimeError(answer)


async def _all(url: str, bodies: Iterator[bytes], concurrency: int, *, direct: bool) -> None:
    async with (
        Transport(Network(url, concurrency=concurrency), direct=direct) as transport,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(concurrency):
            group.create_task(_work(transport, bodies))


def main(url: str, path: str, concurrency: str, way: str) -> None:
    with Path(path).open("rb") as bodies, asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_all(url, iter(bodies), int(concurrency), direct=way == "direct"))


if __name__ == "__main__":
    main(*sys.argv[1:])
