"""The fleet's URL is found where it is said to be, and its password is told to nobody."""

from pathlib import Path

import pytest

from d3async.config.database_urls import find, needed
from d3async.errors import SettingsError

URL = "postgresql://worker:s3cret%21@db.example.com:6432/fleet?sslmode=require"


def test_the_option_comes_before_the_variable_and_the_variable_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql://third/c\n")
    environ = {"D3_FLEET_URL": "postgresql://second/b", "D3_FLEET_URL_FILE": str(file)}

    assert str(find("postgresql://first/a", environ)) == "postgresql://first/a"
    assert str(find(None, environ)) == "postgresql://second/b"
    assert str(find(None, {"D3_FLEET_URL_FILE": str(file)})) == "postgresql://third/c"
    assert find(None, {}) is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (URL, "postgresql://worker@db.example.com:6432/fleet"),
        ("postgres://db/fleet", "postgresql://db/fleet"),
        ("postgresql://u@[::1]:5432/fleet", "postgresql://u@[::1]:5432/fleet"),
        ("postgresql:///fleet?host=/run/postgresql&password=hush", "postgresql:///fleet"),
    ],
)
def test_the_password_is_not_shown(url: str, shown: str) -> None:
    address = needed(url, {})

    assert str(address) == shown
    for form in (str(address), repr(address)):
        assert "s3cret" not in form
        assert "hush" not in form


@pytest.mark.parametrize("text", ["s3cret!", "s3cret%21"])
def test_a_password_that_a_driver_tells_is_masked_in_both_its_forms(text: str) -> None:
    assert needed(URL, {}).mask(f"FATAL: {text} is wrong") == "FATAL: *** is wrong"


@pytest.mark.parametrize(
    "text",
    [
        "mysql://u:hush@db/x",
        "hush",
        "postgresql://u:hush@db:notaport/x",
        "postgresql://u:hush@db/x\ny",
        "postgresql://u:12@hush@db/x",
        "postgresql://u:12/hush@db/x",
        "postgresql://u:hush%@db/x",
    ],
)
def test_what_is_no_url_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        needed(text, {})
    assert "hush" not in caught.value.message
    assert "--fleet" in caught.value.message


def test_a_missing_fleet_says_how_to_name_one() -> None:
    with pytest.raises(SettingsError, match="D3_FLEET_URL"):
        needed(None, {})
    with pytest.raises(SettingsError, match="nowhere"):
        needed(None, {"D3_FLEET_URL_FILE": "/nowhere/url"})
