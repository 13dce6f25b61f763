"""Four ways to send a thousand requests that people really write, each with the usual answer to a 429: wait, try again.

python -m benchmarks.rivals NAME URL BODIES
"""

from __future__ import annotations

import asyncio
import importlib.util
import random
import sys
import time
from pathlib import Path

import aiohttp

_HEADERS = {"Content-Type": "application/json", "d3key": "bench-key-of-nobody"}


def sequential(url: str, bodies: list[bytes]) -> None:
    """A script: one request after the other."""
    import httpx  # noqa: PLC0415 - only the rivals need it

    with httpx.Client(headers=_HEADERS) as client:
        for body in bodies:
            while client.post(url, content=body).status_code == 429:
                time.sleep(1)


def gather(url: str, bodies: list[bytes]) -> None:
    """asyncio.gather over everything, a semaphore of 50, a second's sleep after a 429."""

    async def main() -> None:
        semaphore = asyncio.Semaphore(50)
        async with aiohttp.ClientSession(headers=_HEADERS) as session:

            async def one(body: bytes) -> None:
                async with semaphore:
                    while await _status(session, url, body) == 429:  # noqa: ASYNC110 - it waits for no event
                        await asyncio.sleep(1)

            await asyncio.gather(*(one(body) for body in bodies))

    asyncio.run(main())


def metered(url: str, bodies: list[bytes]) -> None:
    """aiometer at 50 a second with httpx, a second's sleep after a 429."""
    import aiometer  # noqa: PLC0415 - only the rivals need it
    import httpx  # noqa: PLC0415 - as above

    async def main() -> None:
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=100)
        async with httpx.AsyncClient(headers=_HEADERS, limits=limits) as client:

            async def one(body: bytes) -> None:
                while (await client.post(url, content=body)).status_code == 429:  # noqa: ASYNC110 - as above
                    await asyncio.sleep(1)

            await aiometer.run_on_each(one, bodies, max_per_second=50, max_at_once=100)

    asyncio.run(main())


def pool(url: str, bodies: list[bytes]) -> None:
    """Thirty-two workers; whoever meets a 429 backs off alone, half a second doubling to eight, with jitter."""

    async def main() -> None:
        todo = iter(bodies)
        async with aiohttp.ClientSession(headers=_HEADERS) as session:

            async def worker() -> None:
                for body in todo:
                    attempt = 0
                    while await _status(session, url, body) == 429:
                        await asyncio.sleep(min(8, 0.5 * 2**attempt) * random.uniform(0.5, 1))
                        attempt += 1

            await asyncio.gather(*(worker() for _ in range(32)))

    asyncio.run(main())


async def _status(session: aiohttp.ClientSession, url: str, body: bytes) -> int:
    async with session.post(url, data=body) as response:
        await response.read()
        return response.status


RIVALS = {"sequential": sequential, "gather": gather, "metered": metered, "pool": pool}
SPOKEN = {
    "sequential": "a sequential script",
    "gather": "asyncio.gather, semaphore of 50",
    "metered": "aiometer + httpx at 50/s",
    "pool": "32 workers, each its own back-off",
}
NEEDS = {"sequential": ("httpx",), "metered": ("aiometer", "httpx")}


def installed() -> list[str]:
    """The rivals whose packages are there."""
    return [name for name in RIVALS if all(importlib.util.find_spec(package) for package in NEEDS.get(name, ()))]


if __name__ == "__main__":
    RIVALS[sys.argv[1]](f"{sys.argv[2]}/api/Command/CreateTask", Path(sys.argv[3]).read_bytes().splitlines())
