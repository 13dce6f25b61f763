"""The command line against a sandbox on a real socket, as a user runs it."""

import asyncio
import csv
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from d3async.sandbox import serve
from d3async.sandbox.samples import SEED, read_links, sample


@dataclass
class Site:
    """A sandbox that runs in a thread, and the environment that leads to it."""

    url: Any
    env: dict[str, str]

    def ledger(self) -> dict[str, Any]:
        return self.url.ledger()


@contextmanager
def running(**options: Any) -> Iterator[Site]:
    loop = asyncio.new_event_loop()
    up, over = threading.Event(), asyncio.Event()
    found: list[Any] = []

    async def main() -> None:
        async with serve(**options) as url:
            found.append(url)
            up.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    assert up.wait(20)
    try:
        yield Site(found[0], dict(found[0].env))
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(20)
        loop.close()


@pytest.fixture
def d3() -> Iterator[Site]:
    """A sandbox with the samples' links, fast enough not to be waited for."""
    with running(links=read_links(sample(SEED)), rate=None) as site:
        yield site


@dataclass
class Ran:
    code: int
    out: str
    err: str


Cli = Callable[..., Ran]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """`cli("run", "tasks.csv", env=…)` as a user types it, in a folder of its own."""

    def run(*args: object, env: dict[str, str] | None = None, stdin: bytes = b"", timeout: float = 60) -> Ran:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("D3_")}
        done = subprocess.run(
            [sys.executable, "-m", "d3async", *map(str, args)],
            env={**clean, "D3_CONFIG": os.devnull, "D3_RATE": "2000", **(env or {})},
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        ran = Ran(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in ran.err, ran.err
        return ran

    return run


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def summary_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())
