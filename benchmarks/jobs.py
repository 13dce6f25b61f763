"""The work every benchmark does: job files, the very bodies they become, and `d3async run` over them."""

from __future__ import annotations

import atexit
import csv
import json
import os
import shutil
import tempfile
from functools import cache
from typing import TYPE_CHECKING

from benchmarks.harness import Spent, python, spend

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEADER = ("incident", "name", "type", "description", "assignee", "due", "required")
PARAMETERS = (
    "Incident Number", "Task Name", "Task Type", "Task Description", "Assignee", "Due Date", "Required",
)  # fmt: skip
USER, SITE = "bench", "Security Operations"
UNLIMITED = 100_000


def rows(count: int) -> Iterator[tuple[str, ...]]:
    """CreateTask rows, no two alike; every tenth has text that CSV must quote and JSON must escape."""
    for row in range(1, count + 1):
        name = f'Call the "user" {row}, then write' if row % 10 == 0 else f"Call the user {row} and note the answer"
        yield (
            f"20260125-{row // 5 + 1}", name, "Default",
            "Ask whether the sign-in from abroad was theirs; text block 4, schöne Grüße from the handbook.",
            f"user{row % 41}", f"2099-01-{row % 28 + 1:02} 11:{row % 60:02}:00", "Yes" if row % 3 else "No",
        )  # fmt: skip


def write_tasks(path: Path, count: int) -> Path:
    """A job file of *count* rows."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows(rows(count))
    return path


def write_bodies(path: Path, count: int) -> Path:
    """What these rows are on the wire, a line each."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows(count):
            params = dict(zip(PARAMETERS, row, strict=True))
            body = {"Username": USER, "Site": SITE, "CommandParams": params}
            file.write(json.dumps(body, ensure_ascii=False, separators=(",", ":")) + "\n")
    return path


@cache
def _state() -> str:
    """A state folder for this measurement, gone when it is over."""
    place = tempfile.mkdtemp(prefix="d3async-state-")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


def environment(url: str, **more: str) -> dict[str, str]:
    """Settings that lead to *url*, and neither settings nor a state folder of the caller's."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("D3_")}
    return {
        **clean, "XDG_STATE_HOME": _state(),
        "D3_BASE_URL": url, "D3_USERNAME": USER, "D3_SITE": SITE, "D3_API_KEY": "bench-key-of-nobody",
        **more,
    }  # fmt: skip


def run(file: Path, url: str, *options: object, out: Path | None = None, fresh: bool = True) -> Spent:
    """`d3async run FILE` as a user types it, in a new run folder or, not *fresh*, in the one that is there."""
    target = out or file.with_suffix(".d3run")
    if fresh:
        shutil.rmtree(target, ignore_errors=True)
        options = (*options, "--allow-similar", "all")
    return spend(command(file, *options, out=target), environment(url))


def command(file: Path, *options: object, out: Path | None = None) -> list[str]:
    """`d3async run FILE` as `run` types it."""
    target = out or file.with_suffix(".d3run")
    return python("-m", "d3async", "run", file, "-o", target, "--yes", "--progress", "none", *options)
