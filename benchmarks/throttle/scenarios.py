"""What happens to a client: each scenario is a world and the figures that matter in it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks.throttle import measures
from benchmarks.throttle.clients import LIMIT
from benchmarks.throttle.servers import KINDS
from benchmarks.throttle.virtual import Trace, World

Figures = dict[str, float]
WARM_UP = 5.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """*seconds* of traffic; *figures* are taken from the trace and the world."""

    name: str
    world: World
    figures: Callable[[Trace, World], Figures]

    def against(self, kind: str) -> World:
        return replace(self.world, server=lambda dice: KINDS[kind](LIMIT, dice))


def _world(seconds: float, **options: object) -> World:
    return World(lambda dice: KINDS["fixed window"](LIMIT, dice), seconds, **options)  # type: ignore[arg-type]


def _limit(world: World) -> Callable[[float], float]:
    return world.limit_at or (lambda _: LIMIT)


def _common(trace: Trace, world: World) -> Figures:
    return {
        "goodput": measures.goodput(trace, _limit(world), WARM_UP, world.seconds),
        "refused": measures.refused_share(trace),
        "most in 1 s": max(measures.most_in_a_second(sent) for sent in trace.sent),
        "early": trace.early,
    }


def _first_seconds(trace: Trace, world: World) -> Figures:
    return _common(trace, world) | {
        "found after": measures.back_after(trace, 0.0, LIMIT, window=1.0),
        "429 in 5 s": measures.refusals(trace, 0.0, 5.0),
    }


def _steps(trace: Trace, world: World) -> Figures:
    return _common(trace, world) | {
        "settled after": measures.settled_after(trace, 60.0),
        "back after": measures.back_after(trace, 120.0, LIMIT),
        "429 in 10 s": measures.refusals(trace, 60.0, 70.0),
    }


def _after_block(trace: Trace, world: World) -> Figures:
    start, end = world.blocks[0]
    return {
        "wasted": measures.refusals(trace, start, end),
        "back after": measures.back_after(trace, end, LIMIT),
        "early": trace.early,
    }


def _shared(trace: Trace, world: World) -> Figures:
    clients, start, end = len(world.joins), world.seconds - 60.0, world.seconds
    return {
        "goodput": measures.goodput(trace, _limit(world), start, end),
        "refused": measures.refused_share(trace, start, end),
        "jain": measures.jain(trace, clients, start, end),
    }


def _halved(at: float) -> float:
    return 25.0 if 60.0 <= at < 120.0 else 50.0


def _sinusoid(at: float) -> float:
    return 35.0 * (1 + 0.4 * math.sin(2 * math.pi * at / 40.0))


def _block(seconds: float) -> Scenario:
    world = _world(60.0 + seconds, blocks=((30.0, 30.0 + seconds),))
    return Scenario(f"block {seconds:g} s", world, _after_block)


def _several(clients: int) -> Scenario:
    every = 30.0 if clients == 2 else 5.0
    return Scenario(f"{clients} clients", _world(120.0, joins=tuple(every * n for n in range(clients))), _shared)


STATIC = Scenario("static", _world(125.0), _common)
HALVED = Scenario("50→25→50", _world(180.0, limit_at=_halved), _steps)
BLOCKED = _block(60.0)
SHARED = _several(2)
UNKNOWN = Scenario("limit unknown", _world(65.0), _first_seconds)
MAIN = (STATIC, HALVED, BLOCKED, SHARED)
OTHERS = (
    *(Scenario(f"static, jitter {ms} ms", _world(125.0, jitter=ms / 1000), _common) for ms in (0, 10, 30)),
    *(
        Scenario(f"static, Retry-After {form}", _world(125.0, retry_after=form), _common)
        for form in ("seconds", "date")
    ),
    *(
        Scenario(f"50→25→50, Retry-After {form}", _world(180.0, limit_at=_halved, retry_after=form), _steps)
        for form in ("seconds", "date")
    ),
    Scenario("sinusoid", _world(125.0, limit_at=_sinusoid), _common),
    _block(10.0),
    _block(300.0),
    _several(4),
    _several(8),
    Scenario("loop busy 30 of 100 ms", _world(65.0, lag=(0.03, 0.1)), _common),
    Scenario("freeze 20 s", _world(80.0, freezes=((30.0, 50.0),)), _common),
)
