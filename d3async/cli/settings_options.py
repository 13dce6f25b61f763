"""The options of every command that talks to D3, and the settings they lead to. None takes a secret as its value."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from d3async.cli.console import is_interactive
from d3async.cli.durations import DURATION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from d3async.settings import Settings

F = TypeVar("F", bound="Callable[..., Any]")

_FILE = click.Path(path_type=Path)
_OPTIONS: tuple[tuple[str, Any, str, str], ...] = (
    ("profile", str, "NAME", "A profile of config.toml (D3_PROFILE)."),
    ("config", _FILE, "FILE", "The config file (D3_CONFIG)."),
    ("base_url", str, "URL", "Up to and including the site path (D3_BASE_URL)."),
    ("username", str, "NAME", "Who it is done as (D3_USERNAME)."),
    ("site", str, "NAME", "The D3 site (D3_SITE)."),
    ("rate", str, "N|auto", "Requests a second, the ceiling (D3_RATE).  [default: 50]"),
    ("concurrency", click.IntRange(min=1), "N", "Requests in flight at most (D3_CONCURRENCY).  [default: 32]"),
    ("timeout", DURATION, "D", "One attempt, at most (D3_TIMEOUT).  [default: 60s]"),
    ("max_attempts", click.IntRange(min=1), "N", "Attempts a request (D3_MAX_ATTEMPTS).  [default: 4]"),
    ("max_wait", DURATION, "D", "Longest pause D3 may ask for (D3_MAX_WAIT).  [default: 5m]"),
    ("api_key_header", str, "NAME", "The header a key travels in (D3_API_KEY_HEADER).  [default: d3key]"),
    ("api_key_file", _FILE, "FILE", "A file that holds the key; it comes before every variable."),
    ("jwt_file", _FILE, "FILE", "A file that holds a ready token."),
    ("jwt_secret_file", _FILE, "FILE", "A file that holds the secret to sign tokens with."),
    ("jwt_lifetime", DURATION, "D", "How long a token signed here is good (D3_JWT_LIFETIME).  [default: no end]"),
    ("ca_bundle", _FILE, "FILE", "An authority to trust beside the system's (D3_CA_BUNDLE)."),
    ("client_cert", _FILE, "FILE", "Our certificate, PEM (D3_CLIENT_CERT)."),
    ("client_key", _FILE, "FILE", "Its key, when it is not in the same file (D3_CLIENT_KEY)."),
    ("limit_url_file", _FILE, "FILE", "Holds the URL of a PostgreSQL that shares the limit with other machines."),
    ("share_limit", bool, "", "Keep one limit together with your other runs (D3_SHARE_LIMIT).  [default: yes]"),
)


def settings_options(function: F) -> F:
    """Add the options; *function* gets them together as *options*, None where one was not given."""

    @functools.wraps(function)
    def gathered(**arguments: Any) -> Any:
        options = {name: arguments.pop(name) for name, *_ in _OPTIONS}
        return function(options=options, **arguments)

    decorated: Any = gathered
    for name, kind, metavar, text in reversed(_OPTIONS):
        option = f"--{name.replace('_', '-')}"
        if kind is bool:
            decorated = click.option(f"{option}/--no-{option[2:]}", name, default=None, help=text)(decorated)
        else:
            decorated = click.option(option, name, type=kind, metavar=metavar, help=text)(decorated)
    return decorated  # type: ignore[no-any-return]


def settings_from(options: Mapping[str, Any], *, needs: Sequence[str] = ()) -> Settings:
    """The settings of this call, with a usable key for each command of *needs*.

    Where a key is all that is missing and somebody sits at a terminal, it is asked for and kept for this call only.
    Raises SettingsError.
    """
    from d3async.errors import SettingsError  # noqa: PLC0415 - `--help` need not load the settings
    from d3async.settings import Settings  # noqa: PLC0415 - as above

    try:
        return Settings.from_env(needs=needs, **options)
    except SettingsError:
        if not is_interactive():
            raise
    without = Settings.from_env(**options)
    keyless = [command for command in needs if without.credentials.best(command) is None]
    return Settings.from_env(needs=needs, api_keys=_ask_for(keyless), **options)


def _ask_for(commands: Sequence[str]) -> Mapping[str, object]:
    from d3async.credentials import Secret  # noqa: PLC0415 - as above

    return {command: Secret(click.prompt(f"Key for {command}", hide_input=True, err=True)) for command in commands}
