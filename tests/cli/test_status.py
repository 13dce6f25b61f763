"""`status`: where a run folder stands, who runs it, what to type next."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from contextlib import contextmanager
from os import getpid
from typing import TYPE_CHECKING, Any

import pytest

from d3async.cli.main import cli, exit_code_of
from d3async.cli.result_text import folder_lines
from d3async.files.run_files import write_again
from d3async.journal.sqlite.folder_lock import is_held
from d3async.journal.sqlite.reader import FILE, FolderReader
from d3async.journal.sqlite.run_folder import open_folder
from d3async.operations.status import folder_json, status_of
from tests.journal.factory import START, Entry, Told, every_outcome, long_run, make, unsent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


BY_HAND = (
    "to settle look for 4 rows in D3 and write down what became of them: d3async settle --help; with a key for D3's"
    " log, d3async reconcile looks them up"
)


def status(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    assert exit_code_of(cli, ["status", *map(str, args)]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    return told.out


def gone() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def owner(pid: int, host: str | None = None) -> dict[str, Any]:
    return {"pid": pid, "host": host or socket.gethostname(), "since": START}


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """*folder* held by another process."""
    holding = "import pathlib, sys\nfrom d3async.journal.sqlite.folder_lock import take\n"
    holding += "kept = take(pathlib.Path(sys.argv[1])); print(flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", holding, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield
    finally:
        process.communicate()


def going(folder: Path, **meta: Any) -> Path:
    """A run under way: 40 rows answered over four seconds, 2 in flight, 58 to send."""
    entries = [Entry("1,a,b,c", done_at=START + at / 10) for at in range(40)]
    entries += [Entry("1,a,b,c", "sent", done_at=None, todo=1)] * 2
    entries += [unsent("1,a,b,c", todo=1)] * 58
    return make(folder, entries, runs=(Told(finished_at=None, exit_code=None),), owner=owner(getpid()), **meta)


def test_a_finished_run_tells_counts_causes_files_and_the_next_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = long_run(tmp_path / "tasks.d3run", 1_000)
    (tmp_path / "tasks.csv").touch()
    write_again(folder)
    assert status(capsys, folder).splitlines() == [
        'tasks.csv: 1,000 rows, CreateTask at d3.example.com, site "Security Operations"',
        "ended 2026-12-01 17:00:18 UTC, exit code 5",
        "870 ok · 25 failed · 4 unknown · 1 invalid · 100 not sent",
        "  16 x Incident … does not exist.",
        "  9 x Assignee <script>alert('d3')</script> is not a user",
        "  4 x no answer within 60 s",
        "  1 x assignee is empty",
        f"results   {folder}/results.csv      report  {folder}/report.html",
        f"look up   {folder}/unknown.csv",
        f"to go on  d3async run {folder.parent}/tasks.csv --continue",
        BY_HAND,
        f"to mend   {folder}/failed.csv: mend its rows, then run that file; or mend tasks.csv and run it again",
    ]


def test_rows_in_flight_are_told_apart_while_a_run_goes_on(tmp_path: Path) -> None:
    with FolderReader(going(tmp_path) / FILE) as reader:
        words = folder_lines(status_of(reader, now=START + 4, running=True))
    assert words[1].endswith("58 to send, 9.8 rows/s, about 6 s left")
    assert words[2] == "40 ok · 58 not sent · 2 in flight"
    assert not [line for line in words if line.startswith(("to go on", "next", "to settle"))]


def test_the_rate_is_that_of_the_last_half_minute(tmp_path: Path) -> None:
    with FolderReader(going(tmp_path) / FILE) as reader:
        assert status_of(reader, now=START + 4, running=True).rate == pytest.approx(39 / 4)
        assert status_of(reader, now=START + 31.95, running=True).rate == pytest.approx(20 / 30)
        assert status_of(reader, now=START + 60, running=True).rate == 0
        assert status_of(reader, now=START + 60, running=False).rate is None


def test_a_run_that_was_cut_short_says_so_and_what_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "tasks.d3run"
    (tmp_path / "tasks.csv").touch()
    begun = Told({"log_keys": [None]}, finished_at=None, exit_code=None)
    make(folder, [Entry("1,a,b,c", "sent", done_at=None), unsent("2,a,b,c")], owner=owner(gone()), runs=(begun,))
    told = status(capsys, folder)
    assert "cut short: pid" in told
    assert "1 unknown · 1 not sent" in told
    assert f"to go on  d3async run {tmp_path}/tasks.csv --continue\n" in told
    assert f"to settle d3async reconcile {folder}" in told
    assert f"results   none yet; to write them: d3async results {folder}" in told


@pytest.mark.parametrize("host", [None, "another-host"])
def test_whether_a_run_goes_on_is_seen_by_the_lock_on_whatever_host_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], host: str | None
) -> None:
    """Process 1 runs here; that it is said to be the owner means nothing."""
    folder = make(tmp_path / "tasks.d3run", [unsent("1,a,b,c")], owner=owner(1, host))
    with held(folder):
        assert json.loads(status(capsys, folder, "--json"))["running"] is True
        assert "running: pid 1 on" in status(capsys, folder)
    told = status(capsys, folder)
    assert "cut short: pid 1 on" in told
    assert "put tasks.csv back where it was, then run it again" in told


def test_to_look_never_keeps_a_run_from_starting(tmp_path: Path) -> None:
    looking = "import pathlib, sys, time\nfrom d3async.journal.sqlite.folder_lock import is_held\nprint(flush=True)\n"
    looking += "while True: is_held(pathlib.Path(sys.argv[1]))"
    open_folder(tmp_path / "a").close()
    with subprocess.Popen([sys.executable, "-c", looking, tmp_path / "a"], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            for _ in range(200):
                open_folder(tmp_path / "a").close()
        finally:
            process.kill()


def test_to_look_makes_nothing(tmp_path: Path) -> None:
    assert is_held(tmp_path) is False
    assert is_held(tmp_path / "nowhere") is False
    assert not list(tmp_path.iterdir())


def test_json_has_the_same_for_programs_and_outcomes_add_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with held(going(tmp_path)):
        told = json.loads(status(capsys, tmp_path, "--json"))
    assert sum(told["outcomes"].values()) == told["input"]["rows"] == 100
    assert (told["in_flight"], told["to_send"], told["running"], told["next"]) == (2, 58, True, [])
    assert told["owner"] == {"pid": getpid(), "host": socket.gethostname(), "since": "2026-12-01T17:00:00.000Z"}


def test_json_names_causes_and_files(tmp_path: Path) -> None:
    folder = every_outcome(tmp_path)
    write_again(folder)
    with FolderReader(folder / FILE) as reader:
        told = folder_json(status_of(reader, now=START, running=False))
    assert told["causes"][0]["count"] == 1
    assert told["failed"] == str(folder / "failed.csv")
    assert told["vanished"] == 1


def test_nothing_in_a_message_steers_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(tmp_path, [Entry("a", "failed", "x", "\x1b]0;taken\x07\u202eback")], site="\x1b[2J")
    told = status(capsys, folder)
    assert "\x1b" not in told
    assert "\u202e" not in told


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("nowhere", r"There is no .*nowhere; here is .*tasks\.d3run"),
        ("tasks.csv", r"tasks\.csv is a job file; its run folder is .*tasks\.d3run"),
        ("other.csv", r"other\.csv is a file, and has no run folder yet: d3async run"),
        ("tasks", r"its run folder is .*tasks\.d3run"),
        ("empty", r"empty is no run folder: it has no journal\.sqlite; `d3async run FILE` makes"),
        (".", r"is no run folder: .*; here is .*tasks\.d3run"),
        ("tasks.d3run/journal.sqlite", r"give the folder, .*tasks\.d3run"),
    ],
)
def test_what_is_no_run_folder_is_told_with_the_one_that_may_be_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str, expected: str
) -> None:
    every_outcome(tmp_path / "tasks.d3run")
    (tmp_path / "empty").mkdir()
    for name in ("tasks.csv", "other.csv"):
        (tmp_path / name).touch()
    assert exit_code_of(cli, ["status", str(tmp_path / given)]) == 2
    error = capsys.readouterr().err.replace("\n", " ")
    assert re.search(expected, error), error
