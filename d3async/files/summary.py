"""summary.json: what a run did, as one object for programs."""

from __future__ import annotations

import shlex
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from d3async import __version__
from d3async.files.instants import instants

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from d3async.journal.reader import Reader
    from d3async.journal.records import Run

_TIMES = ("started_at", "finished_at")
_COUNTED = ("requests", "throttled", "paused_s", "elapsed_s", "rate")


def summary(reader: Reader, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The contract's keys first, then whatever else *facts* tell. Times among *facts* may be seconds since 1970.

    Counts come from the journal, never from *facts*: what a row became stands in one place.
    """
    meta = reader.meta()
    told = {
        "version": facts.get("version", __version__),
        "command": meta.get("command", ""),
        "input": {"path": meta.get("input"), "sha256": meta.get("sha256"), "rows": int(meta.get("rows", 0))},
        "base_url": meta.get("base_url"),
        "site": meta.get("site"),
        "outcomes": reader.counts(),
        "items": reader.item_counts() if reader.has_items else None,
        "vanished": reader.vanished(),
        **{key: facts.get(key) for key in _COUNTED},
        **{key: instant(facts.get(key)) for key in _TIMES},
        "exit_code": facts.get("exit_code"),
        "next": facts.get("next"),
    }
    return told | {key: value for key, value in facts.items() if key not in told}


def last_facts(runs: Sequence[Run]) -> dict[str, Any]:
    """What the last of *runs* told of itself; of one that was cut short, what is known all the same."""
    if not runs:
        return {}
    run = runs[-1]
    known = {"started_at": run.started_at, "finished_at": run.finished_at, "exit_code": run.exit_code}
    return {**known, **run.facts}


def instant(at: float | str | None) -> str | None:
    """*at* as files tell times; a text is one already."""
    return at if isinstance(at, str) else instants()(at) or None


def next_steps(told: Mapping[str, Any], folder: str) -> list[str]:
    """What to type next: what the run said, else (it was cut short) what the counts of the summary *told* ask for."""
    said = told.get("next")
    if said or told.get("exit_code") is not None:
        return [said] if said else []
    outcomes, quoted = told["outcomes"], shlex.quote(folder)
    steps = []
    if outcomes["unsent"]:
        steps.append(told.get("command_line") or _command_line(told["input"]["path"] or "FILE", folder))
    if outcomes["unknown"]:
        steps.append(f"d3async reconcile {quoted}")
    return steps


def _command_line(path: str, folder: str) -> str:
    usual = PurePath(path).stem + ".d3run" == PurePath(folder).name
    return shlex.join(["d3async", "run", path, *([] if usual else ["-o", folder])])
