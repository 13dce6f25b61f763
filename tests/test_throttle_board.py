"""The scoreboard of benchmarks/throttle in short: the same controller and promises, on a virtual clock."""

import pytest

from benchmarks.throttle import board
from benchmarks.throttle.board import MUST, OURS, Case, Must, Results
from benchmarks.throttle.scenarios import STATIC
from benchmarks.throttle.servers import KINDS, STEADY

SEEDS = 3
HARDEST = ("fixed window", "refusals count", "bucket L")


@pytest.fixture(scope="module")
def results() -> Results:
    wanted = {(must.scenario, must.client) for must in MUST}
    cases = [
        Case(scenario, kind, client, seed)
        for scenario, client in sorted(wanted)
        for kind in (STEADY if scenario == STATIC.name else HARDEST)
        for seed in range(1 if "Retry-After" in scenario else SEEDS)
    ]
    return {case: board.run(case) for case in cases}


@pytest.mark.parametrize("must", MUST, ids=lambda must: f"{must.quantity} on {must.scenario}")
def test_every_promise_holds_against_the_hardest_servers(results: Results, must: Must) -> None:
    value, kind = must.reached(results)

    assert must.holds(value), f"{kind}: {value}"


@pytest.mark.slow
@pytest.mark.parametrize("must", MUST, ids=lambda must: f"{must.quantity} on {must.scenario}")
def test_every_promise_holds_over_ten_seeds(must: Must) -> None:
    results = board.run_all([Case(must.scenario, kind, must.client, seed) for kind in KINDS for seed in range(10)])
    value, kind = must.reached(results)

    assert must.holds(value), f"{kind}: {value}"


def test_the_same_seed_gives_the_same_figures() -> None:
    case = Case(STATIC.name, "sliding log", OURS, 7)

    assert board.run(case) == board.run(case)
