"""Which source wins, where a value came from, and what a config file may say."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

import pytest

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


def test_option_beats_environment_beats_profile_beats_default(config: Path) -> None:
    environ = {"D3_CONFIG": str(config), "D3_USERNAME": "from-env", "D3_RATE": "30"}

    settings = Settings.from_env(environ, rate=40, concurrency=None)

    assert (settings.rate, settings.username, settings.site) == (40.0, "from-env", "Profile Site")
    assert settings.profile == "vsoc"
    assert settings.ca_bundle == config.parent / "ca.pem"
    assert settings.origins["rate"] == "option --rate"
    assert settings.origins["username"] == "environment D3_USERNAME"
    assert settings.origins["timeout"] == f"profile vsoc in {config}"
    assert settings.origins["concurrency"] == "default"
    assert set(settings.origins) == {field.name for field in dataclasses.fields(Settings)} - {
        "profile",
        "credentials",
        "origins",
    }


@pytest.mark.parametrize(
    ("environ", "options", "rate"),
    [
        ({}, {}, 20.0),
        ({"D3_PROFILE": "other"}, {}, None),
        ({"D3_PROFILE": "other"}, {"profile": "vsoc"}, 20.0),
        ({}, {"profile": "other"}, None),
    ],
)
def test_the_profile_is_option_then_environment_then_default(
    config: Path, environ: dict[str, str], options: dict[str, str], rate: float | None
) -> None:
    assert Settings.from_env({**NEEDED, **environ}, config=config, **options).rate == rate  # type: ignore[arg-type]


def test_an_unknown_profile_lists_the_known_ones(config: Path) -> None:
    assert "(it has: vsoc, other)" in refusal(NEEDED, config=config, profile="vsok")


def test_a_config_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    assert "nowhere.toml cannot be read" in refusal({**NEEDED, "D3_CONFIG": str(tmp_path / "nowhere.toml")})


def test_without_a_config_file_nothing_is_missed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    assert Settings.from_env(NEEDED).profile is None


def test_a_profile_asked_for_without_a_file_says_where_the_file_would_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(SettingsError, match=r"config\.toml cannot be read"):
        Settings.from_env({**NEEDED, "D3_PROFILE": "vsoc"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[profiles.a]\nusrname = 'x'", 'has no setting "usrname"; did you mean "username"?'),
        ("[profiles.a]\napikey_env = 'x'", 'did you mean "api_key_env"?'),
        ("[profile.a]\nusername = 'x'", 'has no setting "profile"; did you mean "profiles"?'),
        ("default-profile = 'a'\n[profiles.a]\n", 'did you mean "default_profile"?'),
        ("profiles = 3", "must be tables"),
        ("profiles.a = 3", "a must be a table"),
        ("[profiles.a]\nkeys = 'x'", "keys must be a table"),
        ("[profiles.a.keys]\nCreateTask_env = 3", "keys.CreateTask_env must be text"),
        ("[profiles.a]\napi_key_env = 3", "api_key_env must be text"),
        ("[profiles.a]\napi_key_env = 'X'\napi_key_file = 'x'", "say the same thing"),
        ("[profiles.a.keys]\nCreateTask_env = 'X'\ncreate_task_file = 'x'", "say the same thing"),
        ("[profiles.a\n", "no valid TOML (at line 1"),
        (f"[profiles.a]\napi_key = {CANARY}", "no valid TOML (at line 2"),
        ("default_profile = 'b'\n[profiles.a]\n", 'no profile "b"'),
    ],
)
def test_a_config_file_with_a_slip_says_which(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)

    message = refusal(NEEDED, config=path)

    assert said in message
    assert CANARY not in message


def test_a_wrong_value_in_a_profile_names_profile_and_file(config: Path) -> None:
    config.write_text("[profiles.a]\nrate = 'fast'\n")

    assert f"rate of profile a in {config}" in refusal(NEEDED, config=config, profile="a")


def test_a_value_of_the_wrong_type_in_a_profile_is_refused(config: Path) -> None:
    config.write_text("[profiles.a]\nsite = 2026-01-01\nrate = true\nconcurrency = [3]\n")
    message = refusal({"D3_BASE_URL": "https://h/x", "D3_USERNAME": "u"}, config=str(config), profile="a")

    assert [line.split()[0] for line in message.splitlines()] == ["site", "rate", "concurrency"]


def test_everything_missing_and_wrong_is_in_one_message() -> None:
    message = refusal({"D3_BASEURL": "x", "D3_RATE": "fast"}, needs=["CreateTask", "GetIncidents"])

    for part in (
        "D3_BASE_URL is not set",
        "--base-url",
        "D3_BASEURL is set; was D3_BASE_URL meant?",
        "D3_USERNAME is not set",
        "--username",
        "D3_SITE is not set",
        "--site",
        "D3_RATE",
        "D3_API_KEY_CREATE_TASK",
        "D3_API_KEY_GET_INCIDENTS",
        "--api-key-file",
        "d3async login --command CreateTask",
    ):
        assert part in message


def test_an_option_that_does_not_exist_is_a_programming_error() -> None:
    with pytest.raises(TypeError, match="ratte"):
        from_env(NEEDED, ratte=3)
