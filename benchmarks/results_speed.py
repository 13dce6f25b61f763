"""Writing results must not become the slow part of a run: results.csv from a journal against csv.writer from memory.

    python -m benchmarks.results_speed [--rows 1000000] [--rounds 5] [--items]

Both write the same bytes: a header and one line a row, 12 columns of ours and the input's four. The comparison has its
rows ready in memory as lists of texts (100,000 of them, written over and over) and does nothing but `writerows`. Ours
runs in a process of its own, whose peak memory is told, and starts from the journal on disk.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from d3async.files.run_files import write_results
from d3async.files.source import Format
from d3async.journal.sqlite.reader import FILE, FolderReader
from d3async.journal.sqlite.schema import TABLES, VERSION

HEADER = ("incident", "name", "assignee", "due")
LINKS = ("source", "linked")
KEPT = 100_000
START = 1_796_144_400.0


def fill(folder: Path, rows: int, *, items: bool) -> None:
    """A journal of *rows* answered rows: 1 in 100 failed, 1 in 50 with quotes in the input."""
    header = LINKS if items else HEADER
    form = Format("csv", header_raw=",".join(header))
    meta = {"schema": VERSION, "rows": rows, "format": json.dumps(form.to_json()), "header": json.dumps(header)}
    with closing(sqlite3.connect(folder / FILE)) as db, db:
        db.executescript(TABLES)
        db.executemany("insert into meta values (?, ?)", [(key, str(value)) for key, value in meta.items()])
        db.executemany(
            "insert into job(id, row, line, identity, occurrence, command, label, params, raw, state, code, message,"
            " http, attempts, sent_at, done_at, epoch)"
            " values (?, ?, ?, ?, 0, 'CreateTask', ?, '{}', ?, ?, ?, ?, 200, 1, ?, ?, 1)",
            (_job(row, items=items) for row in range(1, rows + 1)),
        )
        if items:
            db.executemany(
                "insert into item(job, pos, name, fold, state) values (?, ?, ?, ?, 'ok')",
                ((row, pos, f"2021-{row + pos}", "") for row in range(1, rows + 1) for pos in range(3)),
            )


def _job(row: int, *, items: bool) -> tuple[object, ...]:
    label = f"20260125-{row}"
    name = f'"Call the ""user"" {row}, then write"' if row % 50 == 0 else f"Call the user {row} and note the answer"
    raw = f"{label},2021-{row};2021-{row + 1};2021-{row + 2}" if items else f"{label},{name},user{row % 41},2026-12-31"
    failed = row % 100 == 0 and not items
    words = ("failed", "command_error", f"Incident {label} does not exist.") if failed else ("ok", "", "")
    return (row, row, row + 1, row.to_bytes(8), label, raw, *words, START + row / 48, START + row / 48 + 0.21)


def ours(folder: Path) -> None:
    """One timed writing, in this process; prints seconds and peak memory."""
    before = time.perf_counter()
    with FolderReader(folder / FILE) as reader, (folder / "results.csv").open("wb") as file:
        write_results(file, reader, "csv")
    spent = time.perf_counter() - before
    print(json.dumps([spent, _peak_memory()]))


def _peak_memory() -> float:
    """In MB. `getrusage` would tell the parent's, which lasts through fork and exec."""
    told = Path("/proc/self/status").read_text(encoding="ascii")
    return int(told.split("VmHWM:")[1].split()[0]) / 1024


def theirs(folder: Path, kept: list[list[str]], rows: int) -> float:
    """csv.writer with the rows in memory, in seconds."""
    before = time.perf_counter()
    with (folder / "theirs.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows(itertools.islice(itertools.cycle(kept), rows + 1))
    return time.perf_counter() - before


def measure(folder: Path, rows: int, rounds: int) -> None:
    """Ours and theirs in turns; medians, their ratio, the peak memory of ours."""
    command = [sys.executable, "-m", "benchmarks.results_speed", "--one", str(folder)]
    pairs: list[tuple[float, float, float]] = []
    kept: list[list[str]] = []
    for _ in range(rounds):
        spent, memory = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        if not kept:
            with (folder / "results.csv").open(encoding="utf-8-sig", newline="") as file:
                kept = list(itertools.islice(csv.reader(file), min(KEPT, rows) + 1))
        pairs.append((spent, theirs(folder, kept, rows), memory))
    mine, other, memory = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(spent / compared for spent, compared, _ in pairs)
    print(f"{rows:,} rows: ours {mine:.2f} s, csv.writer {other:.2f} s, ratio {ratio:.2f}, peak memory {memory:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--items", action="store_true", help="rows with three items each")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        ours(given.one)
        return
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), given.rows, items=given.items)
        measure(Path(folder), given.rows, given.rounds)


if __name__ == "__main__":
    main()
