"""What several tests of the settings need: a profile, and keyrings that stay in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import keyring
import keyring.backend
import keyring.errors
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


CANARY = "canary-7f3a9c51e2"
T = TypeVar("T", bound="MemoryKeyring")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(
        """
        default_profile = "vsoc"
        [profiles.vsoc]
        base_url = "https://profile.example.com/x"
        username = "from-profile"
        site = "Profile Site"
        rate = 20
        timeout = "90s"
        ca_bundle = "ca.pem"
        api_key_env = "VSOC_KEY"
        [profiles.vsoc.keys]
        CreateTask_env = "VSOC_CREATE"
        remove_linked_incidents_file = "remove.key"
        [profiles.other]
        rate = "auto"
        """,
        "utf-8",
    )
    (tmp_path / "ca.pem").touch()
    (tmp_path / "remove.key").write_text("remove-from-file\n")
    return path


class MemoryKeyring(keyring.backend.KeyringBackend):
    """A keyring that forgets, and counts how often it was asked."""

    priority = 1.0  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.asked = 0

    def get_password(self, service: str, username: str) -> str | None:
        self.asked += 1
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


class BrokenKeyring(MemoryKeyring):
    """A keyring that fails with the secret in its text."""

    def set_password(self, service: str, username: str, password: str) -> None:
        raise keyring.errors.PasswordSetError(f"cannot keep {password}")

    def get_password(self, service: str, username: str) -> str | None:
        raise KeyError(CANARY)


class NoKeyring(MemoryKeyring):
    def get_password(self, service: str, username: str) -> str | None:
        raise keyring.errors.NoKeyringError("No recommended backend was available.")


@pytest.fixture
def memory() -> Iterator[MemoryKeyring]:
    yield from _in_use(MemoryKeyring())


@pytest.fixture
def broken_keyring() -> Iterator[BrokenKeyring]:
    yield from _in_use(BrokenKeyring())


@pytest.fixture
def no_keyring() -> Iterator[NoKeyring]:
    yield from _in_use(NoKeyring())


def _in_use(backend: T) -> Iterator[T]:
    before = keyring.get_keyring()
    keyring.set_keyring(backend)
    yield backend
    keyring.set_keyring(before)
