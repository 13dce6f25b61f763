"""`d3async template`: what it writes can be checked and run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from d3async.cli.main import cli, exit_code_of
from d3async.d3.commands import all_commands

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", all_commands())
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_template_of_every_command_passes_check(
    name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D3_CONFIG", os.devnull)
    path = tmp_path / f"jobs.{kind}"

    assert exit_code_of(cli, ["template", name, "--format", kind, "-o", str(path)]) == 0
    assert exit_code_of(cli, ["check", str(path)]) == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["remove-linked-incidents"], "source,linked\n20231025-130,20210127-198;20210127-197\n"),
        (
            ["REMOVE_LINKED_INCIDENTS", "--format", "jsonl"],
            '{"source": "20231025-130", "linked": ["20210127-198", "20210127-197"]}\n',
        ),
        (
            ["remove-linked-incidents", "--profile", "vsoc", "--profile", "apac"],
            (
                "source,linked,profile\n20231025-130,20210127-198;20210127-197,vsoc\n"
                "20231025-130,20210127-198;20210127-197,apac\n"
            ),
        ),
    ],
)
def test_names_are_taken_in_any_case(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(cli, ["template", *arguments]) == 0
    assert capsys.readouterr().out == text


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "jobs.csv"
    path.write_text("mine")

    assert exit_code_of(cli, ["template", "create-task", "-o", str(path)]) == 2
    assert path.read_text() == "mine"
    assert f"{path} cannot be written: file exists" in capsys.readouterr().err


def test_an_unknown_command_is_answered_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(cli, ["template", "close-incident"]) == 2
    assert '"close-incident" is none of CreateTask, RemoveLinkedIncidents' in capsys.readouterr().err
