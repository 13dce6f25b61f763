"""The command line against a sandbox on a real socket, as a user runs it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from d3async.sandbox.state import SEED, read_links, sample
from tests.end_to_end.ground import Cli, Ran, Site, running


@pytest.fixture
def d3() -> Iterator[Site]:
    """A sandbox with the samples' links, fast enough not to be waited for."""
    with running(links=read_links(sample(SEED)), rate=None) as site:
        yield site


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
