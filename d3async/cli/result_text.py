"""Results of operations in words: the end of a run, the status of a run folder and of a fleet."""

from __future__ import annotations

from datetime import UTC, datetime
from textwrap import shorten
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from d3async.files.number_format import duration, moment, number
from d3async.files.suggestions import suggested_lines
from d3async.operations.server_settings import name_of
from d3async.policy.halt_and_exit_codes import INTERRUPTED, TERMINATED
from d3async.policy.next_step import Steps, SuggestedCommand
from d3async.policy.outcome import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from d3async.config.database_urls import FleetUrl
    from d3async.files.run_files import WrittenFiles
    from d3async.files.summary import Cause
    from d3async.journal.postgres.reader import FleetSnapshot, RunStatus, WorkerStatus
    from d3async.operations.finish_run import FinishedRun
    from d3async.operations.status import FleetStatus, FolderStatus
    from d3async.policy.halt_and_exit_codes import Stop
    from d3async.policy.next_step import Note

_SPOKEN = {"unsent": "not sent"}
_LINE = 110
_SERVERS = 12
_SILENT = 60.0
"""Seconds without a sign of life after which a worker counts as gone."""
_BY_HAND = frozenset({INTERRUPTED, TERMINATED})


def finished_lines(found: FinishedRun, *, now: float) -> list[str]:
    """The lines that end a run. *now* is seconds since 1970."""
    lines = last_words(
        found.written.outcomes,
        found.stop,
        causes=found.causes,
        written=found.written,
        folder=found.folder,
        steps=suggested_lines(found.steps),
        code=found.exit_code,
        now=now,
        servers=[(server.server.profile, server.stop, server.left) for server in found.servers],
    )
    if found.due_zones:
        lines.insert(1, f"  due dates were read in {', '.join(found.due_zones)}")
    return lines


def last_words(
    outcomes: Mapping[str, int],
    stop: Stop | None,
    *,
    causes: Sequence[Cause],
    written: WrittenFiles,
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
    lines += left_lines(written)
    return lines + [f"{label:<9} {text}" for label, text in steps]


def left_lines(written: WrittenFiles) -> list[str]:
    """A line for each feedback file that was not written again, as the user has changed it."""
    return [f"left {path} (changed since it was written; not overwritten)" for path in written.left]


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
    examine = SuggestedCommand("to mend", ("d3async", "doctor", *(() if profile is None else ("--profile", profile))))
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


def folder_lines(at: FolderStatus) -> list[str]:
    """The lines a user reads."""
    told, outcomes = at.summary, dict(at.summary["outcomes"])
    lines = [f"{told['input']['path']}: {told['input']['rows']:,} rows, {told['command'] or 'mixed'} at {_where(told)}"]
    lines.append(_run_words(at))
    flying = at.in_flight if at.running is not False else 0
    outcomes["unknown"] -= flying
    lines.append(counts_words(outcomes) + (f" · {flying:,} in flight" if flying else ""))
    lines += _server_lines(told.get("servers", ()))
    lines += by_hand_lines(told.get("settled_by_hand", {}))
    lines += [f"  {cause.count:,} x {shorten(cause.text, _LINE, placeholder=' …')}" for cause in at.causes]
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


def _run_words(at: FolderStatus) -> str:
    if at.owner is None:
        ended = at.summary.get("finished_at")
        stop = at.summary.get("stop")
        why = f": {stop['message']}" if isinstance(stop, dict) and stop.get("message") else ""
        return (
            f"ended {moment(ended)} UTC, exit code {at.summary['exit_code']}{why}" if ended else "no run has ended yet"
        )
    who = f"pid {at.owner.pid} on {at.owner.host} since {moment(at.owner.since)} UTC"
    if at.running is False:
        return f"cut short: {who} is gone and left no last word"
    pace = f"{number(at.rate or 0.0)} rows/s"
    if at.rate and at.to_send:
        pace += f", about {duration(at.to_send / at.rate)} left"
    told = "running" if at.running else "held, look there whether it still runs"
    return f"{told}: {who}; {at.to_send:,} to send, {pace}"


def _where_words(at: FolderStatus) -> list[str]:
    results, report = at.files.get("results"), at.files.get("report")
    lines = [f"results   {results}" if results else f"results   none yet; to write them: d3async results {at.folder}"]
    if report:
        lines[0] += f"      report  {report}"
    lines += [f"look up   {at.files['unknown']}"] if "unknown" in at.files else []
    return lines + [f"{label:<9} {text}" for label, text in suggested_lines(at.steps)]


def fleet_lines(at: FleetSnapshot, address: FleetUrl) -> Iterator[str]:
    """The lines a user reads."""
    rows = sum(run.rows for run in at.runs)
    counts = ((len(at.runs), "run"), (rows, "row"), (sum(map(_alive, at.workers)), "worker"))
    yield f"{address}: " + ", ".join(f"{count:,} {noun}{'' if count == 1 else 's'}" for count, noun in counts)
    width = max((len(run.name) for run in at.runs), default=0)
    for run in at.runs:
        yield f"  {run.name:<{width}}  {_counts(run)}; {_how(run, at)}"
        yield from (f"  {'':<{width}}  {line}" for line in _details(run))
    yield from (_worker(worker, at) for worker in at.workers)


def run_lines(at: FleetStatus, where: str) -> Iterator[str]:
    """The lines about the one run of *at*; *where* is typed behind commands about the fleet."""
    [run] = at.fleet.runs
    site = f', site "{run.meta["site"]}"' if run.meta.get("site") else ""
    host = urlsplit(run.meta.get("base_url", "")).hostname or "D3"
    what = run.meta.get("command") or "mixed"
    yield f"{run.name}: {run.rows:,} rows of {run.meta.get('input')}, {what} for {run.tenant} at {host}{site}"
    yield _how(run, at.fleet)
    yield _counts(run)
    yield from by_hand_lines(at.by_hand)
    for cause in at.causes:
        yield f"  {cause.count:,} x {shorten(cause.text, _LINE, placeholder=' …')}"
    yield from (f"  {line}" for line in _details(run))
    for working in run.working:
        yield f"  chunk {working.chunk}: {working.who} since {moment(working.since)} UTC"
    yield f"results   d3async results {run.name}{where} -o {run.name}.results.csv"
    yield from (f"{label:<9} {text}" for label, text in suggested_lines(at.steps))


def _counts(run: RunStatus) -> str:
    outcomes = {**run.outcomes, "unknown": run.outcomes["unknown"] - run.in_flight}
    return counts_words(outcomes) + (f" · {run.in_flight:,} in flight" if run.in_flight else "")


def _how(run: RunStatus, at: FleetSnapshot) -> str:
    if run.cancelled_at is not None:
        stop = run.facts.get("stop")
        why = stop["message"] if isinstance(stop, dict) and stop.get("message") else "cancelled"
        return f"stopped {moment(run.cancelled_at)} UTC: {why}"
    if not run.open:
        if run.finished_at is None:
            return "done"
        return f"done {moment(run.finished_at)} UTC, exit code {run.exit_code}"
    if at.unserved(run):
        return f"waits: no worker serves {run.tenant}"
    if not run.working and not run.rate:
        return "waits for its turn"
    left = f", about {duration(run.to_send / run.rate)} left" if run.rate else ""
    return f"{number(run.rate)} rows/s{left}"


def _details(run: RunStatus) -> Iterator[str]:
    for trouble in run.troubles:
        tries = f" ({trouble.tries} tries)" if trouble.tries > 1 else ""
        told = f"chunk {trouble.chunk}: {trouble.message}{tries}"
        yield shorten(told, _LINE, placeholder=" …")


def _alive(worker: WorkerStatus) -> bool:
    return worker.silent < _SILENT


def _worker(worker: WorkerStatus, at: FleetSnapshot) -> str:
    busy = sum(working.who == worker.who for run in at.runs for working in run.working)
    silent = f", silent for {duration(worker.silent)}" if not _alive(worker) else ""
    serves = f"serves {len(worker.tenants):,} tenants, {worker.places} at a time"
    return f"{worker.who}: {serves}, {busy:,} now{silent}"
