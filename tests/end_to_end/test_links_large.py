"""Clean-ups of any shape: exact to the item, no source in flight twice, and memory that does not grow with the file."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.ground import running

SMALL, LARGE = 600, 50_000
_RUN = """
import sys
from pathlib import Path
from d3async.cli.main import cli, exit_code_of
code = exit_code_of(cli, sys.argv[1:])
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
sys.exit(code)
"""


def linked(n: int) -> str:
    return f"20260601-{n}"


def sorted_by_linked(count: int) -> Iterator[tuple[str, str]]:
    """Every row of another source than the one before: the worst for merging."""
    return ((f"20270101-{n % 100}", linked(n)) for n in range(count))


def one_cell(count: int) -> Iterator[tuple[str, str]]:
    yield "20270101-1", ";".join(map(linked, range(count)))


def one_source(count: int) -> Iterator[tuple[str, str]]:
    return (("20270101-1", linked(n)) for n in range(count))


def many_sources(count: int) -> Iterator[tuple[str, str]]:
    return ((f"20270101-{n}", linked(n)) for n in range(count))


SHAPES = {
    "sorted by linked": (sorted_by_linked, lambda n: 100 * -(-n // 5_000)),
    "one cell": (one_cell, lambda n: -(-n // 50)),
    "one source": (one_source, lambda n: -(-n // 50)),
    "many sources": (many_sources, lambda n: n),
}


def is_linked(number: str) -> bool:
    """Every seventh is not linked at all."""
    return int(number.rpartition("-")[2]) % 7 != 3


def clean_up(shape: str, count: int, tmp_path: Path) -> tuple[int, float]:
    """Run it, and see that the outcome of every item is right; requests, and the run's peak memory in MB."""
    rows, _ = SHAPES[shape]
    path = write(tmp_path / str(count), rows(count), lines=shape == "one cell")
    pairs = ((source, one) for source, cell in rows(count) for one in cell.split(";"))
    with running(links=(pair for pair in pairs if is_linked(pair[1])), rate=None, keep=False) as site:
        memory = run(path, site.env)
        summary = site.url.backend.ledger.summary()
        left = site.url.state.links.as_dict()

    assert left == {}
    assert summary["in_flight_max_per_source"] == 1
    assert summary["counts"]["links_removed"] == sum(is_linked(linked(n)) for n in range(count))
    check(path.with_suffix(".d3run"), count)
    return summary["counts"]["requests"], memory


def write(path: Path, rows: Iterable[tuple[str, str]], *, lines: bool) -> Path:
    """As CSV, or as JSON *lines*: a cell of CSV holds 128 kB at most."""
    path = path.with_suffix(".jsonl" if lines else ".csv")
    with path.open("w", newline="") as file:
        if lines:
            file.writelines(json.dumps({"source": source, "linked": cell.split(";")}) + "\n" for source, cell in rows)
        else:
            csv.writer(file).writerows([("source", "linked"), *rows])
    return path


def run(path: Path, env: dict[str, str]) -> float:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("D3_")}
    done = subprocess.run(
        [sys.executable, "-c", _RUN, "run", path.name, "--yes", "-q", "--rate", "100000"],
        env={**clean, "D3_CONFIG": os.devnull, **env},
        cwd=path.parent,
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    return int(done.stdout) / 1024


def check(folder: Path, count: int) -> None:
    with (folder / "items.csv").open(encoding="utf-8-sig", newline="") as file:
        items = 0
        for row in csv.DictReader(file):
            expected = ("ok", "") if is_linked(row["_item"]) else ("failed", "not_linked")
            assert (row["_outcome"], row["_code"]) == expected
            items += 1
    assert items == count
    for outcome, numbers, counts in results(folder):
        ok = sum(map(is_linked, numbers))
        assert outcome == ("ok" if ok == len(numbers) else "partial" if ok else "failed")
        assert counts == [ok, len(numbers) - ok, 0]


def results(folder: Path) -> Iterator[tuple[str, list[str], list[int]]]:
    """Of each row its outcome, its numbers, and how many of them were ok, failed, unknown."""
    if (folder / "results.jsonl").exists():
        for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            found = [item["outcome"] for item in row["items"]]
            yield row["outcome"], row["input"]["linked"], [found.count(kind) for kind in ("ok", "failed", "unknown")]
        return
    with (folder / "results.csv").open(encoding="utf-8-sig", newline="") as file:
        for line in csv.DictReader(file):
            counts = [int(line[f"_items_{kind}"]) for kind in ("ok", "failed", "unknown")]
            yield line["_outcome"], [line["linked"]], counts


@pytest.mark.parametrize("shape", SHAPES)
def test_a_clean_up_of_any_shape_is_exact(shape: str, tmp_path: Path) -> None:
    requests, _ = clean_up(shape, SMALL, tmp_path)

    assert requests == SHAPES[shape][1](SMALL)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("shape", SHAPES)
def test_a_clean_up_of_fifty_thousand_is_exact_and_takes_no_more_memory(shape: str, tmp_path: Path) -> None:
    _, small = clean_up(shape, SMALL, tmp_path)
    requests, large = clean_up(shape, LARGE, tmp_path)

    assert requests == SHAPES[shape][1](LARGE)
    # a cell of 50,000 numbers is held whole while its row is read and written
    assert large - small <= (60 if shape == "one cell" else 15), (small, large)
