"""summary.json: what a run did, as one object for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from d3async import __version__
from d3async.files.instants import instants
from d3async.files.suggestions import suggest, to_type

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from d3async.journal.reader import Reader
    from d3async.journal.records import Run

_TIMES = ("started_at", "finished_at")
_NOT_TOLD = frozenset({"argv", "command_line", "log_keys", "submitted", "home"})
"""Facts that are no figures; the first two were kept by earlier versions, as they were typed."""
_COUNTED = ("requests", "throttled", "paused_s", "elapsed_s", "rate")


def summary(reader: Reader, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The contract's keys first, then whatever else *facts* tell. Times among *facts* may be seconds since 1970.

    Counts come from the journal, never from *facts*: what a row became stands in one place.
    """
    meta = reader.meta()
    servers = _servers(reader, meta, facts)
    by_hand = reader.settled_by_hand()
    steps = suggest(reader, facts)
    told = {
        "version": facts.get("version", __version__),
        "command": meta.get("command", ""),
        "input": {"path": meta.get("input"), "sha256": meta.get("sha256"), "rows": int(meta.get("rows", 0))},
        **_where(meta, servers),
        "outcomes": reader.counts(),
        "items": reader.item_counts() if reader.has_items else None,
        "vanished": reader.vanished(),
        **({"settled_by_hand": by_hand} if by_hand else {}),
        **{key: facts.get(key) for key in _COUNTED},
        **{key: instant(facts.get(key)) for key in _TIMES},
        "exit_code": facts.get("exit_code"),
        "next": next(iter(to_type(steps)), None),
        "advice": [note.text for note in steps.notes],
        **({"servers": servers} if servers else {}),
    }
    return told | {key: value for key, value in facts.items() if key not in told and key not in _NOT_TOLD}


def _where(meta: Mapping[str, str], servers: Sequence[Mapping[str, Any]]) -> dict[str, str | None]:
    """The one D3 of the run; null where there are several, which `servers` tells."""
    if len(servers) > 1:
        return {"base_url": None, "site": None}
    at: Mapping[str, str] = servers[0] if servers else meta
    return {"base_url": at.get("base_url"), "site": at.get("site")}


def _servers(reader: Reader, meta: Mapping[str, str], facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What each D3 of the file got, where rows name profiles: counts from the journal, the rest from *facts*."""
    if not meta.get("profiles"):
        return []
    homes = {**json.loads(meta["profiles"]), None: meta}
    known = {told.get("profile"): told for told in facts.get("servers") or ()}
    return [
        {
            "profile": profile,
            **{name: homes.get(profile, {}).get(name) for name in ("base_url", "site")},
            "outcomes": outcomes,
            **{key: value for key, value in known.get(profile, {}).items() if key != "profile"},
        }
        for profile, outcomes in reader.counts_by_profile().items()
    ]


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
