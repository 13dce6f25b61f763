"""The barest thing that could do the same: POST each line of a file with aiohttp, read the answer, forget it.

python -m benchmarks.bare URL BODIES CONCURRENCY [--asyncio]
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADERS = {"Content-Type": "application/json", "d3key": "bench-key-of-nobody"}


async def _work(session: aiohttp.ClientSession, url: str, bodies: Iterator[bytes]) -> None:
    for body in bodies:
        async with session.post(url, data=body.rstrip(b"\n"), headers=_HEADERS) as response:
            await response.read()
            if response.status != 200:
                raise RuntimeError(f"HTTP {response.status}")


async def _all(url: str, bodies: Iterator[bytes], concurrency: int) -> None:
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(_work(session, url, bodies))


def main(url: str, path: str, concurrency: str, *options: str) -> None:
    factory = None
    with suppress(ImportError):
        if "--asyncio" not in options:
            import uvloop  # noqa: PLC0415 - the same loop as ours: uvloop where it is installed

            factory = uvloop.new_event_loop
    with Path(path).open("rb") as bodies, asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_all(f"{url}/api/Command/CreateTask", iter(bodies), int(concurrency)))


if __name__ == "__main__":
    main(*sys.argv[1:])
