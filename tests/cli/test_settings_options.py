"""The options of commands that talk to D3: they reach the settings, and none takes a secret."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner

from d3async.cli.options import settings_from, settings_options
from d3async.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from d3async.config.settings import Settings

NEEDED = ["--base-url", "https://d3.example.com/x/api/Command", "--username", "svc", "--site", "SOC"]


@click.command()
@settings_options
@click.option("--other", is_flag=True)
def probe(*, options: Mapping[str, Any], other: bool) -> Settings:
    """Give back the settings."""
    assert other
    return settings_from(options, needs=["CreateTask"])


def settings(*arguments: str, **environ: str) -> Settings:
    runner = CliRunner(env={"D3_CONFIG": os.devnull, **environ})
    with runner.isolation(env=runner.env):
        result: Settings = probe.main([*NEEDED, "--other", *arguments], standalone_mode=False)
    return result


def test_options_reach_the_settings_and_beat_the_environment(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k-from-file\n")
    (tmp_path / "ca.pem").touch()

    found = settings(
        *("--rate", "auto", "--concurrency", "8", "--timeout", "90s", "--max-attempts", "2", "--max-wait", "1m"),
        *("--api-key-header", "X-Key", "--jwt-lifetime", "1h", "--ca-bundle", str(tmp_path / "ca.pem")),
        *("--api-key-file", str(tmp_path / "key")),
        D3_RATE="20",
        D3_SITE="elsewhere",
    )

    assert found.base_url == "https://d3.example.com/x"
    assert (found.rate, found.concurrency, found.timeout, found.max_attempts, found.max_wait) == (None, 8, 90, 2, 60)
    assert (found.api_key_header, found.jwt_lifetime, found.ca_bundle) == ("X-Key", 3600, tmp_path / "ca.pem")
    assert found.origins["rate"] == "option --rate"
    best = found.credentials.best("CreateTask")
    assert best
    assert best.secret.reveal() == "k-from-file"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rate", "fast"], "--rate is no rate"),
        (["--base-url", "http://d3.example.com"], "--base-url is http://"),
        (["--api-key-file", "/nowhere"], "--api-key-file: the file /nowhere cannot be read"),
        (["--profile", "none"], 'no profile "none"'),
        ([], "D3_API_KEY_CREATE_TASK"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(arguments: list[str], said: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(said)):
        settings(*arguments)


def test_no_option_takes_a_secret_as_its_value() -> None:
    secretive = [name for option in probe.params for name in option.opts if re.search("key|jwt|secret|token", name)]

    assert set(secretive) == {
        "--api-key-header",
        "--api-key-file",
        "--jwt-file",
        "--jwt-secret-file",
        "--jwt-lifetime",
        "--client-key",
    }


def test_every_setting_has_its_option() -> None:
    from d3async.config.setting_fields import SETTINGS

    assert {setting.option for setting in SETTINGS} <= {name for option in probe.params for name in option.opts}
