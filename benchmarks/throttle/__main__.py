"""`python -m benchmarks.throttle`: the scoreboard; `--quick` in a minute, without it some twenty."""

import argparse
import os
import platform
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.throttle import board, clock, plot, report, sockets
from benchmarks.throttle.served import NGINX, SANDBOX

HERE = Path(__file__).parent
MARKS = ("<!-- results -->", "<!-- end of results -->")


def main() -> None:
    options = _options()
    began = time.monotonic()
    parts = [f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, CPython {platform.python_version()}."]
    if "virtual" in options.only:
        parts += _virtual(quick=options.quick, out=options.out)
    if "sockets" in options.only:
        parts += ["### Real sockets", _sockets(quick=options.quick)]
    if "clock" in options.only:
        parts += ["### The limiter's clock on real time", _clock(quick=options.quick)]
    text = "\n\n".join(parts)
    print(text)
    print(f"\n{time.monotonic() - began:.0f} s", file=sys.stderr)
    if options.write:
        readme = HERE / "README.md"
        before, rest = readme.read_text().split(MARKS[0])
        readme.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{rest.split(MARKS[1])[1]}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throttle", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="main scenarios, few seeds, under a minute")
    parser.add_argument("--only", nargs="*", choices=("virtual", "sockets", "clock"))
    parser.add_argument("--write", action="store_true", help="put the tables into README.md")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for results.csv and plot.svg")
    options = parser.parse_args()
    options.only = options.only or ["virtual", "sockets", "clock"]
    return options


def _virtual(*, quick: bool, out: Path) -> list[str]:
    seeds, baseline_seeds = (2, 1) if quick else (10, 3)
    results = board.run_all(board.cases(seeds=seeds, baseline_seeds=baseline_seeds, main_only=quick))
    if not quick:
        board.write_csv(results, out / "results.csv")
        plot.draw(out / "plot.svg")
    parts = [f"### The promise, virtual clock, {seeds} seeds", report.promise(results)]
    parts += ["### Side by side, virtual clock", report.side_by_side(results)]
    if not quick:
        parts += ["### Every scenario, d3async: goodput % / 429 %", report.others(results)]
    return parts


def _sockets(*, quick: bool) -> str:
    servers = ["sandbox fixed", "sandbox counting", "nginx burst=5 nodelay"] if quick else [*SANDBOX, *NGINX]
    clients = ["d3async"] if quick else sockets.CLIENTS
    seconds = 7.0 if quick else 30.0
    found, absent = [], []
    # Each pair in a process of its own, two at a time: clients that shared a loop would time each other.
    with ThreadPoolExecutor(2) as pool:
        pairs = [(server, client) for server in servers for client in clients]
        for pair, running in [(pair, pool.submit(sockets.run_apart, *pair, seconds)) for pair in pairs]:
            try:
                found.append(running.result())
            except LookupError as error:
                absent.append(f"{pair[0]} skipped: {error}")
    return "\n\n".join([f"{seconds:g} s each.", report.sockets(found), *dict.fromkeys(absent)])


def _clock(*, quick: bool) -> str:
    seconds = 2.0 if quick else 10.0
    clients = ["d3async"] if quick else list(clock.PACED)
    paces = [(clock.paced(client, seconds), clock.paced(client, seconds, busy=0.3)) for client in clients]
    free = {client: clock.free_us(client) for client in clock.FREE}
    rest = {
        f"furthest moved of {5_000 if quick else 50_000:,} waiters, loop busy 30 %": str(
            clock.displacement(5_000 if quick else 50_000)
        ),
        f"most in 1 s around a SIGSTOP of {1 if quick else 20} s": str(clock.frozen(1.0 if quick else 20.0)),
    }
    return report.clocks(paces, free, clock.idle_us(seconds), rest)


if __name__ == "__main__":
    main()
