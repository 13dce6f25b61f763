"""The limiter's clock on real time: cost of a token, accuracy on a busy loop, order, and a real freeze."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.util import find_spec

from aiolimiter import AsyncLimiter

from benchmarks.throttle.measures import most_in_a_second
from d3async.ratelimit.limiter import Limiter

Turn = Callable[[], Awaitable[object]]
PACED: dict[str, Callable[[], Turn]] = {
    "d3async": lambda: Limiter().token,
    "AsyncLimiter(50, 1)": lambda: AsyncLimiter(50, 1).acquire,
    "AsyncLimiter(1, 1/50)": lambda: AsyncLimiter(1, 1 / 50).acquire,
}
if find_spec("asynciolimiter"):
    from asynciolimiter import Limiter as AsyncioLimiter

    PACED["asynciolimiter(50)"] = lambda: AsyncioLimiter(50).wait
FREE: dict[str, Callable[[], Turn]] = {
    "d3async": lambda: Limiter(rate=1e9).token,
    "AsyncLimiter": lambda: AsyncLimiter(1e9, 1).acquire,
}


@dataclass(frozen=True, slots=True)
class Pace:
    client: str
    rate: float
    most_in_a_second: int
    cpu_us: float


def free_us(client: str, tokens: int = 50_000) -> float:
    """Return the microseconds of a token that nobody waits for: the best of five rounds."""

    async def rounds() -> float:
        turn = FREE[client]()
        best = float("inf")
        for _ in range(5):
            began = time.perf_counter()
            for _ in range(tokens // 5):
                await turn()
            best = min(best, time.perf_counter() - began)
        return best / (tokens // 5) * 1e6

    return asyncio.run(rounds())


def paced(client: str, seconds: float, *, busy: float = 0.0) -> Pace:
    """Let eight workers draw tokens; *busy* is the share of every 100 ms in which the loop does something else."""
    turn = PACED[client]()
    times: list[float] = []

    async def work() -> None:
        end = time.monotonic() + seconds

        async def worker() -> None:
            while time.monotonic() < end:
                await turn()
                times.append(time.monotonic())

        async def hog() -> None:
            while busy and time.monotonic() < end:
                time.sleep(0.1 * busy)  # noqa: ASYNC251 - a loop that is held up is what is measured
                await asyncio.sleep(0.1 * (1 - busy))

        await asyncio.gather(hog(), *(worker() for _ in range(8)))

    cpu = time.process_time()
    asyncio.run(work())
    cpu = time.process_time() - cpu
    inside = [at for at in times if at < times[0] + seconds]
    return Pace(client, len(inside) / seconds, most_in_a_second(times), cpu / len(times) * 1e6)


def idle_us(seconds: float) -> float:
    """Return the CPU microseconds of one wake-up at 48.5 a second that does nothing: the floor of pacing."""

    async def work() -> int:
        count, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(1 / 48.5)
            count += 1
        return count

    cpu = time.process_time()
    count = asyncio.run(work())
    return (time.process_time() - cpu) / count * 1e6


def displacement(waiters: int = 50_000) -> int:
    """Return how far the furthest of *waiters* was moved from its place, on a loop busy 30 % of the time."""
    served: list[int] = []

    async def work() -> None:
        limiter = Limiter(rate=10_000)

        async def waiter(place: int) -> None:
            await limiter.token()
            served.append(place)

        async def hog() -> None:
            while len(served) < waiters:
                time.sleep(0.03)  # noqa: ASYNC251 - a loop that is held up is what is measured
                await asyncio.sleep(0.07)

        await asyncio.gather(*(waiter(place) for place in range(waiters)), hog())

    asyncio.run(work())
    return max(abs(place - turn) for turn, place in enumerate(served))


def frozen(seconds: float) -> int:
    """Stop a paced process with SIGSTOP for *seconds*; return the most it then had in any one second on the wire."""
    child = subprocess.Popen([sys.executable, "-m", "benchmarks.throttle.clock"], stdout=subprocess.PIPE, text=True)
    time.sleep(2.5)
    os.kill(child.pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(child.pid, signal.SIGCONT)
    output, _ = child.communicate(timeout=60)
    return most_in_a_second(json.loads(output))


async def _write_later() -> list[float]:
    """Draw tokens until 150 are written, each some milliseconds after its grant, as behind a journal."""
    limiter, wire = Limiter(), list[float]()

    async def worker() -> None:
        while len(wire) < 150:
            granted = await limiter.token()
            await asyncio.sleep(0.004)
            wire.append(time.monotonic())
            limiter.settle_jitter(wire[-1] - granted)

    await asyncio.gather(*(worker() for _ in range(8)))
    return wire


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_write_later())))
