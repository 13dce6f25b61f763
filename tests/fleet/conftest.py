"""Command lines in the test's own process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from d3async.cli.main import cli, exit_code_of
from tests.fleet.ground import Fleet, Ran

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """For `Fleet.typed`: what a user would have typed in the fleet's folder, with its environment."""

    def run(found: Fleet, *arguments: object) -> Ran:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(found.folder)
        code = exit_code_of(cli, list(map(str, arguments)))
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return run
