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
from d3async.cli.settings_options import settings_from
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
