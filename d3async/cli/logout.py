"""`d3async logout`: take a key out of the system keyring."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from d3async.cli.console import say
from d3async.cli.login import KINDS, entry_options

if TYPE_CHECKING:
    from pathlib import Path


@click.command("logout", short_help="Take a key out of the system keyring.")
@entry_options
@click.option("--all", "everything", is_flag=True, help="All that login put there, for every profile and command.")
def command(*, name: str, kind: str, profile: str | None, config: Path | None, everything: bool) -> None:
    """Take a key out of the system keyring. A key that is not there is no error."""
    from d3async.credentials import Kind  # noqa: PLC0415 - `--help` is quick
    from d3async.settings import keychain  # noqa: PLC0415 - as above
    from d3async.settings.profile import config_path, load_profile  # noqa: PLC0415 - as above

    if everything:
        folder = config_path(config, os.environ).parent
        entries = sorted(keychain.logins(folder))
    else:
        chosen = load_profile(config, profile, os.environ)
        folder = chosen.path.parent
        which = Kind(KINDS[kind])
        entries = [chosen.keyring_entry(which, name) or keychain.entry_name(chosen.name, which, name)]
    for entry in entries:
        there = keychain.remove(entry, folder)
        say(f"{'Taken out of the keyring' if there else 'The keyring does not have it'}: {entry}")
    if not entries:
        say("login has put nothing into the keyring.")
