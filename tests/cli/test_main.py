"""What any command line answers: version, a mistyped command, a defect of ours, completion."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import pytest

from d3async.cli.main import ABOUT, cli, exit_code_of


@click.command()
def broken() -> None:
    raise LookupError("with s3cr3t in it")


def test_a_defect_is_one_line_without_its_text_and_exit_70(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("D3_DEBUG", raising=False)
    assert exit_code_of(broken, []) == 70
    said = capsys.readouterr().err
    assert said.startswith("d3async: internal error: LookupError in d3async.cli.main, line ")
    assert said.count("\n") == 1
    assert "s3cr3t" not in said


def test_with_d3_debug_a_defect_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D3_DEBUG", "1")
    with pytest.raises(LookupError):
        exit_code_of(broken, [])


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("runn", 'd3async: There is no command "runn". Did you mean run?\nhelp: d3async --help\n'),
        ("stauts", 'd3async: There is no command "stauts". Did you mean status?\nhelp: d3async --help\n'),
        ("xyzzy", 'd3async: There is no command "xyzzy".\nhelp: d3async --help\n'),
    ],
)
def test_a_mistyped_command_names_the_one_that_was_meant(
    capsys: pytest.CaptureFixture[str], typed: str, said: str
) -> None:
    assert exit_code_of(cli, [typed]) == 2
    assert capsys.readouterr().err == said


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(cli, []) == 2
    said = capsys.readouterr().err
    assert said.startswith("Usage: d3async")
    assert all(f"  {name} " in said for name in ABOUT)


def test_the_version_has_a_short_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(cli, ["-V"]) == exit_code_of(cli, ["--version"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_a_completion_script_is_data_and_where_it_goes_is_not(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    assert exit_code_of(cli, ["completion", shell]) == 0
    printed = capsys.readouterr()
    assert f"{shell}_complete" in printed.out
    assert "_D3ASYNC_COMPLETE" in printed.out
    assert "%(" not in printed.out
    assert printed.err.startswith("To load it in every new shell: ")


@pytest.mark.parametrize(
    ("words", "word", "found"),
    [
        ("d3async re", "re", ["results", "report", "reconcile"]),
        ("d3async run --skip", "--skip", ["--skip-invalid"]),
        ("d3async run --progress ", "", ["auto", "bar", "plain", "json", "none"]),
        ("d3async xyz", "xyz", []),
    ],
)
def test_powershell_gets_one_candidate_a_line(words: str, word: str, found: list[str]) -> None:
    asked = {"_D3ASYNC_COMPLETE": "powershell_complete", "COMP_WORDS": words, "COMP_CWORD": word}
    done = subprocess.run(
        [sys.executable, "-c", "from d3async.cli.main import main; main()"],
        env={**os.environ, **asked}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == found
