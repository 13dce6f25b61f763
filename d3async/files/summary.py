"""summary.json: what a run did, as one object for programs; what went wrong, by cause."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from d3async import __version__
from d3async.files.number_format import instant
from d3async.files.results_writer import one_line, with_items
from d3async.files.suggestions import suggest, to_type

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from d3async.journal.model import ItemRecord, RowRecord, RunRecord
    from d3async.journal.protocols import RunReader

_TIMES = ("started_at", "finished_at")
_NOT_TOLD = frozenset({"argv", "command_line", "log_keys", "submitted", "home"})
"""Facts that are no figures; the first two were kept by earlier versions, as they were typed."""
_COUNTED = ("requests", "throttled", "paused_s", "elapsed_s", "rate")


def summary(reader: RunReader, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The contract's keys first, then whatever else *facts* tell. Times among *facts* may be seconds since 1970.

    Counts come from the journal, never from *facts*: the outcome of a row is kept in one place.
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


def _servers(reader: RunReader, meta: Mapping[str, str], facts: Mapping[str, Any]) -> list[dict[str, Any]]:
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


def last_facts(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """What the last of *runs* recorded; of one that was cut short, what is known all the same."""
    if not runs:
        return {}
    run = runs[-1]
    known = {"started_at": run.started_at, "finished_at": run.finished_at, "exit_code": run.exit_code}
    return {**known, **run.facts}


TROUBLED = ("partial", "failed", "unknown", "invalid")
_SPECIFIC = re.compile(r""""[^"]*+"|'[^']*+'|(?<![^\s"',;:()])[^\s\d"',;:()]*+\d[^\s"',;:()]*+""")
_LONGEST = 300
_SHOWN = 120


@dataclass(frozen=True, slots=True)
class FailedRow:
    """One row, or one of its items, that did not end well. *raw* is how the row begins in the file."""

    row: int
    line: int
    label: str
    item: str
    outcome: str
    code: str
    message: str
    raw: str


@dataclass(slots=True)
class Cause:
    """Trouble of one kind: *count* of it in *rows* rows, the *first* ones kept."""

    outcome: str
    code: str
    message: str
    count: int = 0
    rows: int = 0
    first: list[FailedRow] = field(default_factory=list)
    last_row: int = 0
    same: bool = True

    @property
    def text(self) -> str:
        """The message that all of it has; where they differ in names and numbers, `…` replaces these."""
        return (self.message if self.same else alike(self.message)) or self.code or self.outcome

    def tells(self, name: Literal["label", "item"]) -> bool:
        """Whether any of the first rows has a *name*."""
        return any(getattr(trouble, name) for trouble in self.first)

    def add(self, trouble: FailedRow, keep: int) -> None:
        """Count *trouble*, and keep it if it is among the first *keep*."""
        self.count += 1
        self.rows += trouble.row != self.last_row
        self.last_row = trouble.row
        self.same = self.same and trouble.message == self.message
        if len(self.first) < keep:
            self.first.append(trouble)


@dataclass(frozen=True, slots=True)
class Causes:
    """The causes, the most frequent first. *others* is the trouble of kinds met after the limit of kinds."""

    causes: Sequence[Cause]
    others: int = 0


def find_causes(reader: RunReader, *, keep: int = 10, kinds: int = 1000) -> Causes:
    """Group the trouble of the current rows in one pass. Memory is bounded by *keep* rows of *kinds* causes."""
    found: dict[tuple[str, str, str], Cause] = {}
    others = 0
    for trouble in _troubles(reader):
        key = (trouble.outcome, trouble.code, alike(trouble.message))
        cause = found.get(key)
        if cause is None and len(found) == kinds:
            others += 1
            continue
        if cause is None:
            cause = found[key] = Cause(trouble.outcome, trouble.code, trouble.message)
        cause.add(trouble, keep)
    return Causes(sorted(found.values(), key=lambda cause: -cause.count), others)


def alike(message: str) -> str:
    """*message* with `…` for what is quoted and what has a digit in it: the same for the same kind of trouble."""
    return _SPECIFIC.sub("…", message)


def _troubles(reader: RunReader) -> Iterator[FailedRow]:
    for row, items in with_items(reader.rows(TROUBLED, full=True), reader.items(TROUBLED)):
        bad = [item for item in items if item.outcome in {"failed", "unknown"}]
        if not bad:
            yield _trouble(row, row.outcome, row.code, row.message)
        for item in bad:
            yield _trouble(row, item.outcome, item.code or row.code, item.message or row.message, item)


def _trouble(row: RowRecord, outcome: str, code: str, message: str, item: ItemRecord | None = None) -> FailedRow:
    return FailedRow(
        row.row, row.line, _cut(row.label or ""), _cut(item.item) if item else "", outcome, code,
        one_line(message)[:_LONGEST], _cut(row.raw),
    )  # fmt: skip


def _cut(text: str) -> str:
    return one_line(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
