"""`d3async doctor`: what is set, whether D3, key and what is shared can be had, and what to mend."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from d3async import __version__
from d3async.cli.console import clean, out
from d3async.cli.options import settings_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
