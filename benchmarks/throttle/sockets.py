"""Real aiohttp clients over real sockets: what the virtual clock promises must hold here too."""

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec

import aiohttp
from aiolimiter import AsyncLimiter

from benchmarks.throttle.measures import most_in_a_second
from benchmarks.throttle.served import LIMIT, serve
from d3async.ratelimit.limiter import Limiter

WORKERS = 32
WARM_UP = 2.0
ABSENT = 3


@dataclass(frozen=True, slots=True)
class Result:
    server: str
    client: str
    goodput: float
    refused: float
    refusals: int
    most_on_wire: int
    most_arrived: int
    cpu_us: float


@dataclass
class Wire:
    sent: list[float] = field(default_factory=list)
    delays: Callable[[float], None] = lambda _: None

    def trace(self) -> aiohttp.TraceConfig:
        config = aiohttp.TraceConfig()
        config.on_request_headers_sent.append(self._note)
        return config

    async def _note(self, _: object, context: object, __: object) -> None:
        now = time.monotonic()
        self.sent.append(now)
        granted = getattr(context, "trace_request_ctx", None)
        if granted is not None:
            self.delays(now - granted)


Turn = Callable[[], Awaitable[object]]


async def _free() -> None: ...


TURNS: dict[str, Callable[[], Turn]] = {
    "no limiter": lambda: _free,
    "AsyncLimiter(50, 1)": lambda: AsyncLimiter(LIMIT, 1).acquire,
    "AsyncLimiter(1, 1/50)": lambda: AsyncLimiter(1, 1 / LIMIT).acquire,
}
if find_spec("asynciolimiter"):
    from asynciolimiter import Limiter as AsyncioLimiter

    TURNS["asynciolimiter(50)"] = lambda: AsyncioLimiter(LIMIT).wait
CLIENTS = (*TURNS, "d3async")


def run(server: str, client: str, seconds: float) -> Result:
    """Run *client* against *server*; raises LookupError where the server cannot be had."""
    with serve(server) as served:
        wire = Wire()
        cpu = time.process_time()
        began = time.time()
        asyncio.run(_work(served.url, client, seconds, wire))
        cpu = time.process_time() - cpu
    start, end = began + WARM_UP, began + seconds
    accepted = sum(admitted and start <= at < end for at, admitted in served.arrivals)
    refusals = sum(not admitted for _, admitted in served.arrivals)
    return Result(
        server=server,
        client=client,
        goodput=accepted / (LIMIT * (end - start)),
        refused=refusals / len(served.arrivals),
        refusals=refusals,
        most_on_wire=most_in_a_second(wire.sent),
        most_arrived=most_in_a_second([at for at, _ in served.arrivals]),
        cpu_us=cpu / len(served.arrivals) * 1e6,
    )


async def _work(url: str, client: str, seconds: float, wire: Wire) -> None:
    async with aiohttp.ClientSession(trace_configs=[wire.trace()]) as session:
        end = time.monotonic() + seconds
        if client == "d3async":
            limiter = Limiter(concurrency=WORKERS)
            wire.delays = limiter.settle_jitter
            worker = _shared(session, url, limiter, end)
        else:
            worker = _alone(session, url, TURNS[client](), end)
        await asyncio.gather(*(worker() for _ in range(WORKERS)))


def _shared(session: aiohttp.ClientSession, url: str, limiter: Limiter, end: float) -> Callable[[], Awaitable[None]]:
    async def worker() -> None:
        again = False
        while time.monotonic() < end:
            async with limiter.slot():
                granted = await limiter.token(head=again)
                async with session.get(url, trace_request_ctx=granted) as response:
                    again = response.status == 429
                    if again:
                        limiter.throttled(granted, None)
                    else:
                        limiter.accepted(granted)

    return worker


def _alone(session: aiohttp.ClientSession, url: str, turn: Turn, end: float) -> Callable[[], Awaitable[None]]:
    async def worker() -> None:
        attempt = 0
        while time.monotonic() < end:
            await turn()
            async with session.get(url) as response:
                attempt = attempt + 1 if response.status == 429 else 0
            if attempt:
                await asyncio.sleep(random.random() * min(2.0 ** (attempt - 1), 20.0))

    return worker


def run_apart(server: str, client: str, seconds: float) -> Result:
    """As `run`, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.throttle.sockets", server, client, str(seconds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == ABSENT:
        raise LookupError(done.stdout.strip())
    done.check_returncode()
    return Result(**json.loads(done.stdout))


def _main(server: str, client: str, seconds: str) -> int:
    try:
        print(json.dumps(asdict(run(server, client, float(seconds)))))
    except LookupError as error:
        print(error)
        return ABSENT
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
