"""The command line where only what it says and does counts, not its memory: without starting an interpreter."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from d3async.cli.main import cli, exit_code_of
from tests.hostile.ground import Ran

Told = Callable[..., Ran]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Told:
    """`told(folder, "run", "tasks.csv", env=…)`; its `peak` is 0."""

    def run(folder: Path, *words: str, env: dict[str, str] | None = None) -> Ran:
        with monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("D3_")]:
                patch.delenv(name)
            for name, value in {"D3_CONFIG": os.devnull, "D3_RATE": "2000", **(env or {})}.items():
                patch.setenv(name, value)
            patch.chdir(folder)
            patch.setattr(sys, "argv", ["d3async", *words])
            code = exit_code_of(cli, list(words))
        said = capsysbinary.readouterr()
        assert b"Traceback" not in said.err, said.err.decode(errors="replace")
        return Ran(code, said.out, said.err, 0.0)

    return run
