"""The lines that end a run: what became of the rows, why, where the files are, and what to do next."""

from __future__ import annotations

from datetime import UTC, datetime
from textwrap import shorten
from typing import TYPE_CHECKING

from d3async.cli.servers import name_of
from d3async.files.suggestions import suggested_lines
from d3async.sansio.exit_code import INTERRUPTED, TERMINATED
from d3async.sansio.next_step import Command, Steps
from d3async.sansio.outcome import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from d3async.files.causes import Cause
    from d3async.files.write import Written
    from d3async.sansio.next_step import Note
    from d3async.sansio.retry import Stop

_SPOKEN = {"unsent": "not sent"}
_LINE = 110
_SERVERS = 12
_BY_HAND = frozenset({INTERRUPTED, TERMINATED})


def last_words(
    outcomes: Mapping[str, int],
    stop: Stop | None,
    *,
    causes: Sequence[Cause],
    written: Written,
    folder: Path,
    steps: Sequence[Note],
    code: int,
    now: float,
    servers: Sequence[tuple[str | None, Stop | None, int]] = (),
) -> list[str]:
    """The lines that end a run. *now* is seconds since 1970; *servers*: profile, why it stopped, rows not sent."""
    several = len(servers) > 1
    lines = [_several(outcomes, servers, code) if several else _verdict(outcomes, stop, code, now)]
    lines += _stopped(servers, now) if several and code not in _BY_HAND else []
    lines += [f"  {cause.count:,} x {shorten(cause.text, _LINE, placeholder=' …')}" for cause in causes]
    if outcomes.get("unknown"):
        where = written.unknown or folder / "results.csv"
        lines.append(f"{outcomes['unknown']:,} unknown: they may have happened in D3; look before you send: {where}")
    lines.append(f"results   {written.results}      report  {folder / 'report.html'}")
    return lines + [f"{label:<9} {text}" for label, text in steps]


def _several(outcomes: Mapping[str, int], servers: Sequence[tuple[str | None, Stop | None, int]], code: int) -> str:
    counts = counts_words(outcomes)
    stopped = sum(stop is not None for _, stop, _ in servers)
    if code in _BY_HAND or not stopped:
        return f"{'Stopped' if code in _BY_HAND else 'Done'}. {counts}"
    return f"Done at {len(servers) - stopped:,} of {len(servers):,} servers. {counts}"


def _stopped(servers: Sequence[tuple[str | None, Stop | None, int]], now: float) -> list[str]:
    """A line for each of the first servers that stopped, and what to do about it."""
    lines = []
    for profile, stop, left in servers:
        if stop is not None:
            cure = _cure(profile) if stop.code == "unauthorized" else ""
            lines.append(f"  {name_of(profile)}: stopped, {left:,} not sent: {why_stopped(stop, now)}{cure}")
    more = [f"  and {len(lines) - _SERVERS:,} more"] if len(lines) > _SERVERS else []
    return lines[:_SERVERS] + more


def _cure(profile: str | None) -> str:
    examine = Command("to mend", ("d3async", "doctor", *(() if profile is None else ("--profile", profile))))
    return f"; to mend: {suggested_lines(Steps((examine,)))[0].text}"


def counts_words(outcomes: Mapping[str, int]) -> str:
    """`2,391 ok · 9 failed · 713 not sent`."""
    parts = [f"{outcomes[name]:,} {_SPOKEN.get(name, name)}" for name in OUTCOMES if outcomes.get(name)]
    return " · ".join(parts) or "no rows"


def _verdict(outcomes: Mapping[str, int], stop: Stop | None, code: int, now: float) -> str:
    counts = counts_words(outcomes)
    if stop is None:
        return f"Done. {counts}"
    if code in _BY_HAND:
        return f"Stopped. {counts}"
    after = " " if stop.code == "unauthorized" else ". "
    return f"Stopped: {why_stopped(stop, now)}{after}{counts}"


def why_stopped(stop: Stop, now: float) -> str:
    """Why nothing more was sent, in words without a full stop. *now* is seconds since 1970."""
    if stop.code == "unauthorized":
        return f"D3 does not accept the key ({stop.message})"
    if stop.code == "throttled":
        return f"{stop.message}{_come_back(stop.retry_after, now)}"
    return stop.message.rstrip(".")


def _come_back(wait: float | None, now: float) -> str:
    if wait is None:
        return ""
    try:
        at = datetime.fromtimestamp(now + wait, UTC)
    except (OverflowError, ValueError, OSError):
        return f": {wait:,.0f} s"
    return f": {wait:,.0f} s, come back after {at:%Y-%m-%d %H:%M:%S} UTC"
