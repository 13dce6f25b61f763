"""The last words of a run: what became of the rows, why, where it stands, and what to type next."""

from __future__ import annotations

from datetime import UTC, datetime
from textwrap import shorten
from typing import TYPE_CHECKING

from d3async.sansio.exit_code import INTERRUPTED, TERMINATED, THROTTLED
from d3async.sansio.outcome import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from d3async.files.causes import Cause
    from d3async.files.write import Written
    from d3async.sansio.retry import Stop

_SPOKEN = {"unsent": "not sent"}
_LINE = 110


def next_step(
    outcomes: Mapping[str, int], stop: Stop | None, *, command_line: str, folder: Path, repeatable: bool
) -> str | None:
    """The command to type next; None when nothing is left to do."""
    if stop is not None and stop.code == "unauthorized":
        return "d3async doctor"
    if outcomes.get("unsent"):
        return command_line
    if outcomes.get("unknown"):
        return command_line if repeatable else f"d3async reconcile {folder}"
    if any(outcomes.get(outcome) for outcome in ("failed", "partial", "invalid")):
        return command_line
    return None


def last_words(
    outcomes: Mapping[str, int],
    stop: Stop | None,
    *,
    causes: Sequence[Cause],
    written: Written,
    folder: Path,
    next_line: str | None,
    code: int,
    now: float,
) -> list[str]:
    """The lines that end a run. *now* is seconds since 1970."""
    lines = [_verdict(outcomes, stop, code, now)]
    lines += [f"  {cause.count:,} x {shorten(cause.text, _LINE, placeholder=' …')}" for cause in causes]
    if outcomes.get("unknown"):
        where = written.unknown or folder / "results.csv"
        lines.append(f"{outcomes['unknown']:,} unknown: they may have happened in D3; look before you send: {where}")
    if written.failed:
        lines.append(f"to mend   {written.failed}")
    lines.append(f"results   {written.results}      report  {folder / 'report.html'}")
    if next_line:
        lines.append(f"{_what_for(outcomes, stop, next_line):<9} {next_line}")
    return lines


def counts_words(outcomes: Mapping[str, int]) -> str:
    """`2,391 ok · 9 failed · 713 not sent`."""
    parts = [f"{outcomes[name]:,} {_SPOKEN.get(name, name)}" for name in OUTCOMES if outcomes.get(name)]
    return " · ".join(parts) or "no rows"


def _verdict(outcomes: Mapping[str, int], stop: Stop | None, code: int, now: float) -> str:
    counts = counts_words(outcomes)
    if stop is None:
        return f"Done. {counts}"
    if code in {INTERRUPTED, TERMINATED}:
        return f"Stopped. {counts}"
    if stop.code == "unauthorized":
        return f"Stopped: D3 does not accept the key ({stop.message}) {counts}"
    if code == THROTTLED:
        return f"Stopped: {stop.message}{_come_back(stop.retry_after, now)}. {counts}"
    return f"Stopped: {stop.message.rstrip('.')}. {counts}"


def _come_back(wait: float | None, now: float) -> str:
    if wait is None:
        return ""
    try:
        at = datetime.fromtimestamp(now + wait, UTC)
    except (OverflowError, ValueError, OSError):
        return f": {wait:,.0f} s"
    return f": {wait:,.0f} s, come back after {at:%Y-%m-%d %H:%M:%S} UTC"


def _what_for(outcomes: Mapping[str, int], stop: Stop | None, next_line: str) -> str:
    if stop is not None and stop.code == "unauthorized":
        return "to mend"
    if next_line.startswith("d3async reconcile"):
        return "to settle"
    return "to go on" if outcomes.get("unsent") else "again"
