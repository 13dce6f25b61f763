"""Runs ours and theirs in turns, takes medians, keeps the numbers as JSON and the table in README.md."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

HERE = Path(__file__).parent
RESULTS = HERE / "results"
_MARKS = ("<!-- table -->", "<!-- end of table -->")
T = TypeVar("T")


@dataclass(frozen=True)
class Scale:
    """How large a measurement is. *quick* proves that the benchmarks work; its figures are rough."""

    quick: bool
    rounds: int

    def of(self, whole: int, quick: int) -> int:
        """*whole*, or *quick* in a quick run."""
        return quick if self.quick else whole


@dataclass(frozen=True)
class Spent:
    """What a process took: seconds on the clock and of CPU, megabytes at its largest, what it printed."""

    wall: float
    cpu: float
    memory: float
    out: str


@dataclass
class Line:
    """One line of the table. *good* is None where nothing was promised; *spread* tells every ratio measured."""

    what: str
    against: str
    ours: str
    theirs: str
    ratio: float | None
    must: str
    aim: str
    good: bool | None
    spread: list[float] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)


def spend(command: Sequence[str], env: Mapping[str, str] | None = None, *, codes: tuple[int, ...] = (0,)) -> Spent:
    """Run *command* to its end. Raises RuntimeError, with what it said, where its exit code is none of *codes*."""
    # as of a program that is installed: what is imported is compiled once, not for each run
    env = {name: value for name, value in (env or os.environ).items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        before = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - before
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode not in codes:
            raise RuntimeError(f"{command} ended with {process.returncode}:\n{err.read().decode()[-4000:]}")
        text = out.read().decode()
    return Spent(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, text)


def alternate(ours: Callable[[], T], theirs: Callable[[], T], rounds: int) -> list[tuple[T, T]]:
    """Ours and theirs in turns, each first in every other round: what disturbs one disturbs the other."""
    pairs = []
    for number in range(rounds):
        if number % 2:
            other = theirs()
            pairs.append((ours(), other))
        else:
            mine = ours()
            pairs.append((mine, theirs()))
    return pairs


def ratios(pairs: Sequence[tuple[T, T]], of: Callable[[T], float]) -> list[float]:
    """Ours over theirs, a round each."""
    return [round(of(mine) / of(other), 4) for mine, other in pairs]


def median(values: Sequence[float]) -> float:
    """Of an even number of values the mean of the middle two."""
    return statistics.median(values)


def medians(pairs: Sequence[tuple[T, T]], of: Callable[[T], float]) -> tuple[float, float]:
    """Of ours and of theirs."""
    return median([of(mine) for mine, _ in pairs]), median([of(other) for _, other in pairs])


@contextmanager
def folder() -> Iterator[Path]:
    """A place for job files and run folders, gone afterwards; BENCHMARK_TMP says on which disk."""
    with tempfile.TemporaryDirectory(prefix="d3async-", dir=os.environ.get("BENCHMARK_TMP")) as name:
        yield Path(name)


def python(*arguments: object) -> list[str]:
    """A command line of this Python."""
    return [sys.executable, *map(str, arguments)]


def keep(name: str, lines: Sequence[Line], *, scale: Scale, seconds: float) -> None:
    """Write the JSON of one benchmark; of a quick run it is not for keeping."""
    told = {
        "name": name,
        "quick": scale.quick,
        "rounds": scale.rounds,
        "took_s": round(seconds, 1),
        "at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": machine(),
        "lines": [asdict(line) for line in lines],
    }
    place = Path(tempfile.gettempdir()) / "d3async-benchmarks" if scale.quick else RESULTS
    place.mkdir(exist_ok=True)
    (place / f"{name}.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def machine() -> str:
    """What it was measured on."""
    return f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, CPython {platform.python_version()}"


def shown(line: Line) -> str:
    """A row of the table."""
    ratio = "" if line.ratio is None else f"{line.ratio:.2f} x"
    good = {None: "", True: "yes", False: "**no**"}[line.good]
    cells = (line.what, line.against, line.ours, line.theirs, ratio, line.must, line.aim, good)
    return f"| {' | '.join(cells)} |"


HEAD = "| what | against | ours | theirs | ratio | must reach | aim at | reached |\n|---|---|---|---|---|---|---|---|"


def refresh(names: Sequence[str]) -> None:
    """Put the table of everything measured at full size into README.md."""
    rows = []
    for name in names:
        path = RESULTS / f"{name}.json"
        if path.exists():
            rows += [shown(Line(**line)) for line in json.loads(path.read_text(encoding="utf-8"))["lines"]]
    readme = HERE / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, rest = text.split(_MARKS[0])
    after = rest.split(_MARKS[1])[1]
    table = "\n".join([HEAD, *rows])
    readme.write_text(f"{before}{_MARKS[0]}\n{table}\n\n{machine()}.\n{_MARKS[1]}{after}", encoding="utf-8")
