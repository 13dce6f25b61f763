"""A tool that is typed must answer at once: the start of the command line and of the library.

Against the interpreter itself, and against the two packages that any client of this kind imports.
"""

from __future__ import annotations

import shutil
import sys
from functools import partial
from pathlib import Path

from benchmarks.harness import Line, Scale, Spent, alternate, median, medians, python, ratios, spend


def measure(scale: Scale) -> list[Line]:
    rounds = max(scale.rounds, scale.of(21, 3))
    script = shutil.which("d3async", path=str(Path(sys.executable).parent)) or shutil.which("d3async")
    tool = [script] if script else python("-m", "d3async")
    return [
        _pair("`d3async --help`", [*tool, "--help"], "`python -c pass`", "pass", 5.0, 4.0, rounds),
        _pair(
            "`import d3async`", python("-c", "import d3async"),
            "`import aiohttp, pydantic`", "import aiohttp, pydantic", 1.15, 1.05, rounds,
        ),
        _pair(
            "`from d3async import D3Client, Settings`", python("-c", "from d3async import D3Client, Settings"),
            "`import aiohttp, pydantic`", "import aiohttp, pydantic", None, None, rounds,
        ),
    ]  # fmt: skip


def _pair(  # noqa: PLR0917 - a row of the table
    what: str, ours: list[str], against: str, theirs: str, must: float | None, aim: float | None, rounds: int
) -> Line:
    spend(ours), spend(python("-c", theirs))
    pairs = alternate(partial(spend, ours), partial(spend, python("-c", theirs)), rounds)
    mine, other = (1000 * value for value in medians(pairs, _wall))
    spread = ratios(pairs, _wall)
    # of the medians rather than the rounds: starts are short, and one hiccup makes a round meaningless
    ratio = mine / other
    cpu = median([spent.cpu for spent, _ in pairs]) / median([spent.cpu for _, spent in pairs])
    return Line(
        what, against, f"{mine:.0f} ms", f"{other:.0f} ms", ratio,
        "" if must is None else f"<= {must:g} x", "" if aim is None else f"{aim:g} x",
        None if must is None else ratio <= must, spread, {"ratio_of_cpu": round(cpu, 3)},
    )  # fmt: skip


def _wall(spent: Spent) -> float:
    return spent.wall
