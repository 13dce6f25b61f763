"""summary.json: what a run did, as one object for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from d3async import __version__
from d3async.files.instants import instants

if TYPE_CHECKING:
    from collections.abc import Mapping

    from d3async.journal.read import JournalReader

_TIMES = ("started_at", "finished_at")
_COUNTED = ("requests", "throttled", "paused_s", "elapsed_s", "rate")


def summary(reader: JournalReader, facts: Mapping[str, Any]) -> dict[str, Any]:
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
        **{key: facts.get(key, 0) for key in _COUNTED},
        **{key: instant(facts.get(key)) for key in _TIMES},
        "exit_code": facts.get("exit_code"),
        "next": facts.get("next"),
    }
    return told | {key: value for key, value in facts.items() if key not in told}


def instant(at: float | str | None) -> str | None:
    """*at* as files tell times; a text is one already."""
    return at if isinstance(at, str) else instants()(at) or None
