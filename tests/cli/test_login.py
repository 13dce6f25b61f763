"""login and logout: a key goes into the system keyring and out again, and is never shown."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

import keyring
import keyring.backend
import keyring.errors
import pytest

from d3async.cli.main import cli, exit_code_of
from d3async.config.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CANARY = "canary-7f3a9c51e2"
NEEDED = {"D3_BASE_URL": "https://d3.example.com/x", "D3_USERNAME": "svc", "D3_SITE": "SOC"}


class MemoryKeyring(keyring.backend.KeyringBackend):
    """A keyring that forgets."""

    priority = 1.0  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


class NoKeyring(MemoryKeyring):
    def set_password(self, service: str, username: str, password: str) -> None:
        raise keyring.errors.NoKeyringError(f"No recommended backend was available for {password}.")


@pytest.fixture
def memory() -> Iterator[MemoryKeyring]:
    before = keyring.get_keyring()
    backend = MemoryKeyring()
    keyring.set_keyring(backend)
    yield backend
    keyring.set_keyring(before)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config file of this test's own, and no D3 variables."""
    for name in [name for name in os.environ if name.startswith("D3_")]:
        monkeypatch.delenv(name)
    path = tmp_path / "folder" / "config.toml"
    path.parent.mkdir()
    path.write_text("[profiles.vsoc]\n[profiles.team.keys]\nCreateTask_keyring = 'team-create'\n")
    monkeypatch.setenv("D3_CONFIG", str(path))
    return path


@pytest.fixture
def say_to(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def run(*arguments: str, text: str = f"{CANARY}\n") -> int:
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        return exit_code_of(cli, list(arguments))

    return run


@pytest.mark.parametrize(
    ("arguments", "entry"),
    [
        ([], "api_key"),
        (["--command", "CreateTask"], "api_key/createtask"),
        (["--command", "create-task"], "api_key/createtask"),
        (["--kind", "jwt-secret"], "jwt_secret"),
        (["--profile", "vsoc", "--command", "CreateTask"], "vsoc/api_key/createtask"),
        (["--profile", "team", "--command", "CreateTask"], "team-create"),
        (["--profile", "team"], "team/api_key"),
    ],
)
@pytest.mark.usefixtures("config")
def test_login_stores_under_profile_kind_and_command(
    memory: MemoryKeyring, say_to: Callable[..., int], arguments: list[str], entry: str
) -> None:
    assert say_to("login", "--stdin", *arguments) == 0
    assert memory.kept == {("d3async", entry): CANARY}


@pytest.mark.parametrize("profile", [None, "vsoc", "team"])
@pytest.mark.usefixtures("memory")
def test_what_login_stored_is_what_a_run_finds(config: Path, say_to: Callable[..., int], profile: str | None) -> None:
    chosen = ["--profile", profile] if profile else []
    say_to("login", "--stdin", "--command", "CreateTask", *chosen)

    settings = Settings.from_env(NEEDED, config=config, profile=profile, needs=["CreateTask"])

    assert settings.credentials.best("CreateTask").secret.reveal() == CANARY


def test_logout_takes_it_out_again_and_twice_is_no_error(
    memory: MemoryKeyring, config: Path, say_to: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    say_to("login", "--stdin", "--command", "CreateTask")

    assert say_to("logout", "--command", "CreateTask") == 0
    assert memory.kept == {}
    assert say_to("logout", "--command", "CreateTask") == 0
    assert "does not have it" in capsys.readouterr().err
    assert (config.parent / "logins.json").read_text() == "[]"


@pytest.mark.usefixtures("config")
def test_logout_all_takes_out_all_that_login_stored_and_nothing_else(
    memory: MemoryKeyring, say_to: Callable[..., int]
) -> None:
    memory.kept["other-program", "x"] = "y"
    say_to("login", "--stdin")
    say_to("login", "--stdin", "--profile", "vsoc", "--command", "CreateTask")

    assert say_to("logout", "--all") == 0
    assert memory.kept == {("other-program", "x"): "y"}


@pytest.mark.parametrize(
    ("arguments", "text", "said"),
    [
        (["--stdin"], "", "is empty"),
        (["--stdin"], " \n", "is empty"),
        (["--stdin"], f"{CANARY}\n{CANARY}", "character"),
        (["--stdin"], f"\u201c{CANARY}\u201d", "character"),
        ([], CANARY, "give --stdin"),
        (["--stdin", "--profile", "none"], CANARY, 'no profile "none"'),
        (["--stdin", "--kind", "password"], CANARY, "--kind"),
    ],
)
@pytest.mark.usefixtures("config")
def test_login_refuses_what_is_no_key_and_never_shows_it(
    memory: MemoryKeyring,
    say_to: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    text: str,
    said: str,
) -> None:
    assert say_to("login", *arguments, text=text) == 2

    shown = capsys.readouterr()
    assert said in shown.err
    assert CANARY not in shown.err + shown.out
    assert memory.kept == {}


@pytest.mark.usefixtures("config", "memory")
def test_without_a_keyring_service_login_says_what_to_do_instead(
    say_to: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    keyring.set_keyring(NoKeyring())

    assert say_to("login", "--stdin") == 2

    shown = capsys.readouterr().err
    assert "no keyring service" in shown
    assert "D3_API_KEY_FILE" in shown
    assert CANARY not in shown


@pytest.mark.usefixtures("config", "memory")
def test_without_the_extra_login_names_what_to_install(
    say_to: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)

    assert say_to("login", "--stdin") == 2
    assert "pip install 'd3async[keyring]'" in capsys.readouterr().err


@pytest.mark.usefixtures("config", "memory")
def test_login_says_when_a_variable_comes_first(
    say_to: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D3_API_KEY_CREATE_TASK", "another")

    say_to("login", "--stdin", "--command", "CreateTask")

    shown = capsys.readouterr()
    assert "D3_API_KEY_CREATE_TASK is set here, and comes first" in shown.err
    assert shown.out == ""
