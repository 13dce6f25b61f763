"""The keyring is asked last, and its failures say what to do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from d3async.config import secret_sources
from d3async.config.credentials import CredentialKind, Secret
from d3async.config.settings import Settings
from d3async.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CANARY = "canary-7f3a9c51e2"
NEEDED = {"D3_BASE_URL": "https://d3.example.com/ce_site/VSOC", "D3_USERNAME": "svc", "D3_SITE": "Security Operations"}


def from_env(environ: Mapping[str, str], **options: object) -> Settings:
    """Settings of this environment alone, whatever config file the machine has."""
    return Settings.from_env({"D3_CONFIG": os.devnull, **environ}, **options)  # type: ignore[arg-type]


def refusal(environ: Mapping[str, str], **options: object) -> str:
    with pytest.raises(SettingsError) as caught:
        from_env(environ, **options)
    return caught.value.message


def test_what_login_stored_is_found_without_a_word_in_the_config(memory: Any, tmp_path: Path) -> None:
    secret_sources.store_in_keyring(
        secret_sources.entry_name("", CredentialKind.API_KEY, "CreateTask"), Secret("from-keyring"), tmp_path
    )
    (tmp_path / "config.toml").touch()

    best = from_env({**NEEDED, "D3_CONFIG": str(tmp_path / "config.toml")}, needs=["CreateTask"]).credentials.best(
        "CreateTask"
    )

    assert best.secret.reveal() == "from-keyring"
    assert "keyring" in best.origin


@pytest.mark.parametrize(
    ("environ", "needs", "asked"),
    [
        ({"D3_API_KEY_CREATE_TASK": "k"}, ["CreateTask"], 0),
        ({"D3_API_KEY": "k"}, ["CreateTask"], 0),
        ({"D3_API_KEY": "k"}, [], 0),
        ({"D3_API_KEY_GET_INCIDENTS": "k"}, ["GetIncidents"], 0),
        ({"D3_API_KEY_GET_INCIDENTS": "k"}, ["GetIncidents", "CreateTask"], 1),
        ({"D3_API_KEY_GET_INCIDENTS": "k"}, [], 1),
        ({}, ["CreateTask"], 1),
        ({}, [], 1),
    ],
)
def test_the_keyring_is_asked_only_when_no_other_source_has_the_key(
    memory: Any, tmp_path: Path, environ: dict[str, str], needs: list[str], asked: int
) -> None:
    secret_sources.store_in_keyring(
        secret_sources.entry_name("", CredentialKind.API_KEY, "CreateTask"), Secret("k"), tmp_path
    )
    (tmp_path / "config.toml").touch()

    from_env({**NEEDED, **environ, "D3_CONFIG": str(tmp_path / "config.toml")}, needs=needs)

    assert memory.asked == asked


def test_a_login_belongs_to_its_profile(memory: Any, config: Path) -> None:
    secret_sources.store_in_keyring(
        secret_sources.entry_name("other", CredentialKind.API_KEY, ""), Secret("k"), config.parent
    )

    refused = refusal({**NEEDED, "D3_PROFILE": "vsoc"}, config=config, needs=["GetIncidents"])
    settings = from_env({**NEEDED, "D3_PROFILE": "other"}, config=config, needs=["GetIncidents"])

    assert "VSOC_KEY" in refused
    assert settings.credentials.best("GetIncidents").secret.reveal() == "k"


def test_a_profile_may_name_a_keyring_entry(memory: Any, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[profiles.a.keys]\nCreateTask_keyring = 'team-create'\n")
    memory.kept["d3async", "team-create"] = "k"

    settings = from_env({**NEEDED, "D3_PROFILE": "a"}, config=tmp_path / "config.toml", needs=["CreateTask"])

    assert settings.credentials.best("CreateTask").secret.reveal() == "k"


@pytest.mark.parametrize(
    ("backend", "said"),
    [("no_keyring", "no keyring service"), ("broken_keyring", "KeyError"), ("memory", 'no entry "e"')],
)
def test_a_keyring_that_cannot_help_says_what_to_do(
    request: pytest.FixtureRequest, backend: str, said: str, tmp_path: Path
) -> None:
    request.getfixturevalue(backend)
    (tmp_path / "config.toml").write_text("[profiles.a]\napi_key_keyring = 'e'\n")

    message = refusal({**NEEDED, "D3_PROFILE": "a"}, config=tmp_path / "config.toml", needs=["CreateTask"])

    assert said in message
    assert CANARY not in message


def test_a_login_that_was_taken_out_is_off_the_list(memory: Any, tmp_path: Path) -> None:
    secret_sources.store_in_keyring("api_key", Secret("k"), tmp_path)

    assert secret_sources.keyring_logins(tmp_path) == {"api_key"}
    assert secret_sources.remove_from_keyring("api_key", tmp_path)
    assert not secret_sources.remove_from_keyring("api_key", tmp_path)
    assert secret_sources.keyring_logins(tmp_path) == frozenset()
    assert memory.kept == {}


@pytest.mark.parametrize("text", ["", "{", "3", '{"a": 1}', "[3, null]"])
def test_a_damaged_list_of_logins_is_an_empty_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "logins.json").write_text(text)

    assert secret_sources.keyring_logins(tmp_path) == frozenset()
