"""A provider's night: does a fleet keep every limit, lose nothing, double nothing, and is it quick enough?

    python -m benchmarks.fleet [clean faults million hosts] [--quick]

`clean` and `faults` send 1,500 rows to each of four D3s through three workers; D3 is a stub that lets 50 requests a
second in, sliding, and looks for bodies that came twice. `faults` kills three workers, freezes one for 15 s and crashes
PostgreSQL. `million` submits a million rows for 200 tenants, asks for the status and for the results of a run of
200,000. `hosts` does it on four hosts, which are network namespaces, one of them cut off from the database for 30 s.
What is left out: real networks, TLS, a PostgreSQL that has anything else to do.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg

from benchmarks import jobs
from benchmarks.harness import Line, Scale, folder, keep, machine, shown
from benchmarks.stub import stub
from tests.database import running
from tests.fleet.ground import Fleet, fleet, freeze

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LIMIT, LATENCY = 50, 0.1
WORKERS = 3
KILLS, FREEZE = 3, 15.0
STALLED = "4s"
_ANSWERED = """
with opened as (
    update d3async_chunk set untouched = false where untouched returning run, round, lo, hi
)
insert into d3async_job(run, id, lane, state, attempts, http, sent_at, done_at, round, epoch)
select run, row, row, 'ok', 1, 200, 1.8e9 + row / 50.0, 1.8e9 + row / 50.0 + 0.2, round, 1
from opened, generate_series(lo, hi) row"""
"""As workers would have it in the end."""


@dataclass
class Outcome:
    """What became of a run of the fleet. *rate* is rows a second of the slowest tenant, from first send to last answer.

    *refused* counts requests that were the 51st within a second; *strange* is why results are not whole, if they
    are not.
    """

    tenants: int
    rows: int
    ok: int = 0
    unknown: int = 0
    lost: int = 0
    doubled: int = 0
    refused: int = 0
    rate: float = 0.0
    wall: float = 0.0
    cpu: float = 0.0
    strange: list[str] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Of the limit."""
        return self.rate / LIMIT


def send(place: Path, *, tenants: int, rows: int, hurt: Callable[[Fleet, Any], None] | None = None) -> Outcome:
    """Send *rows* rows to each of *tenants* D3s; *hurt* does what it likes to the fleet meanwhile."""
    found = Outcome(tenants, rows)
    began, cpu = time.monotonic(), cpu_of_children()
    with running() as server, stub(limit=LIMIT, latency=LATENCY, ports=tenants, count=True) as d3:
        urls = {f"t{number}": url for number, url in enumerate(d3.urls)}
        with fleet(place / "fleet", server.database(), urls, rate=LIMIT) as ground:
            submitted = ground.run("submit", *(ground.file(name, rows) for name in urls))
            if submitted.code:
                raise RuntimeError(submitted.err)
            for _ in range(WORKERS):
                ground.worker("--stalled-after", STALLED)
            if hurt is not None:
                hurt(ground, server)
            ground.wait(tenants * rows, seconds=60 + 2 * rows / LIMIT)
            read(ground, found)
            ground.end()
    found.wall, found.cpu = time.monotonic() - began, cpu_of_children() - cpu
    see(d3.all_seen, found)
    return found


def read(ground: Fleet, found: Outcome) -> None:
    for run in ground.tenants:
        lines = ground.results(run)
        became = Counter(line["_outcome"] for line in lines)
        found.ok += became["ok"]
        found.unknown += became["unknown"]
        if [line["_row"] for line in lines] != [str(row) for row in range(1, found.rows + 1)]:
            found.strange.append(f"the results of {run} are not its rows in their order")
        if became.keys() - {"ok", "unknown"}:
            found.strange.append(f"{run}: {dict(became)}")


def see(all_seen: list[dict[str, Any]], found: Outcome) -> None:
    found.doubled = sum(seen["duplicates"] for seen in all_seen)
    found.refused = sum(seen["refused"] for seen in all_seen)
    arrived = sum(seen["requests"] - seen["refused"] - seen["duplicates"] for seen in all_seen)
    found.lost = max(found.ok - arrived, 0)
    found.rate = min((seen["requests"] - seen["refused"]) / seen["seconds"] for seen in all_seen)


def cpu_of_children() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def faults(kills: int, frozen: float, *, every: float) -> Callable[[Fleet, Any], None]:
    """Kill a worker *every* so many seconds, *kills* times; freeze one meanwhile, and crash the database."""

    def hurt(ground: Fleet, server: Any) -> None:
        begin = time.monotonic()
        thawing = None
        for number in range(kills):
            time.sleep(max(begin + every * (number + 1) - time.monotonic(), 0))
            victim = ground.workers[-1 if number else 0]
            victim.send_signal(signal.SIGKILL)
            ground.worker("--stalled-after", STALLED)
            if thawing is None and frozen:
                thawing = threading.Thread(target=freeze, args=(ground.workers[1], frozen))
                thawing.start()
            if number == min(1, kills - 1):
                server.stop("immediate")
                time.sleep(1.0)
                server.start()
        if thawing is not None:
            thawing.join()

    return hurt


def clean_lines(scale: Scale) -> list[Line]:
    with folder() as place:
        found = send(place, tenants=4, rows=scale.of(1500, 300))
    return [
        _line("4 tenants, 3 workers, 50/s each", found, must="0.93 of the limit, 0 above it", good=found.share >= 0.93)
    ]


def faults_lines(scale: Scale) -> list[Line]:
    kills, frozen = (1, 5.0) if scale.quick else (KILLS, FREEZE)
    with folder() as place:
        found = send(place, tenants=4, rows=scale.of(1500, 400), hurt=faults(kills, frozen, every=scale.of(6, 4)))
    most = (kills + 2) * 4 * 32
    what = f"the same, {kills} x kill -9, a freeze of {frozen:g} s, PostgreSQL crashed"
    return [_line(what, found, must=f"0 lost, 0 doubled, unknown <= {most}", good=found.unknown <= most)]


def _line(what: str, found: Outcome, *, must: str, good: bool) -> Line:
    kept = not (found.lost or found.doubled or found.refused or found.strange)
    ours = (
        f"{found.ok:,} ok, {found.unknown} unknown, {found.lost} lost, {found.doubled} doubled, {found.refused} x 429; "
        f"slowest {found.rate:.1f}/s; CPU {found.cpu:.0f} s of {found.wall:.0f} s"
    )
    notes = {**found.notes, "strange": found.strange}
    return Line(what, "50 requests/s", ours, "50/s", round(found.share, 3), must, "", good and kept, [], notes)


def million_lines(scale: Scale) -> list[Line]:
    tenants, rows, large = scale.of(200, 20), scale.of(5000, 500), scale.of(200_000, 10_000)
    count = tenants * rows
    with folder() as place, running() as server:
        urls = {f"t{number:03}": f"http://127.0.0.1:{20_000 + number}/ce_site/VSOC" for number in range(tenants)}
        with fleet(place / "fleet", server.database(), urls) as ground:
            files = [ground.file(name, rows) for name in urls]
            submit, cpu = _timed(lambda: ground.run("submit", *files))
            status = [_status(ground, count, "none sent yet")]
            jobs.write_tasks(ground.folder / "large.csv", large)
            ground.run("submit", "large.csv", "--profile", "t000")
            results = [_results(ground, large, "none sent yet")]
            _answer_all(ground)
            status.append(_status(ground, count + large, "all answered"))
            results.append(_results(ground, large, "all answered"))
            size = ground.ask("select pg_database_size(current_database())")[0][0]
    return [
        Line(
            f"submit {count:,} rows for {tenants} tenants", "", f"{count / submit:,.0f} rows/s, {submit:.1f} s",
            f"CPU of ours {cpu:.1f} s", None, ">= 50,000 rows/s", "", count / submit >= 50_000, [],
            {"bytes_a_row": round(size / (count + large))},
        ),
        *status,
        *results,
    ]  # fmt: skip


def _answer_all(ground: Fleet) -> None:
    with psycopg.connect(ground.database, autocommit=True) as db:
        db.execute(_ANSWERED)
        # a database does so by itself, within a minute
        db.execute("vacuum analyze d3async_job")


def _status(ground: Fleet, count: int, how: str) -> Line:
    took, _ = _timed(lambda: ground.run("status"))
    return Line(f"status of {count:,} rows, {how}", "", f"{took:.2f} s", "", None, "< 1 s", "", took < 1.0)


def _results(ground: Fleet, count: int, how: str) -> Line:
    took, cpu = _timed(lambda: ground.run("results", "large", "-o", "large.results.csv"))
    return Line(
        f"results of {count:,} rows, {how}", "", f"{took:.2f} s", f"CPU of ours {cpu:.1f} s", None, "< 3 s", "",
        took < 3.0,
    )  # fmt: skip


def _timed(work: Callable[[], Any]) -> tuple[float, float]:
    before, cpu = time.monotonic(), cpu_of_children()
    told = work()
    if told.code:
        raise RuntimeError(told.err)
    return time.monotonic() - before, cpu_of_children() - cpu


def hosts_lines(scale: Scale) -> list[Line]:
    from tests.fleet import hosts  # noqa: PLC0415 - needs root and `ip`

    reason = hosts.missing()
    if reason:
        print(f"hosts: left out, {reason}", file=sys.stderr)
        return []
    with folder() as place:
        found = hosts.send(place, tenants=2, rows=scale.of(1500, 300), cut=scale.of(30, 8))
    what = f"4 hosts, one worker cut off from the database for {scale.of(30, 8)} s"
    return [_line(what, found, must="0 lost, 0 doubled, unknown <= 64", good=found.unknown <= 64)]


def measure(scale: Scale) -> list[Line]:
    return [line for part in PARTS.values() for line in part(scale)]


PARTS = {"clean": clean_lines, "faults": faults_lines, "million": million_lines, "hosts": hosts_lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="which; all of them by default")
    parser.add_argument("--quick", action="store_true", help="small sizes, rough figures")
    given = parser.parse_args()
    scale, began, lines = Scale(quick=given.quick, rounds=1), time.monotonic(), []
    for name in given.parts or PARTS:
        for line in PARTS[name](scale):
            print(shown(line), flush=True)
            lines.append(line)
    if not given.parts:
        keep("fleet", lines, scale=scale, seconds=time.monotonic() - began)
    print(f"{machine()}, load before {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else machine())


if __name__ == "__main__":
    main()
