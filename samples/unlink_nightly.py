"""A clean-up for a scheduler: removes the links a file lists, within a window of time, and says how it went.

    15 2 * * *  python samples/unlink_nightly.py /srv/exports/unlink.csv /var/lib/unlink --window 7200

Each night has its own run folder. Started again in the same night, after a crash or by hand, it sends only what is
not done; `d3async status`, `results` and `reconcile` work on the folder. Exit code: 0 all removed, 1 not all, 2 it
could not start.
"""

import argparse
import asyncio
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path

from d3async import D3Client, D3Error, RemoveLinkedIncidents, Settings
from d3async.d3.commands import Reading, plain_due
from d3async.files.job_file import open_table
from d3async.jobs.row_to_job import RowOptions, RowReader

log = logging.getLogger("unlink_nightly")


async def clean_up(file: Path, runs: Path, window: float) -> int:
    """Remove the links of *file* for at most *window* seconds; how many rows are not `ok`. Raises `D3Error`."""
    settings = Settings.from_env(needs=["RemoveLinkedIncidents"])
    journal = runs / f"unlink-{datetime.now(UTC):%Y%m%d}.d3run"
    options = RowOptions(Reading(plain_due), command=RemoveLinkedIncidents, site=settings.site)
    with open_table(file) as table:
        reader = RowReader(options, table.header)
        async with D3Client(settings) as d3:
            run = d3.run(reader.read_all(table), journal=journal, halts=["failed=20%"])
            try:
                async with asyncio.timeout(window):
                    async for outcome in run:
                        if outcome.outcome != "ok":
                            log.warning("row %d: %s (%s)", outcome.row, outcome.outcome, outcome.code)
            except TimeoutError:
                log.warning("the window is over; type the same command again to go on")
                return 1
    log.info("%s, %d requests; more: d3async results %s", dict(run.counts), run.requests, journal)
    return run.counts.total() - run.counts["ok"]


def main() -> int:
    """Read the command line and run; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("file", type=Path, help="columns source and linked")
    parser.add_argument("runs", type=Path, help="the folder the nights' run folders are in")
    parser.add_argument("--window", type=float, default=7200, help="seconds it may take")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("d3async").setLevel(logging.WARNING)
    given.runs.mkdir(parents=True, exist_ok=True)
    try:
        return 1 if asyncio.run(clean_up(given.file, given.runs, given.window)) else 0
    except D3Error as error:
        log.error("%s", error.message)  # noqa: TRY400 - a line, not a traceback
        return 2


if __name__ == "__main__":
    sys.exit(main())
