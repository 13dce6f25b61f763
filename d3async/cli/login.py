"""`d3async login`: put a key into the system keyring."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from d3async.cli.console import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from d3async.credentials import Secret

KINDS = {"key": "api_key", "jwt": "jwt", "jwt-secret": "jwt_secret"}


def entry_options(function: Callable[..., None]) -> Callable[..., None]:
    """The options that say which entry of the keyring is meant; `logout` has the same."""
    for option in (
        click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="The config file (D3_CONFIG)."),
        click.option("--profile", metavar="NAME", help="For this profile of config.toml (D3_PROFILE)."),
        click.option("--kind", type=click.Choice(list(KINDS)), default="key", show_default=True, help="What it is."),
        click.option("--command", "name", metavar="NAME", default="", help="For this D3 command only."),
    ):
        function = option(function)
    return function


@click.command("login", short_help="Put a key into the system keyring.")
@entry_options
@click.option("--stdin", "from_stdin", is_flag=True, help="Read it from standard input instead of asking.")
def command(*, name: str, kind: str, profile: str | None, config: Path | None, from_stdin: bool) -> None:
    """Put a key into the system keyring, for one D3 command (--command CreateTask) or for all.

    It is used when neither an option nor a variable nor the profile has one.
    """
    from d3async.credentials import Credential, Kind, Level, checked, plain  # noqa: PLC0415 - `--help` is quick
    from d3async.errors import SettingsError  # noqa: PLC0415 - as above
    from d3async.settings import keychain  # noqa: PLC0415 - as above
    from d3async.settings.profile import load_profile  # noqa: PLC0415 - as above

    which = Kind(KINDS[kind])
    chosen = load_profile(config, profile, os.environ)
    entry = chosen.keyring_entry(which, name) or keychain.entry_name(chosen.name, which, name)
    what = f"{which.label} for {name or 'every command'}"
    credential = Credential(which, plain(name), "login", Level.LOGIN, _read(what, from_stdin=from_stdin))
    if problem := checked(credential).problem:
        raise SettingsError(problem, code="bad_key")
    keychain.store(entry, credential.secret, chosen.path.parent)
    say(f"Kept in the keyring: {what}{f', profile {chosen.name}' if chosen.name else ''}.")
    _say_what_comes_first(which.value, name)
    say("to check it  d3async doctor")


def _read(what: str, *, from_stdin: bool) -> Secret:
    from d3async.credentials import LONGEST, Secret  # noqa: PLC0415 - as above

    if from_stdin:
        return Secret(sys.stdin.read(LONGEST))
    if not sys.stdin.isatty():
        raise click.UsageError("standard input is no terminal: pipe the key in and give --stdin")
    return Secret(click.prompt(f"{what} (not shown)", hide_input=True, err=True))


def _say_what_comes_first(kind: str, name: str) -> None:
    from d3async.credentials import Kind, variable  # noqa: PLC0415 - as above

    for found in sorted({variable(Kind(kind), name), variable(Kind(kind))}):
        for spelling in (found, f"{found}_FILE"):
            if os.environ.get(spelling, "").strip():
                say(f"But {spelling} is set here, and comes first.")
