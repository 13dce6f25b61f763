"""Do many processes keep one limit together, and what does it cost? Real processes against a server that counts.

    python -m benchmarks.shared_limit [--quick]

Eight processes with a dozen callers each, set to 48 a second, once through the file of one host and once through
PostgreSQL, which is also killed and brought back under way. The server lets everything in and tells when it came: the
worst second is any second, not one of the clock. Against that, what the same eight do that know nothing of each other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks import jobs
from benchmarks.harness import HEAD, Line, Scale, folder, keep, python, shown
from benchmarks.stub import stub
from benchmarks.throttle.measures import most_in_a_second

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.stub import Stub

RATE, MOST, LATENCY = 48, 50, 0.1
PROCESSES, CALLERS = 8, 12
START = 1.5
"""Seconds that are not counted, from when every process is ready."""
DOWN = 10.0
"""Seconds without a database."""
Act = tuple[float, "Callable[[Sequence[subprocess.Popen[str]]], None]"]


@dataclass
class Seen:
    """What came of a run: request times relative to its start, and what each process counted and was told."""

    times: list[float]
    refused: list[float]
    seconds: float
    done: list[int]
    cpu: float = 0.0
    told: list[tuple[float, str]] = field(default_factory=list)
    began: float = 0.0

    def rate(self, since: float, until: float) -> float:
        return sum(since <= at < until for at in self.times) / (until - since)

    @property
    def worst(self) -> int:
        return most_in_a_second(self.times)

    @property
    def jain(self) -> float:
        if not any(self.done):
            return 0.0
        return sum(self.done) ** 2 / (len(self.done) * sum(one * one for one in self.done))


def together(
    where: dict[str, str],
    *,
    seconds: float,
    processes: int = PROCESSES,
    rate: int = RATE,
    limit: int = 0,
    acts: Sequence[Act] = (),
) -> Seen:
    """Let *processes* send for *seconds*; *acts* happen so many seconds after the start."""
    with stub(limit=limit, latency=LATENCY, times=True) as server:
        workers = [_worker(server, where, rate) for _ in range(processes)]
        began = _off(workers, seconds)
        for at, act in acts:
            time.sleep(max(began + at - time.monotonic(), 0.0))
            act(workers)
        told = [json.loads(out) for worker in workers if (out := _end(worker))]
    return Seen(
        times=[at - began for at in server.seen["times"]],
        refused=[at - began for at in server.seen["refused_times"]],
        seconds=seconds,
        done=[one["done"] for one in told],
        cpu=sum(one["cpu"] for one in told) / max(sum(one["sent"] for one in told), 1),
        told=sorted((at - began, text) for one in told for at, text in one["told"]),
        began=began,
    )


def _worker(server: Stub, where: dict[str, str], rate: int) -> subprocess.Popen[str]:
    environ = {**jobs.environment(server.url), **where, "D3_RATE": str(rate)}
    command = python("-m", "benchmarks.shared_limit", "--worker")
    return subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _off(workers: Sequence[subprocess.Popen[str]], seconds: float) -> float:
    """Let them go together, once all are ready; the time on the monotonic clock from which it counts."""
    for worker in workers:
        if worker.stdout is None or worker.stdout.readline() != "ready\n":
            raise RuntimeError("a process ended before it began")
    began = time.monotonic() + START
    for worker in workers:
        if worker.stdin is not None:
            worker.stdin.write(f"{began} {began + seconds}\n")
            worker.stdin.flush()
    return began


def _end(worker: subprocess.Popen[str]) -> str:
    with worker:
        return worker.stdout.read() if worker.stdout else ""


async def _work() -> dict[str, Any]:
    from d3async.client import D3Client  # noqa: PLC0415 - the measuring process need not load it
    from d3async.config.settings import Settings  # noqa: PLC0415 - as above
    from d3async.engine.delivery import host_limiter  # noqa: PLC0415 - as above

    told: list[tuple[float, str]] = []
    sent = done = 0
    settings = Settings.from_env()
    limiter = host_limiter(settings, lambda text: told.append((time.monotonic(), text)))
    async with D3Client(settings, limiter=limiter) as d3:
        print("ready", flush=True)
        since, until = map(float, (await asyncio.to_thread(sys.stdin.readline)).split())

        async def call(number: int) -> None:
            nonlocal sent, done
            while time.monotonic() < until:
                name = f"{os.getpid()} {number} {sent}"
                sent += 1
                await d3.create_task(
                    incident="1-1", name=name, description="x", assignee="user", due="2099-01-01 00:00:00"
                )
                done += since <= time.monotonic() < until

        before = time.process_time()
        await asyncio.gather(*map(call, range(CALLERS)))
        cpu = time.process_time() - before
    return {"done": done, "sent": sent, "cpu": cpu, "told": told}


@contextmanager
def places() -> Iterator[dict[str, dict[str, str]]]:
    """Environments: nothing shared, through a file, through a database; and the server of the last."""
    from tests.database import running  # noqa: PLC0415 - only the measuring process needs it

    with folder() as home, running() as server:
        alone = {"XDG_STATE_HOME": str(home), "D3_SHARE_LIMIT": "no"}
        yield {
            "alone": alone,
            "file": {**alone, "D3_SHARE_LIMIT": "yes"},
            "PostgreSQL": {**alone, "D3_SHARE_LIMIT": "yes", "D3_LIMIT_URL": server.database()},
            "server": server,
        }  # type: ignore[dict-item]


def measure(scale: Scale) -> Iterator[Line]:
    seconds = scale.of(30, 6)
    with places() as where:
        apart = together(where["alone"], seconds=scale.of(6, 3))
        for place in ("file", "PostgreSQL"):
            yield _fair(place, together(where[place], seconds=seconds), apart)
        yield _outage(where, scale)
        yield _signals(where["file"], scale)
        yield _refused(where, scale)
        for place in ("file", "PostgreSQL"):
            yield _single(place, where, scale)


def _fair(place: str, seen: Seen, apart: Seen) -> Line:
    share = seen.rate(0, seen.seconds) / RATE
    good = 0.97 <= share <= 1.0 and seen.jain >= 0.995 and seen.worst <= MOST
    return Line(
        f"{PROCESSES} processes, one limit of {RATE}/s, through {'a file' if place == 'file' else place}",
        f"{PROCESSES} that know nothing of each other",
        f"{share:.1%}, Jain {seen.jain:.4f}, worst second {seen.worst}",
        f"{apart.rate(0, apart.seconds) / RATE:.0%}, worst second {apart.worst}",
        None, "97 to 100 %, >= 0.995, <= 50", "", good, [],
        {"done": seen.done, "cpu_us_a_request": round(seen.cpu * 1e6), "told": seen.told},
    )  # fmt: skip


def _outage(where: dict[str, Any], scale: Scale) -> Line:
    first, down, after = scale.of(8, 4), DOWN, scale.of(8, 5)
    server = where["server"]
    back: list[float] = []

    def start(_: object) -> None:
        server.start()
        back.append(time.monotonic())

    acts = ((first, lambda _: server.stop("immediate")), (first + down, start))
    seen = together(where["PostgreSQL"], seconds=first + down + after, acts=acts)
    returned = back[0] - seen.began
    share = seen.rate(first, first + down) / RATE
    heard = [at - returned for at, text in seen.told if "shared again" in text]
    good = seen.worst <= MOST and share >= 0.7 and len(heard) == PROCESSES and max(heard) <= 3.0
    return Line(
        f"PostgreSQL killed for {down:g} s under {PROCESSES} processes", "",
        f"worst second {seen.worst}, {share:.0%} of the rate while down, all back after {max(heard, default=99):.1f} s,"
        f" then {seen.rate(returned + 3, seen.seconds) / RATE:.1%}",
        "", None, "<= 50, >= 70 %, 3 s", "", good, [], {"told": seen.told},
    )  # fmt: skip


def _signals(where: dict[str, str], scale: Scale) -> Line:
    """One is killed, two are frozen and thawed."""
    seconds = scale.of(20, 8)
    freeze = scale.of(8, 3)

    def tell(which: Sequence[int], number: int) -> Callable[[Sequence[subprocess.Popen[str]]], None]:
        return lambda workers: [os.kill(workers[one].pid, number) for one in which] and None

    acts = (
        (1.0, tell([0], signal.SIGKILL)),
        (2.0, tell([1, 2], signal.SIGSTOP)),
        (2.0 + freeze, tell([1, 2], signal.SIGCONT)),
    )
    seen = together(where, seconds=seconds, acts=acts)
    share = seen.rate(0, seconds) / RATE
    return Line(
        f"{PROCESSES} through a file: one killed, two frozen for {freeze} s", "",
        f"{share:.1%}, worst second {seen.worst}", "", None, "<= 50, nobody held up", "",
        seen.worst <= MOST and share >= 0.95, [], {"told": seen.told},
    )  # fmt: skip


def _refused(where: dict[str, Any], scale: Scale) -> Line:
    """The server takes half of what was set: what one learns, all must know."""
    seconds, limit = scale.of(30, 8), 25
    shared = together(where["file"], seconds=seconds, limit=limit, rate=MOST)
    apart = together(where["alone"], seconds=seconds, limit=limit, rate=MOST)

    def words(seen: Seen) -> str:
        refused = sum(0 <= at < seen.seconds for at in seen.refused) / seen.seconds
        every = seen.rate(0, seen.seconds)
        return f"{(every - refused) / limit:.0%} of it, {refused / every:.1%} are 429, Jain {seen.jain:.3f}"

    return Line(
        f"the server takes {limit}/s, {PROCESSES} processes think {MOST}", "the same, each learning for itself",
        words(shared), words(apart), None, "", "", None, [], {},
    )  # fmt: skip


def _single(place: str, where: dict[str, Any], scale: Scale) -> Line:
    seconds = scale.of(20, 5)
    ours = together(where[place], seconds=seconds, processes=1, rate=MOST)
    alone = together(where["alone"], seconds=seconds, processes=1, rate=MOST)
    share = ours.rate(0, seconds) / MOST
    return Line(
        f"one process, {MOST}/s, through {'a file' if place == 'file' else place}", "the same without sharing",
        f"{share:.1%}, worst second {ours.worst}, {ours.cpu * 1e6:.0f} us CPU a request",
        f"{alone.rate(0, seconds) / MOST:.1%}, worst second {alone.worst}, {alone.cpu * 1e6:.0f} us",
        ours.cpu / alone.cpu, "96 %, <= 50", "", share >= 0.96 and ours.worst <= MOST, [], {},
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small: proves that it works")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        print(json.dumps(asyncio.run(_work())))
        return
    scale, before = Scale(quick=given.quick, rounds=1), time.perf_counter()
    print(HEAD, flush=True)
    lines = []
    for line in measure(scale):
        lines.append(line)
        print(shown(line), line.notes.get("told") or "", flush=True)
    keep("shared_limit", lines, scale=scale, seconds=time.perf_counter() - before)


if __name__ == "__main__":
    main()
