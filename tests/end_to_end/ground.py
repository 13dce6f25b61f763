"""The command line against a sandbox on a real socket, as a user runs it."""

import asyncio
import csv
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d3async.sandbox import serve


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


@dataclass
class Ran:
    code: int
    out: str
    err: str


Cli = Callable[..., Ran]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def summary_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())
