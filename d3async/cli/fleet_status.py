"""Where a fleet stands, as an object and in words."""

from __future__ import annotations

import json
import textwrap
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from d3async.cli.console import clean, out
from d3async.cli.ending import counts_words
from d3async.cli.fleet_option import fleet_words
from d3async.cli.plan import duration
from d3async.cli.standing import by_hand_lines
from d3async.errors import JournalError
from d3async.files.causes import find_causes
from d3async.files.suggestions import fleet_run_steps, suggested_lines
from d3async.files.summary import instant
from d3async.files.words import moment, number
from d3async.fleet.address import installed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from d3async.files.causes import Cause
    from d3async.fleet.address import Address
    from d3async.fleet.standing import FleetStanding, RunStanding, WorkerSeen

_LINE = 110
_CAUSES = 5
_SILENT = 60.0


def tell(address: Address, name: str | None, option: str | None, *, as_json: bool) -> int:
    """Tell of the fleet at *address*, or of its run *name*; the exit code. Raises `JournalError`."""
    with installed():
        from d3async.fleet.connecting import connected_now  # noqa: PLC0415 - psycopg, for those who have a fleet
        from d3async.fleet.standing import standing  # noqa: PLC0415 - as above

        with connected_now(address) as connection:
            found = standing(connection, now=time.time(), name=name)
    if name is not None and not found.runs:
        raise JournalError(f"{address} has no run {name}; `d3async status` lists them.", code="no_run")
    if as_json:
        told = as_object(found, address) if name is None else run_object(found.runs[0], found)
        out(json.dumps(told, ensure_ascii=False))
        return 0
    lines = as_lines(found, address) if name is None else _run_lines(found, address, fleet_words(option, address))
    for line in lines:
        out(clean(line))
    return 0


def _run_lines(found: FleetStanding, address: Address, where: str) -> list[str]:
    from d3async.journal.postgres.read import PostgresReader  # noqa: PLC0415 - as above

    [run] = found.runs
    with PostgresReader(address.conninfo, run.name) as reader:
        causes, by_hand = find_causes(reader, keep=1).causes[:_CAUSES], reader.settled_by_hand()
    return list(run_lines(run, found, causes, where, by_hand=by_hand))


def as_lines(at: FleetStanding, address: Address) -> Iterator[str]:
    """The lines a user reads."""
    rows = sum(run.rows for run in at.runs)
    counts = ((len(at.runs), "run"), (rows, "row"), (sum(map(_alive, at.workers)), "worker"))
    yield f"{address}: " + ", ".join(f"{count:,} {noun}{'' if count == 1 else 's'}" for count, noun in counts)
    width = max((len(run.name) for run in at.runs), default=0)
    for run in at.runs:
        yield f"  {run.name:<{width}}  {_counts(run)}; {_how(run, at)}"
        yield from (f"  {'':<{width}}  {line}" for line in _details(run))
    yield from (_worker(worker, at) for worker in at.workers)


def run_lines(
    run: RunStanding, at: FleetStanding, causes: Sequence[Cause], where: str, *, by_hand: Mapping[str, int]
) -> Iterator[str]:
    """The lines about one run, with the *causes* of its troubles; *where* is typed behind commands about the fleet.

    *by_hand*: rows settled by hand, by outcome.
    """
    site = f', site "{run.meta["site"]}"' if run.meta.get("site") else ""
    host = urlsplit(run.meta.get("base_url", "")).hostname or "D3"
    what = run.meta.get("command") or "mixed"
    yield f"{run.name}: {run.rows:,} rows of {run.meta.get('input')}, {what} for {run.tenant} at {host}{site}"
    yield _how(run, at)
    yield _counts(run)
    yield from by_hand_lines(by_hand)
    for cause in causes:
        yield f"  {cause.count:,} x {textwrap.shorten(cause.text, _LINE, placeholder=' …')}"
    yield from (f"  {line}" for line in _details(run))
    for working in run.working:
        yield f"  chunk {working.chunk}: {working.who} since {moment(working.since)} UTC"
    yield f"results   d3async results {run.name}{where} -o {run.name}.results.csv"
    yield from next_lines(run, where)


def next_lines(run: RunStanding, where: str) -> Iterator[str]:
    """What to do next; nothing while a run goes on."""
    if run.open:
        return
    steps = fleet_run_steps(run.name, run.outcomes, run.facts, where.split())
    yield from (f"{label:<9} {text}" for label, text in suggested_lines(steps))


def _counts(run: RunStanding) -> str:
    outcomes = {**run.outcomes, "unknown": run.outcomes["unknown"] - run.in_flight}
    return counts_words(outcomes) + (f" · {run.in_flight:,} in flight" if run.in_flight else "")


def _how(run: RunStanding, at: FleetStanding) -> str:
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


def _details(run: RunStanding) -> Iterator[str]:
    for trouble in run.troubles:
        tries = f" ({trouble.tries} tries)" if trouble.tries > 1 else ""
        told = f"chunk {trouble.chunk}: {trouble.message}{tries}"
        yield textwrap.shorten(told, _LINE, placeholder=" …")


def _alive(worker: WorkerSeen) -> bool:
    return worker.silent < _SILENT


def _worker(worker: WorkerSeen, at: FleetStanding) -> str:
    busy = sum(working.who == worker.who for run in at.runs for working in run.working)
    silent = f", silent for {duration(worker.silent)}" if not _alive(worker) else ""
    serves = f"serves {len(worker.tenants):,} tenants, {worker.places} at a time"
    return f"{worker.who}: {serves}, {busy:,} now{silent}"


def as_object(at: FleetStanding, address: Address) -> dict[str, Any]:
    """The same for programs. Rows in flight are among `outcomes.unknown`, so that outcomes add up to the rows."""
    return {
        "fleet": str(address),
        "at": instant(time.time()),
        "runs": [run_object(run, at) for run in at.runs],
        "workers": [
            {
                "who": worker.who, "version": worker.version, "places": worker.places,
                "tenants": list(worker.tenants), "silent_s": round(worker.silent, 1),
            }
            for worker in at.workers
        ],
    }  # fmt: skip


def run_object(run: RunStanding, at: FleetStanding) -> dict[str, Any]:
    """One run for programs."""
    meta = run.meta
    return {
        "run": run.name,
        "tenant": run.tenant,
        "command": meta.get("command", ""),
        "input": {"path": meta.get("input"), "sha256": meta.get("sha256"), "rows": int(meta.get("rows") or 0)},
        "base_url": meta.get("base_url"),
        "site": meta.get("site"),
        "outcomes": run.outcomes,
        "in_flight": run.in_flight,
        "to_send": run.to_send,
        "running": run.open,
        "served": not at.unserved(run),
        "rate": round(run.rate, 2),
        **{name: instant(getattr(run, name)) for name in ("started_at", "finished_at", "cancelled_at")},
        "exit_code": run.exit_code,
        "stop": run.facts.get("stop"),
        "working": [
            {"chunk": working.chunk, "who": working.who, "since": instant(working.since)} for working in run.working
        ],
        "troubles": [
            {"chunk": trouble.chunk, "tries": trouble.tries, "code": trouble.code, "message": trouble.message}
            for trouble in run.troubles
        ],
    }
