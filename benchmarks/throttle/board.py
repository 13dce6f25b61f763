"""The virtual scoreboard: every client through every scenario, and the rows that must hold."""

import csv
import statistics
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.throttle.clients import CLIENTS
from benchmarks.throttle.scenarios import BLOCKED, HALVED, MAIN, OTHERS, SHARED, STATIC, UNKNOWN, Figures
from benchmarks.throttle.servers import KINDS, STEADY
from benchmarks.throttle.virtual import Simulation

OURS, AUTO = "d3async", "d3async --rate auto"
BASELINES = tuple(client for client in CLIENTS if client not in {OURS, AUTO})
SCENARIOS = {scenario.name: scenario for scenario in (*MAIN, UNKNOWN, *OTHERS)}


@dataclass(frozen=True, slots=True)
class Case:
    scenario: str
    server: str
    client: str
    seed: int


Results = dict[Case, Figures]


def cases(*, seeds: int, baseline_seeds: int, main_only: bool) -> list[Case]:
    """List what to run: ours everywhere, the unknown limit for itself, the baselines where it matters."""
    ours = [scenario.name for scenario in ((*MAIN,) if main_only else (*MAIN, *OTHERS))]
    kinds = STEADY if main_only else tuple(KINDS)
    wanted = [Case(name, kind, OURS, seed) for name in ours for kind in kinds for seed in range(seeds)]
    wanted += [Case(UNKNOWN.name, kind, AUTO, seed) for kind in kinds for seed in range(seeds)]
    compared = [STATIC.name] if main_only else [scenario.name for scenario in MAIN]
    wanted += [
        Case(name, kind, client, seed)
        for name in compared
        for kind in kinds
        for client in BASELINES
        for seed in range(baseline_seeds)
    ]
    return wanted


def run(case: Case) -> Figures:
    scenario = SCENARIOS[case.scenario]
    world = scenario.against(case.server)
    return scenario.figures(Simulation(world, CLIENTS[case.client], case.seed).run(), world)


def run_all(wanted: Sequence[Case], *, processes: int = 2) -> Results:
    with ProcessPoolExecutor(processes) as pool:
        return dict(zip(wanted, pool.map(run, wanted, chunksize=4), strict=True))


def write_csv(results: Results, path: Path) -> None:
    names = sorted({name for figures in results.values() for name in figures})
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["scenario", "server", "client", "seed", *names])
        for case, figures in results.items():
            cells = [f"{figures[name]:.5g}" if name in figures else "" for name in names]
            rows.writerow([case.scenario, case.server, case.client, case.seed, *cells])


def seeds_of(results: Results, scenario: str, server: str, client: str, figure: str) -> list[float]:
    return [
        figures[figure]
        for case, figures in results.items()
        if (case.scenario, case.server, case.client) == (scenario, server, client)
    ]


def mean(values: Iterable[float]) -> float:
    return statistics.mean(values)


@dataclass(frozen=True, slots=True)
class Must:
    """One row of the promise: the worst server's mean over seeds, against a bound that it may touch."""

    quantity: str
    scenario: str
    client: str
    figure: str
    bound: float
    aim: float | None = None
    at_least: bool = False
    over: str = "mean"
    percent: bool = False
    all_kinds: bool = False

    def reached(self, results: Results) -> tuple[float, str]:
        """Return the worst server's value, and that server."""
        seen = {case.server for case in results if (case.scenario, case.client) == (self.scenario, self.client)}
        chosen = [kind for kind in (KINDS if self.all_kinds else STEADY) if kind in seen]
        over = {"mean": mean, "worst": min if self.at_least else max, "total": sum}[self.over]
        values = {kind: over(seeds_of(results, self.scenario, kind, self.client, self.figure)) for kind in chosen}
        worst = (min if self.at_least else max)(values, key=lambda kind: values[kind])
        return values[worst], worst

    def holds(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


MUST = (
    Must("goodput / limit, limit known", STATIC.name, OURS, "goodput", 0.965, 0.975, at_least=True, percent=True),
    Must("429 share on those", STATIC.name, OURS, "refused", 0.0005, 0.0, percent=True),
    Must("429 share on those, worst seed", STATIC.name, OURS, "refused", 0.002, 0.0, over="worst", percent=True),
    Must("requests in any 1 s on the wire", STATIC.name, OURS, "most in 1 s", 50, over="worst", all_kinds=True),
    Must("50→25→50: goodput", HALVED.name, OURS, "goodput", 0.93, 0.96, at_least=True, percent=True),
    Must("50→25→50: 429 share", HALVED.name, OURS, "refused", 0.01, 0.005, percent=True),
    Must("settled after halving, s", HALVED.name, OURS, "settled after", 2.0, 1.0),
    Must("back at 90 % after doubling, s", HALVED.name, OURS, "back after", 5.0, 3.0),
    Must("60 s of nothing but 429: wasted requests", BLOCKED.name, OURS, "wasted", 60, 35),
    Must("60 s of nothing but 429: back at 90 %, s", BLOCKED.name, OURS, "back after", 2.5, 2.0),
    Must("limit unknown: 90 % of it within, s", UNKNOWN.name, AUTO, "found after", 4.0, 2.5),
    Must("limit unknown: 429s in the first 5 s", UNKNOWN.name, AUTO, "429 in 5 s", 20, 10),
    Must("two clients: together", SHARED.name, OURS, "goodput", 0.92, at_least=True, percent=True),
    Must("two clients: 429 share", SHARED.name, OURS, "refused", 0.025, percent=True),
    Must("two clients: Jain index", SHARED.name, OURS, "jain", 0.97, at_least=True),
    Must(
        "sent before a stated wait ends",
        "50→25→50, Retry-After seconds",
        OURS,
        "early",
        0,
        over="total",
        all_kinds=True,
    ),
    Must("sent before a stated date", "50→25→50, Retry-After date", OURS, "early", 0, over="total", all_kinds=True),
)
