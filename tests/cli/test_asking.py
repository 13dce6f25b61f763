"""On a terminal a missing key is asked for, and what is typed does not appear."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pty = pytest.importorskip("pty", reason="terminals are POSIX")

CANARY = "canary-7f3a9c51e2"
NEEDED = {"D3_BASE_URL": "https://d3.example.com/x", "D3_USERNAME": "svc", "D3_SITE": "SOC", "D3_CONFIG": os.devnull}
ASK = """
from d3async.cli.options import settings_from
settings = settings_from({}, needs=["CreateTask"])
print("found", len(settings.credentials.best("CreateTask").secret.reveal()))
"""


def typed_at(arguments: list[str], text: str, **environ: str) -> str:
    """What a terminal shows when *text* is typed at the first question."""
    child, terminal = pty.fork()
    if child == 0:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        os.execve(sys.executable, [sys.executable, *arguments], {**kept, **NEEDED, **environ})
    shown = _until(terminal, b": ")
    os.write(terminal, text.encode() + b"\n")
    shown += _until(terminal, None)
    os.waitpid(child, 0)
    os.close(terminal)
    return shown.decode()


def _until(terminal: int, ending: bytes | None) -> bytes:
    shown = b""
    while ending is None or not shown.endswith(ending):
        try:
            piece = os.read(terminal, 4096)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    return shown


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_missing_key_is_asked_for_and_not_shown() -> None:
    shown = typed_at(["-c", ASK], CANARY)

    assert "Key for CreateTask: " in shown
    assert f"found {len(CANARY)}" in shown
    assert CANARY not in shown


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_other_things_that_are_missing_are_not_asked_for() -> None:
    shown = typed_at(["-c", ASK], CANARY, D3_SITE="")

    assert "D3_SITE is not set" in shown
    assert "Key for" not in shown


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_login_asks_and_does_not_show_what_is_typed(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.touch()
    login = "from d3async.cli.main import main; main()"

    shown = typed_at(
        ["-c", login, "login", "--command", "CreateTask"],
        CANARY,
        D3_CONFIG=str(config),
        PYTHON_KEYRING_BACKEND="keyring.backends.null.Keyring",
    )

    assert "key for CreateTask (not shown): " in shown
    assert "Kept in the keyring: key for CreateTask." in shown
    assert CANARY not in shown


RUN = """
import sys
from d3async.cli.main import main
sys.argv = ["d3async", *sys.argv[1:]]
main()
"""
TASK = "incident,name,description,assignee,due\n20270101-1,Call,Look,admin user,{due}\n"


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize(("typed", "created"), [("n", 1), ("y", 2)])
def test_rows_that_look_like_rows_sent_before_are_asked_about(
    tmp_path: Path, state_of_its_own: Path, typed: str, created: int
) -> None:
    from tests.end_to_end.ground import running

    file = tmp_path / "t.csv"
    file.write_text(TASK.format(due="2027-03-24 13:28:13"))
    with running(rate=None) as site:
        environ = {**site.env, "XDG_STATE_HOME": str(state_of_its_own)}
        typed_at(["-c", RUN, "run", str(file), "--progress", "none"], "y", **environ)
        file.write_text(TASK.format(due="2027-03-24 13:28:00"))
        shown = typed_at(["-c", RUN, "run", str(file), "--progress", "none"], f"{typed}\ny", **environ)

        assert "1 row looks like a row sent before" in shown
        assert "Send this row all the same? It may then be in D3 twice. [y/N]" in shown
        assert len(site.ledger()["tasks"]) == created


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_starting_anew_asks_first_and_then_not_again_about_the_same_rows(
    tmp_path: Path, state_of_its_own: Path
) -> None:
    from tests.end_to_end.ground import running

    file = tmp_path / "t.csv"
    file.write_text(TASK.format(due="2027-03-24 13:28:13"))
    with running(rate=None) as site:
        environ = {**site.env, "XDG_STATE_HOME": str(state_of_its_own)}
        typed_at(["-c", RUN, "run", str(file), "--progress", "none"], "y", **environ)
        fresh = ["-c", RUN, "run", str(file), "--progress", "none", "--fresh"]
        shown = typed_at(fresh, "n", **environ)
        assert "1 row was sent from" in shown
        assert "Start anew and send rows that are in the file again? [y/N]" in shown
        assert len(site.ledger()["tasks"]) == 1

        shown = typed_at(fresh, "y\ny", **environ)
        assert "look" not in shown
        assert len(site.ledger()["tasks"]) == 2
