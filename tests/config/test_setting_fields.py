"""How the text of a setting is read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from d3async.config.setting_fields import seconds
from d3async.config.settings import Settings
from d3async.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SITE = "https://d3.example.com/ce_site/VSOC"
NEEDED = {"D3_BASE_URL": "https://d3.example.com/ce_site/VSOC", "D3_USERNAME": "svc", "D3_SITE": "Security Operations"}


def from_env(environ: Mapping[str, str], **options: object) -> Settings:
    """Settings of this environment alone, whatever config file the machine has."""
    return Settings.from_env({"D3_CONFIG": os.devnull, **environ}, **options)  # type: ignore[arg-type]


def refusal(environ: Mapping[str, str], **options: object) -> str:
    with pytest.raises(SettingsError) as caught:
        from_env(environ, **options)
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", 30.0),
        ("2m", 120.0),
        ("1h30m", 5400.0),
        ("500ms", 0.5),
        ("1m500ms", 60.5),
        ("1.5h", 5400.0),
        ("1d", 86400.0),
        (" 2M ", 120.0),
        ("45", 45.0),
        ("0.25", 0.25),
        (7, 7.0),
        (2.5, 2.5),
        ("0", 0.0),
    ],
)
def test_a_duration_is_seconds(text: object, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize(
    "text", ["", "soon", "5 minutes", "2x", "m", "1h 30m", "nan", "inf", "1e999", True, "s30", "\uff13s"]
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        seconds(text)


@pytest.mark.parametrize(
    ("name", "text", "field", "expected"),
    [
        ("D3_RATE", "45", "rate", 45.0),
        ("D3_RATE", "0.5", "rate", 0.5),
        ("D3_RATE", "Auto", "rate", None),
        ("D3_CONCURRENCY", "8", "concurrency", 8),
        ("D3_TIMEOUT", "2m", "timeout", 120.0),
        ("D3_MAX_ATTEMPTS", "1", "max_attempts", 1),
        ("D3_MAX_WAIT", "0", "max_wait", 0.0),
        ("D3_API_KEY_HEADER", "X-Key", "api_key_header", "X-Key"),
        ("D3_JWT_LIFETIME", "1h", "jwt_lifetime", 3600.0),
        ("D3_SITE", "  Büro Süd ", "site", "Büro Süd"),
        ("D3_RATE", "  ", "rate", 50.0),
    ],
)
def test_a_variable_sets_its_field(name: str, text: str, field: str, expected: object) -> None:
    assert getattr(from_env({**NEEDED, name: text}), field) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("D3_RATE", "fast"),
        ("D3_RATE", "0"),
        ("D3_RATE", "-1"),
        ("D3_RATE", "nan"),
        ("D3_RATE", "inf"),
        ("D3_CONCURRENCY", "0"),
        ("D3_CONCURRENCY", "2.5"),
        ("D3_CONCURRENCY", "many"),
        ("D3_TIMEOUT", "0"),
        ("D3_TIMEOUT", "-5"),
        ("D3_MAX_ATTEMPTS", "0"),
        ("D3_MAX_WAIT", "-1s"),
        ("D3_JWT_LIFETIME", "9"),
        ("D3_API_KEY_HEADER", "two words"),
        ("D3_API_KEY_HEADER", "key:"),
        ("D3_API_KEY_HEADER", "x\r\ny"),
        ("D3_API_KEY_HEADER", "Content-Type"),
        ("D3_API_KEY_HEADER", "Host"),
        ("D3_USERNAME", "a\x1b[31m"),
        ("D3_CA_BUNDLE", "/nowhere/ca.pem"),
        ("D3_CLIENT_CERT", "/nowhere/cert.pem"),
    ],
)
def test_a_value_that_cannot_be_used_names_its_variable(name: str, text: str) -> None:
    assert refusal({**NEEDED, name: text}).startswith(f"{name} ")


def test_a_setting_given_directly_is_held_to_the_same_rules() -> None:
    with pytest.raises(SettingsError, match=r"base_url is http.*; rate must be above 0"):
        Settings(base_url="http://d3.example.com", username="u", site="s", rate=0)


def test_settings_given_directly_are_cleaned() -> None:
    assert Settings(base_url=f"{SITE}/api/Command/CreateTask", username=" u", site="s").base_url == SITE


def test_a_client_key_without_its_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key.pem").touch()

    assert "D3_CLIENT_CERT" in refusal({**NEEDED, "D3_CLIENT_KEY": str(tmp_path / "key.pem")})
