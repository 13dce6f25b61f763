"""A profile that rows name is complete in itself: what is meant for one D3 never reaches another."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from d3async.config import secret_sources
from d3async.config.credentials import Secret
from d3async.config.settings import Profiles, Settings
from d3async.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

CANARY = "canary-7f3a9c51e2"
FULL = """
default_profile = "vsoc"
[profiles.vsoc]
base_url = "https://vsoc.example.com/ce_site/VSOC"
username = "svc-vsoc"
site = "VSOC"
rate = 20
api_key_env = "VSOC_KEY"
[profiles."APAC SOC"]
base_url = "https://apac.example.com/ce_site/APAC"
username = "svc-apac"
site = "APAC"
api_key_env = "APAC_KEY"
timeout = "90s"
[profiles.bare]
"""
KEYS = {"VSOC_KEY": "of vsoc", "APAC_KEY": "of apac"}
NEEDS = ("CreateTask",)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(FULL)
    return path


def profiles(config: Path, environ: dict[str, str] | None = None, **options: Any) -> Profiles:
    return Profiles({**KEYS, **(environ or {})}, config=config, **options)


def refusal(found: Profiles, name: str, needs: tuple[str, ...] = NEEDS) -> str:
    with pytest.raises(SettingsError) as caught:
        found.settings(name, needs)
    return caught.value.message


OF_ONE_D3 = {
    "D3_BASE_URL": "https://env.example.com/s",
    "D3_USERNAME": "env",
    "D3_SITE": "Env",
    "D3_API_KEY": CANARY,
    "D3_API_KEY_CREATE_TASK": CANARY,
    "D3_JWT": CANARY,
    "D3_JWT_SECRET": CANARY,
    "D3_API_KEY_HEADER": "x-env",
    "D3_CLIENT_CERT": "/no/such/file",
}


def test_neither_variables_nor_options_for_one_d3_reach_a_profile_of_rows(config: Path) -> None:
    alone = profiles(config).settings("vsoc", NEEDS)
    found = profiles(
        config,
        {**OF_ONE_D3, "D3_PROFILE": "APAC SOC"},
        base_url="https://option.example.com/s",
        username="option",
        site="Option",
        api_key_header="x-option",
        api_key=CANARY,
        jwt_secret_file=config,
    ).settings("vsoc", NEEDS)

    assert found == alone
    assert found.credentials.entries == alone.credentials.entries
    assert [entry.secret.reveal() for entry in found.credentials.entries] == ["of vsoc"]
    assert (found.base_url, found.username, found.site) == ("https://vsoc.example.com/ce_site/VSOC", "svc-vsoc", "VSOC")


@pytest.mark.parametrize(
    ("name", "environ", "options", "rate", "origin"),
    [
        ("vsoc", {"D3_RATE": "7"}, {"rate": 5}, 5, "option --rate"),
        ("vsoc", {"D3_RATE": "7"}, {}, 20, "profile vsoc in "),
        ("APAC SOC", {"D3_RATE": "7"}, {}, 7, "environment D3_RATE"),
        ("APAC SOC", {}, {}, 50, "default"),
    ],
)
def test_how_fast_comes_from_the_option_then_the_profile_then_the_environment(
    config: Path, name: str, environ: dict[str, str], options: dict[str, Any], rate: float, origin: str
) -> None:
    """The other way round than for the run itself, where the environment comes before the profile."""
    found = profiles(config, environ, **options).settings(name, NEEDS)
    assert (found.rate, found.origins["rate"].startswith(origin)) == (rate, True)


def test_the_run_itself_still_asks_the_environment_first(config: Path) -> None:
    found = Settings.from_env({**KEYS, "D3_RATE": "7"}, config=config)
    assert (found.profile, found.rate) == ("vsoc", 7)


def test_a_profile_that_is_not_complete_says_all_it_lacks_at_once(config: Path) -> None:
    told = refusal(profiles(config, OF_ONE_D3), "bare").splitlines()
    assert [line.partition(" has no ")[2] for line in told] == ["base_url", "username", "site", "key for CreateTask"]


def test_a_variable_a_profile_names_must_be_set(config: Path) -> None:
    assert "the environment variable VSOC_KEY is not set" in refusal(Profiles({}, config=config), "vsoc")


@pytest.mark.parametrize(
    ("name", "like"), [("vsok", "vsoc"), ("VSOC", "vsoc"), ("apac-soc", "APAC SOC"), ("nothing at all", "")]
)
def test_a_name_that_is_none_has_one_that_was_perhaps_meant(config: Path, name: str, like: str) -> None:
    found = profiles(config)
    assert not found.has(name)
    assert found.like(name) == like
    assert f'no profile "{name}"' in refusal(found, name)


def test_a_name_with_a_control_character_is_no_profile_even_where_the_file_has_it(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[profiles."a\\u001eb"]\n')
    assert not profiles(path).has("a\x1eb")


def test_without_a_file_there_is_no_profile_and_with_a_broken_one_that_is_said(tmp_path: Path) -> None:
    nowhere = Profiles({"D3_CONFIG": os.devnull})
    assert (nowhere.has("vsoc"), nowhere.like("vsoc")) == (False, "")
    (tmp_path / "config.toml").write_text("[profiles.x]\ntypo = 1\n")
    with pytest.raises(SettingsError, match="no setting"):
        profiles(tmp_path / "config.toml").has("x")


@pytest.mark.usefixtures("memory")
def test_what_login_stored_for_a_profile_is_used_by_its_rows_alone(config: Path) -> None:
    config.write_text(FULL.replace('api_key_env = "VSOC_KEY"\n', "").replace("[profiles.bare]", BARE))
    secret_sources.store_in_keyring("vsoc/api_key/createtask", Secret("stored"), config.parent)
    found = profiles(config)
    assert [one.secret.reveal() for one in found.settings("vsoc", NEEDS).credentials.entries] == ["stored"]
    assert "has no key for CreateTask" in refusal(found, "bare")


BARE = """[profiles.bare]
base_url = "https://bare.example.com/s"
username = "u"
site = "s"
"""


def test_no_secret_of_another_profile_is_in_the_settings_of_one(config: Path) -> None:
    found = profiles(config).settings("APAC SOC", NEEDS)
    assert "of vsoc" not in repr([entry.secret.reveal() for entry in found.credentials.entries])
    assert "of apac" not in repr(found)
