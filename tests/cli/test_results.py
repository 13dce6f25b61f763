"""`results`: the folder's files again, or a selection; data on stdout and nothing else there."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from d3async.cli.main import cli, exit_code_of
from d3async.journal.sqlite.reader import FILE
from tests.journal.factory import Told, every_outcome, long_run, make, unsent

if TYPE_CHECKING:
    from pathlib import Path


def results(*args: object) -> int:
    return exit_code_of(cli, ["results", *map(str, args)])


def test_without_options_every_file_of_the_folder_is_written_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make(tmp_path, [unsent("1,a,b,c")], runs=(Told({"requests": 0, "exit_code": 5}),))
    assert results(folder) == 0
    assert sorted(path.name for path in folder.iterdir()) == [FILE, "report.html", "results.csv", "summary.json"]
    told = capsys.readouterr()
    assert told.out == ""
    assert str(folder / "results.csv") in told.err


def test_a_format_alone_writes_into_the_folder(tmp_path: Path) -> None:
    folder = every_outcome(tmp_path)
    assert results(folder, "--format", "json") == 0
    assert len(json.loads((folder / "results.json").read_text())) == 6


def test_a_selection_goes_to_stdout_without_bom_and_leaves_the_folder_alone(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    folder = every_outcome(tmp_path)
    assert results(folder, "--outcome", "failed,unknown") == 0
    told = capsysbinary.readouterr()
    rows = list(csv.DictReader(io.StringIO(told.out.decode("utf-8"), newline="")))
    assert [row["_row"] for row in rows] == ["2", "3", "6"]
    assert told.err == b""
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_outcomes_can_be_given_one_by_one_in_any_case(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    results(every_outcome(tmp_path), "--outcome", "OK", "--outcome", " invalid", "--format", "jsonl")
    lines = capsysbinary.readouterr().out.splitlines()
    assert [json.loads(line)["outcome"] for line in lines] == ["ok", "invalid"]


@pytest.mark.parametrize(("name", "first"), [("x.csv", "_row,"), ("x.jsonl", '{"row": 1'), ("x.json", "[\n{")])
def test_a_named_file_is_written_in_the_format_of_its_ending(tmp_path: Path, name: str, first: str) -> None:
    folder = every_outcome(tmp_path / "run")
    assert results(folder, "-o", tmp_path / name) == 0
    assert (tmp_path / name).read_text(encoding="utf-8").startswith(first)
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_the_journal_is_never_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = every_outcome(tmp_path)
    before = (folder / FILE).read_bytes()
    assert results(folder, "-o", folder / FILE) == 2
    assert "the journal itself" in capsys.readouterr().err
    assert (folder / FILE).read_bytes() == before


def test_an_outcome_that_is_none_is_named_with_those_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert results(every_outcome(tmp_path), "--outcome", "failed,bad") == 2
    assert "'bad' is none of ok, partial, failed, unknown, invalid, unsent" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    folder = long_run(tmp_path, 3_000)
    come, go = os.pipe()
    os.close(come)
    process = subprocess.run(
        [sys.executable, "-c", "from d3async.cli.main import main; main()", "results", str(folder), "-o", "-"],
        stdout=go,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(go)
    assert process.stderr == b""
    assert process.returncode == 141
