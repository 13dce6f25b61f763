"""`d3async doctor`: what is set, whether D3, key and what is shared can be had, and what to mend."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from d3async import __version__
from d3async.cli.console import clean, out
from d3async.cli.settings_options import settings_options

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from d3async.cli.findings import Finding

_SIGNS = {"ok": "✓", "bad": "✗", "note": "–"}  # noqa: RUF001 - the sign the README shows
_PLAIN_SIGNS = {"ok": "ok ", "bad": "BAD", "note": "-  "}
MEND = 2


@click.command("doctor", short_help="Check settings, network, key, clock and shared limit.")
@settings_options
@click.option("--json", "as_json", is_flag=True, help="The findings as JSON on stdout.")
def command(*, options: Mapping[str, Any], as_json: bool) -> int:
    """Check settings, network, key, clock and shared limit, and say what to mend. Sends nothing that changes D3.

    Exit code 0 when all is fine, 2 when something needs mending.
    """
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


def examine(options: Mapping[str, Any]) -> Iterator[Finding]:
    """Every finding, as it is made."""
    from d3async.auth import Auth  # noqa: PLC0415 - `--help` need not load the rest
    from d3async.cli import findings, network_findings, proof, shared_findings  # noqa: PLC0415 - as above
    from d3async.credentials import Hidden  # noqa: PLC0415 - as above
    from d3async.errors import SettingsError  # noqa: PLC0415 - as above
    from d3async.settings import Profiles, Settings  # noqa: PLC0415 - as above
    from d3async.settings.sources import collect  # noqa: PLC0415 - as above
    from d3async.settings.values import SETTINGS  # noqa: PLC0415 - as above

    config, profile = options.get("config"), options.get("profile")
    given = Hidden({name: value for name, value in options.items() if name not in {"config", "profile"}})
    environ = Hidden(os.environ)
    yield from findings.of_versions()
    yield findings.of_folder()
    try:
        found = collect(environ, profile=profile, config=config, needs=(), options=given)
    except SettingsError as error:
        yield findings.Finding("config", "bad", error.message)
        return
    yield from findings.of_settings(found, environ)
    yield from findings.of_keys(found)
    if found.profile.name:
        profiles = Profiles(environ, config=config, **{name: given[name] for name in given})
        yield from findings.of_rows(found, profiles.collected(found.profile.name))
    yield from shared_findings.of_limit(found.values)
    yield from shared_findings.of_fleet(environ)
    if len(found.values) < len(SETTINGS):
        return
    settings = Settings(**found.values, credentials=found.credentials, profile=found.profile.name or None)
    auth = Auth(settings)
    yield findings.of_rate(settings)
    reached = True
    for network in network_findings.of_network(settings, environ):
        reached = reached and network.state != "bad"
        yield network.masked(auth.mask)
    if reached:
        yield proof.of_key(settings, auth).masked(auth.mask)


def _line(found: Finding) -> str:
    signs = _SIGNS if _can_show(_SIGNS["ok"]) else _PLAIN_SIGNS
    cure = f"\n  {'':<14} {'→' if _can_show('→') else '>'} {found.cure}" if found.cure else ""
    return f"{signs[found.state]} {found.check:<14} {found.text}{cure}"


def _can_show(sign: str) -> bool:
    try:
        sign.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _bad(findings: Sequence[Finding]) -> bool:
    return any(found.state == "bad" for found in findings)
