"""`python -m benchmarks [--quick] [--rounds N] [NAME…]`: measure, print the table, keep it."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import time

from benchmarks.harness import HEAD, Scale, keep, refresh, shown

NAMES = (
    "engine", "thousand", "links", "million", "look_alikes", "check", "writing", "startup", "tenants", "shared_limit",
    "fleet_journal", "fleet",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(_there())}; all of them by default")
    parser.add_argument("--quick", action="store_true", help="small, for CI: proves that they work")
    parser.add_argument("--rounds", type=int, help="ours and theirs in turns, so many times")
    given = parser.parse_args()
    if unknown := set(given.names) - set(_there()):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}")
    scale = Scale(quick=given.quick, rounds=given.rounds or (1 if given.quick else 5))
    print(HEAD, flush=True)
    for name in given.names or _there():
        _measure(name, scale)
    if not given.quick:
        refresh(NAMES)


def _there() -> list[str]:
    return [name for name in NAMES if importlib.util.find_spec(f"benchmarks.{name}")]


def _measure(name: str, scale: Scale) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    before, busy = time.perf_counter(), os.getloadavg()[0]
    lines = []
    for line in module.measure(scale):
        line.notes["load_before"] = round(busy, 2)
        print(shown(line), flush=True)
        lines.append(line)
    keep(name, lines, scale=scale, seconds=time.perf_counter() - before)


if __name__ == "__main__":
    main()
