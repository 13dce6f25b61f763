"""Why a chunk ended, and what follows from it: a pure decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from d3async.sansio.retry import Stop


@dataclass(frozen=True, slots=True)
class Done:
    """The chunk has no more work, or it is somebody else's now."""


@dataclass(frozen=True, slots=True)
class Again:
    """The chunk is taken again after *wait* seconds; *code* and *message* say why. *counts*: as a try in vain."""

    wait: float
    code: str
    message: str
    counts: bool = True


@dataclass(frozen=True, slots=True)
class GiveUp:
    """What is left of the chunk stays unsent, and *code* and *message* say why."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class StopRun:
    """A halt rule was reached: nothing more of the run is started."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Bounds:
    """How often a chunk is taken in vain: *first* seconds until the next time, doubled up to *most*, *tries* times."""

    first: float
    most: float
    tries: int

    def wait(self, tries: int) -> float:
        """Seconds to wait after *tries* in vain."""
        return float(min(self.first * 2.0 ** min(tries - 1, 20), self.most))


BOUNDS = {
    "crashed": Bounds(1, 30, 8),
    "unauthorized": Bounds(60, 300, 24),
    "settings": Bounds(30, 300, 24),
    "throttled": Bounds(60, 300, 100),
    "unreachable": Bounds(15, 300, 100),
}
"""By the code of the stop. In all: defects two minutes, a wrong key or setting two hours, a D3 that is away eight."""
_UNCOUNTED = {"journal": 2.0, "terminated": 0.0, "interrupted": 0.0}
"""Nothing that the chunk is to blame for: seconds until it may be taken again."""


def what_next(stop: Stop | None, tries: int) -> Done | Again | GiveUp | StopRun:
    """What follows from *stop*, given how often in a row the chunk was taken without finishing a row, this time too."""
    if stop is None or stop.code in {"fenced", "cancelled"}:
        return Done()
    if stop.code == "halt":
        return StopRun("halt", stop.message)
    if stop.code in _UNCOUNTED:
        return Again(_UNCOUNTED[stop.code], stop.code, stop.message, counts=False)
    bounds = BOUNDS.get(stop.code, BOUNDS["crashed"])
    if tries >= bounds.tries:
        return GiveUp(stop.code, f"given up after {tries} tries: {stop.message}")
    wait = max(bounds.wait(tries), stop.retry_after or 0.0)
    return Again(wait, stop.code, stop.message)
