"""`d3async doctor`: settings, network and keys, and what to mend; `login` and `logout`: a key in the system keyring."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from d3async import __version__
from d3async.cli.console import clean, out, say
from d3async.cli.options import settings_options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from d3async.config.credentials import Secret
    from d3async.operations.doctor_network import Check

_SIGNS = {"ok": "✓", "bad": "✗", "note": "–"}  # noqa: RUF001 - the sign the README shows
_PLAIN_SIGNS = {"ok": "ok ", "bad": "BAD", "note": "-  "}
MEND = 2


@click.command("doctor", short_help="Check settings, network, key, clock and shared limit.")
@settings_options
@click.option("--json", "as_json", is_flag=True, help="The findings as JSON on stdout.")
def doctor_command(*, options: Mapping[str, Any], as_json: bool) -> int:
    """Check settings, network, key, clock and shared limit, and say what to mend. Sends nothing that changes D3.

    Exit code 0 when all is fine, 2 when something needs mending.
    """
    from d3async.operations.doctor import examine  # noqa: PLC0415 - `--help` need not load it

    if as_json:
        findings = list(examine(options))
        shown = {"version": __version__, "ok": not _bad(findings), "checks": [found.public() for found in findings]}
        out(json.dumps(shown, ensure_ascii=False, indent=2))
        return MEND if _bad(findings) else 0
    findings = []
    for found in examine(options):
        findings.append(found)
        out(clean(_line(found)))
    wrong = sum(found.state == "bad" for found in findings)
    out(f"\n{wrong} to mend." if wrong else "\nNothing to mend.")
    return MEND if wrong else 0


def _line(found: Check) -> str:
    signs = _SIGNS if _can_show(_SIGNS["ok"]) else _PLAIN_SIGNS
    cure = f"\n  {'':<14} {'→' if _can_show('→') else '>'} {found.cure}" if found.cure else ""
    return f"{signs[found.state]} {found.check:<14} {found.text}{cure}"


def _can_show(sign: str) -> bool:
    try:
        sign.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _bad(findings: Sequence[Check]) -> bool:
    return any(found.state == "bad" for found in findings)


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
def login_command(*, name: str, kind: str, profile: str | None, config: Path | None, from_stdin: bool) -> None:
    """Put a key into the system keyring, for one D3 command (--command CreateTask) or for all.

    It is used when neither an option nor a variable nor the profile has one.
    """
    from d3async.config import secret_sources  # noqa: PLC0415 - as above
    from d3async.config.config_file import load_profile  # noqa: PLC0415 - as above
    from d3async.config.credentials import Credential, CredentialKind, Precedence, checked, plain  # noqa: PLC0415 - `--help` is quick
    from d3async.errors import SettingsError  # noqa: PLC0415 - as above

    which = CredentialKind(KINDS[kind])
    chosen = load_profile(config, profile, os.environ)
    entry = chosen.keyring_entry(which, name) or secret_sources.entry_name(chosen.name, which, name)
    what = f"{which.label} for {name or 'every command'}"
    credential = Credential(which, plain(name), "login", Precedence.LOGIN, _read(what, from_stdin=from_stdin))
    if problem := checked(credential).problem:
        raise SettingsError(problem, code="bad_key")
    secret_sources.store_in_keyring(entry, credential.secret, chosen.path.parent)
    say(f"Kept in the keyring: {what}{f', profile {chosen.name}' if chosen.name else ''}.")
    _say_what_comes_first(which.value, name)
    say("to check it  d3async doctor")


def _read(what: str, *, from_stdin: bool) -> Secret:
    from d3async.config.credentials import LONGEST, Secret  # noqa: PLC0415 - as above

    if from_stdin:
        return Secret(sys.stdin.read(LONGEST))
    if not sys.stdin.isatty():
        raise click.UsageError("standard input is no terminal: pipe the key in and give --stdin")
    return Secret(click.prompt(f"{what} (not shown)", hide_input=True, err=True))


def _say_what_comes_first(kind: str, name: str) -> None:
    from d3async.config.credentials import CredentialKind, variable  # noqa: PLC0415 - as above

    for found in sorted({variable(CredentialKind(kind), name), variable(CredentialKind(kind))}):
        for spelling in (found, f"{found}_FILE"):
            if os.environ.get(spelling, "").strip():
                say(f"But {spelling} is set here, and comes first.")


@click.command("logout", short_help="Take a key out of the system keyring.")
@entry_options
@click.option("--all", "everything", is_flag=True, help="All that login put there, for every profile and command.")
def logout_command(*, name: str, kind: str, profile: str | None, config: Path | None, everything: bool) -> None:
    """Take a key out of the system keyring. A key that is not there is no error."""
    from d3async.config import secret_sources  # noqa: PLC0415 - as above
    from d3async.config.config_file import config_path, load_profile  # noqa: PLC0415 - as above
    from d3async.config.credentials import CredentialKind  # noqa: PLC0415 - `--help` is quick

    if everything:
        folder = config_path(config, os.environ).parent
        entries = sorted(secret_sources.keyring_logins(folder))
    else:
        chosen = load_profile(config, profile, os.environ)
        folder = chosen.path.parent
        which = CredentialKind(KINDS[kind])
        entries = [chosen.keyring_entry(which, name) or secret_sources.entry_name(chosen.name, which, name)]
    for entry in entries:
        there = secret_sources.remove_from_keyring(entry, folder)
        say(f"{'Taken out of the keyring' if there else 'The keyring does not have it'}: {entry}")
    if not entries:
        say("login has put nothing into the keyring.")
