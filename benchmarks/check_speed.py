"""Is `check` worth its time? Against the least that does the same validation: csv.reader and pydantic in a loop.

Both run alternating, in processes of their own, on the same file of made-up tasks. The ratio is of processor seconds,
0.8 is the bound. Memory is the peak of each process, and what 1,000,000 rows need above 10,000.

    python benchmarks/check_speed.py [ROWS]
"""

import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from d3async.cli.main import cli, exit_code_of
from d3async.d3.commands import Reading, find
from d3async.jobs.dates import due_reader

ROUNDS = 5
SMALL = 10_000
HEADER = ["Incident Number", "Task Name", "Task Type", "Task Description", "Assignee", "Due Date", "Required"]


def write_tasks(path: Path, rows: int) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for row in range(rows):
            writer.writerow(
                [
                    f"202601{row % 28 + 1:02}-{row % 9973}",
                    f"Call user {row}",
                    "Default",
                    f"Ask, whether the sign-in {row} from abroad was theirs.",
                    f"analyst {row % 41}",
                    f"2099-{row % 12 + 1:02}-{row % 28 + 1:02} 17:00:00",
                    "Yes" if row % 3 else "No",
                ]
            )


def bare(path: Path) -> int:
    command = find("CreateTask")
    fields = list(command.model_fields)
    reading = Reading(due_reader())
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        next(rows)
        count = 0
        for row in rows:
            command.model_validate(dict(zip(fields, row, strict=True)), context=reading)
            count += 1
    return count


def check(path: Path) -> int:
    return exit_code_of(cli, ["check", str(path)])


def measured(what: str, path: Path) -> dict[str, float]:
    """Processor seconds and peak memory of *what* in a process of its own, imports left out of the time."""
    done = subprocess.run(
        [sys.executable, __file__, "--only", what, str(path)],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    return json.loads(done.stdout)


def only(what: str, path: Path) -> None:
    run = {"bare": bare, "check": check}[what]
    warm = path.with_name("small.csv")
    run(warm)
    started = time.process_time()
    run(path)
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mib": peak}))


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder, "small.csv"), Path(folder, "large.csv")
        write_tasks(small, SMALL)
        write_tasks(large, rows)
        size = f"{rows:,} rows, {large.stat().st_size / 1e6:.0f} MB"
        print(f"{size}; Python {sys.version.split()[0]}, {os.cpu_count()} cores")
        rounds = [(measured("bare", large), measured("check", large)) for _ in range(ROUNDS)]
        for least, ours in rounds:
            print(
                f"bare {rows / least['seconds']:>9,.0f} rows/s {least['peak_mib']:6.1f} MiB"
                f"   check {rows / ours['seconds']:>9,.0f} rows/s {ours['peak_mib']:6.1f} MiB"
                f"   ratio {least['seconds'] / ours['seconds']:.2f}"
            )
        # on a machine shared with others the fastest rounds say most
        best, mine = (min(pair[side]["seconds"] for pair in rounds) for side in (0, 1))
        middle = statistics.median(least["seconds"] / ours["seconds"] for least, ours in rounds)
        base = measured("check", small)["peak_mib"]
        above = f"memory above {SMALL:,} rows {rounds[-1][1]['peak_mib'] - base:.1f} MiB"
        print(f"ratio of the fastest rounds {best / mine:.2f}, median {middle:.2f}; {above}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--only"]:
        only(sys.argv[2], Path(sys.argv[3]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
