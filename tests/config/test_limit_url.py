"""The URL of the limit's database comes from anywhere, and is shown nowhere."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import pickle
from typing import TYPE_CHECKING

import pytest
from rich.pretty import pretty_repr

from d3async.config.database_urls import LimitUrl
from d3async.config.settings import Settings
from d3async.engine.delivery import connect, host_limiter
from d3async.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CANARY = "canary-7f3a9c51e2"
URL = f"postgresql://svc:{CANARY}@db.example.com:5433/limits?sslmode=require&password={CANARY}"
SHOWN = "postgresql://db.example.com:5433/limits"
NEEDED = {"D3_BASE_URL": "https://d3.example.com/ce_site/VSOC", "D3_USERNAME": "svc", "D3_SITE": "Security Operations"}


def from_env(environ: Mapping[str, str], **options: object) -> Settings:
    """Settings of this environment alone, whatever config file the machine has."""
    return Settings.from_env({"D3_CONFIG": os.devnull, **NEEDED, **environ}, **options)  # type: ignore[arg-type]


def url_of(settings: Settings) -> str:
    return settings.limit_url.reveal() if settings.limit_url else ""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "limit.url"
    path.write_text(f"{URL}\n")
    return path


def test_without_one_nothing_is_shared_with_other_machines() -> None:
    settings = from_env({})

    assert settings.limit_url is None
    assert settings.share_limit
    assert settings.public()["limit_url"] is None
    assert connect(settings).limiter.numbers.members == 1


def test_a_variable_a_file_an_option_and_an_argument_say_it(file: Path) -> None:
    found = [
        from_env({"D3_LIMIT_URL": URL}),
        from_env({"D3_LIMIT_URL_FILE": str(file)}),
        from_env({"D3_LIMIT_URL": "postgresql://other/x"}, limit_url_file=file),
        from_env({"D3_LIMIT_URL": "postgresql://other/x"}, limit_url=URL),
        Settings(base_url=NEEDED["D3_BASE_URL"], username="u", site="s", limit_url=URL),  # type: ignore[arg-type]
    ]

    assert [url_of(settings) for settings in found] == [URL] * 5
    assert [settings.origins.get("limit_url") for settings in found] == [
        "environment D3_LIMIT_URL",
        "environment D3_LIMIT_URL_FILE",
        "option --limit-url-file",
        "option --limit-url",
        None,
    ]


@pytest.mark.parametrize("line", ["limit_url_file = 'limit.url'", "limit_url_env = 'MY_URL'", f"limit_url = '{URL}'"])
def test_a_profile_says_it(file: Path, line: str) -> None:
    config = file.parent / "config.toml"
    config.write_text(f"[profiles.a]\n{line}\nshare_limit = false\n")
    config.chmod(0o600)

    settings = from_env({"MY_URL": URL}, config=config, profile="a")

    assert url_of(settings) == URL
    assert not settings.share_limit
    assert settings.origins["limit_url"] == f"{line.split(maxsplit=1)[0]} of profile a in {config}"


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps no such bits")
def test_a_password_in_a_config_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f"[profiles.a]\nlimit_url = '{URL}'\n")
    config.chmod(0o644)
    with pytest.raises(SettingsError, match="others may read it"):
        from_env({}, config=config, profile="a")
    config.write_text("[profiles.a]\nlimit_url = 'postgresql://db.example.com/limits'\n")

    assert from_env({}, config=config, profile="a").limit_url


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"D3_LIMIT_URL": f"mysql://u:{CANARY}@h/x"}, "D3_LIMIT_URL is no database that can share a limit"),
        ({"D3_LIMIT_URL": f"postgresql://u:{CANARY} @h/x"}, "D3_LIMIT_URL has a blank"),
        ({"D3_LIMIT_URL": f"postgresql://u:p@{CANARY}@h/x"}, "D3_LIMIT_URL has an @, or a / before it"),
        ({"D3_LIMIT_URL": f"postgresql://u:1/{CANARY}@h/x"}, "D3_LIMIT_URL has an @, or a / before it"),
        ({"D3_LIMIT_URL": f"postgresql://u:{CANARY}%z@h/x"}, "write % as %25"),
        ({"D3_LIMIT_URL": f"postgresql://u:{CANARY}%00@h/x"}, "write % as %25"),
        ({"D3_LIMIT_URL_FILE": "/nowhere/url"}, "D3_LIMIT_URL_FILE: the file /nowhere/url cannot be read"),
        ({"D3_LIMIT_URL": URL, "D3_LIMIT_URL_FILE": "x"}, "say the same thing"),
        ({"D3_SHARE_LIMIT": "perhaps"}, "D3_SHARE_LIMIT must be yes or no"),
    ],
)
def test_one_that_cannot_be_used_is_named_and_not_shown(environ: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        from_env(environ)

    assert said in caught.value.message
    assert CANARY not in caught.value.message + repr(vars(caught.value))


@pytest.mark.parametrize(("text", "shares"), [("no", False), ("0", False), ("OFF", False), ("yes", True), ("1", True)])
def test_sharing_on_one_host_is_a_switch(text: str, *, shares: bool) -> None:
    assert from_env({"D3_SHARE_LIMIT": text}).share_limit is shares


def test_only_its_harmless_part_is_shown() -> None:
    settings = from_env({"D3_LIMIT_URL": URL})
    shown = [
        repr(settings),
        pretty_repr(settings),
        json.dumps(settings.public()),
        repr(dataclasses.asdict(settings)),
        repr(vars(settings)),
        repr(copy.deepcopy(settings)),
        f"{settings.limit_url} {settings.limit_url!r}",
        repr(connect(settings)),
    ]

    assert CANARY not in "".join(shown)
    assert settings.public()["limit_url"] == SHOWN
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(settings.limit_url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://h/x", "postgresql://h/x"),
        ("postgres://u@[::1]:5/x", "postgres://[::1]:5/x"),
        ("postgresql:///x?host=/run", "postgresql:///x"),
    ],
)
def test_user_password_and_parameters_are_left_out(url: str, shown: str) -> None:
    assert str(LimitUrl(url)) == shown


def test_a_program_of_this_user_shares_through_a_file_unless_it_is_told_not_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    told: list[str] = []
    host_limiter(from_env({"D3_SHARE_LIMIT": "no"}), told.append)
    assert not (tmp_path / "state").exists()

    host_limiter(from_env({}), told.append)

    assert told == []


def test_where_the_file_cannot_be_used_a_program_paces_alone_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    told: list[str] = []
    limiter = host_limiter(from_env({}), told.append)

    assert len(told) == 1
    assert "--no-share-limit" in told[0]
    assert limiter.numbers.members == 1
