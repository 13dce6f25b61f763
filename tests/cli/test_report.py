"""`report`: the page again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from d3async.cli.main import cli, exit_code_of
from d3async.journal.sqlite.reader import FILE
from tests.journal.factory import every_outcome

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_only_the_page_is_written_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = every_outcome(tmp_path)
    assert exit_code_of(cli, ["report", str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == [FILE, "report.html"]
    assert str(folder / "report.html") in capsys.readouterr().err


def test_a_folder_without_a_journal_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(cli, ["report", str(tmp_path)]) == 2
    assert "is no run folder" in capsys.readouterr().err
