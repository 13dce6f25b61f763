"""Where a run folder stands, as an object and in words."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from d3async.cli.ending import counts_words
from d3async.cli.plan import duration
from d3async.cli.servers import name_of
from d3async.files.causes import find_causes
from d3async.files.suggestions import suggest, suggested_lines, to_type
from d3async.files.summary import instant, last_facts, summary
from d3async.files.words import moment, number
from d3async.sansio.next_step import Steps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from d3async.files.causes import Cause
    from d3async.journal.reader import Reader
    from d3async.journal.records import Owner

_WINDOW = 30.0
_CAUSES = 5
_SERVERS = 12
_LINE = 110
_FILES = ("results", "report", "failed", "unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A run folder at one moment. *told* is its summary; *running* is None where that can't be seen from here.

    *rate* is rows answered a second over the last half minute, of a run that goes on.
    """

    folder: Path
    told: Mapping[str, Any]
    in_flight: int
    to_send: int
    owner: Owner | None
    running: bool | None
    rate: float | None
    causes: Sequence[Cause]
    files: Mapping[str, Path]
    steps: Steps

    @property
    def next(self) -> list[str]:
        """What to type next; nothing while a run goes on."""
        return to_type(self.steps)


def standing(reader: Reader, *, now: float, running: bool | None) -> Standing:
    """Where the folder stands at *now* (seconds since 1970), given whether its owner is *running*."""
    owner, facts = reader.owner(), last_facts(reader.runs())
    rate = None
    if owner and running is not False:
        window = min(_WINDOW, max(now - (owner.since or now), 1.0))
        rate = reader.done_since(now - window) / window
    files = {path.stem: path for path in sorted(reader.folder.glob("*.*")) if path.stem in _FILES}
    return Standing(
        folder=reader.folder,
        told=summary(reader, facts),
        in_flight=reader.in_flight(),
        to_send=reader.to_send(),
        owner=owner,
        running=running,
        rate=rate,
        causes=find_causes(reader, keep=1).causes[:_CAUSES],
        files=files,
        steps=Steps() if running else suggest(reader, facts, mend_file=files.get("failed")),
    )


def as_words(at: Standing) -> list[str]:
    """The lines a user reads."""
    told, outcomes = at.told, dict(at.told["outcomes"])
    lines = [f"{told['input']['path']}: {told['input']['rows']:,} rows, {told['command'] or 'mixed'} at {_where(told)}"]
    lines.append(_run_words(at))
    flying = at.in_flight if at.running is not False else 0
    outcomes["unknown"] -= flying
    lines.append(counts_words(outcomes) + (f" · {flying:,} in flight" if flying else ""))
    lines += _server_lines(told.get("servers", ()))
    lines += by_hand_lines(told.get("settled_by_hand", {}))
    lines += [f"  {cause.count:,} x {textwrap.shorten(cause.text, _LINE, placeholder=' …')}" for cause in at.causes]
    if told["vanished"]:
        lines.append(f"{told['vanished']:,} of an earlier state of the file are no longer in it, and not counted")
    return lines + _where_words(at)


def _where(told: Mapping[str, Any]) -> str:
    servers = told.get("servers", ())
    if len(servers) > 1:
        return f"{len(servers):,} servers"
    site = f', site "{told["site"]}"' if told["site"] else ""
    return (urlsplit(told["base_url"] or "").hostname or "D3") + site


def _server_lines(servers: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each of several servers, those that stopped first."""
    if len(servers) < 2:  # noqa: PLR2004 - the line above them tells all of one
        return []
    lines = []
    for server in sorted(servers, key=lambda server: server.get("stop") is None):
        host, stop = urlsplit(server["base_url"] or "").hostname or "D3", server.get("stop")
        why = f"; stopped: {stop['message'].rstrip('.')}" if stop else ""
        lines.append(f"  {name_of(server['profile'])} at {host}: {counts_words(server['outcomes'])}{why}")
    more = [f"  and {len(lines) - _SERVERS:,} more"] if len(lines) > _SERVERS else []
    return lines[:_SERVERS] + more


def by_hand_lines(outcomes: Mapping[str, int]) -> list[str]:
    """A line that says how many rows a user settled, by outcome; none where there are none."""
    return [f"  {counts_words(outcomes)}: settled by hand"] if outcomes else []


def _run_words(at: Standing) -> str:
    if at.owner is None:
        ended = at.told.get("finished_at")
        stop = at.told.get("stop")
        why = f": {stop['message']}" if isinstance(stop, dict) and stop.get("message") else ""
        return f"ended {moment(ended)} UTC, exit code {at.told['exit_code']}{why}" if ended else "no run has ended yet"
    who = f"pid {at.owner.pid} on {at.owner.host} since {moment(at.owner.since)} UTC"
    if at.running is False:
        return f"cut short: {who} is gone and left no last word"
    pace = f"{number(at.rate or 0.0)} rows/s"
    if at.rate and at.to_send:
        pace += f", about {duration(at.to_send / at.rate)} left"
    told = "running" if at.running else "held, look there whether it still runs"
    return f"{told}: {who}; {at.to_send:,} to send, {pace}"


def _where_words(at: Standing) -> list[str]:
    results, report = at.files.get("results"), at.files.get("report")
    lines = [f"results   {results}" if results else f"results   none yet; to write them: d3async results {at.folder}"]
    if report:
        lines[0] += f"      report  {report}"
    lines += [f"look up   {at.files['unknown']}"] if "unknown" in at.files else []
    return lines + [f"{label:<9} {text}" for label, text in suggested_lines(at.steps)]


def as_object(at: Standing) -> dict[str, Any]:
    """The same for programs. Rows in flight are among `outcomes.unknown`, so that outcomes add up to the rows."""
    told = at.told
    return {
        "folder": str(at.folder),
        **{key: told[key] for key in ("command", "input", "base_url", "site", "outcomes", "items", "vanished")},
        **{key: told[key] for key in ("servers", "settled_by_hand") if key in told},
        "in_flight": at.in_flight,
        "to_send": at.to_send,
        "running": at.running,
        "owner": at.owner and {"pid": at.owner.pid, "host": at.owner.host, "since": instant(at.owner.since)},
        "rate": None if at.rate is None else round(at.rate, 2),
        **{key: told[key] for key in ("started_at", "finished_at", "exit_code")},
        "causes": [
            {
                "count": cause.count, "rows": cause.rows, "outcome": cause.outcome, "code": cause.code,
                "message": cause.text,
            }
            for cause in at.causes
        ],
        **{name: str(at.files[name]) if name in at.files else None for name in _FILES},
        "next": at.next,
        "advice": [note.text for note in at.steps.notes],
    }  # fmt: skip
