"""One file for several D3 servers: its column `profile` says which row goes where. One results file for all of them.

    python samples/many_sites.py tasks.csv tasks.runs

`d3async run tasks.csv` reads such a file just like that; this is how an app does it, with a client for each server.

Each server has its own profile in config.toml: base URL, user, keys, rate. Each has its own client, so its own limiter
and its own journal in the folder: one that is down, or whose key is wrong, ends its own rows and nobody else's. Run it
again to go on. Exit code: 0 every row ok, 1 not every row, 2 nothing could be read.
"""

import argparse
import asyncio
import csv
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from d3async import D3Client, D3Error, Settings
from d3async.d3.commands import Reading, plain_due
from d3async.errors import JobFileError
from d3async.files.job_file import Table, open_table
from d3async.files.results_writer import guarded
from d3async.jobs.job import Invalid, Job, Row
from d3async.jobs.row_to_job import RowOptions, RowReader

COLUMN = "profile"


@dataclass
class Site:
    """What is known of one server's part: its rows' numbers in the file, each row's outcome, what went wrong."""

    rows: list[int] = field(default_factory=list)
    outcomes: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    problem: str = ""


def settings_of(profile: str) -> Settings:
    """The profile's settings alone: variables like D3_BASE_URL come before a profile, and would make all sites one."""
    environ = {name: text for name, text in os.environ.items() if not name.startswith("D3_") or name == "D3_CONFIG"}
    return Settings.from_env(environ, profile=profile)


def sites_of(table: Table) -> dict[str, Site]:
    """Which rows go where."""
    sites: dict[str, Site] = {}
    for row in table:
        sites.setdefault(profile_of(row), Site()).rows.append(row.number if isinstance(row, Row) else row.row)
    return sites


def profile_of(row: Row | Invalid) -> str:
    """The profile that *row* names; "" where it cannot be read."""
    names = [name.strip().casefold() for name in row.keys] if isinstance(row, Row) else []
    return str(row.cells[names.index(COLUMN)]).strip() if isinstance(row, Row) and COLUMN in names else ""


def jobs_for(table: Table, profile: str, site: str) -> Iterator[Job | Invalid]:
    """The rows of *profile*, read anew: memory does not grow with the file."""
    reader = RowReader(RowOptions(Reading(plain_due), site=site), table.header)
    return reader.read_all(row for row in table if profile_of(row) == profile)


async def bring(file: Path, name: str, site: Site, folder: Path) -> None:
    """Run the rows of one server; whatever happens to it stays here."""
    try:
        settings = settings_of(name)
        with open_table(file) as table:
            async with D3Client(settings) as d3:
                jobs = jobs_for(table, name, settings.site)
                async for told in d3.run(jobs, journal=folder / quote(name, safe="")):
                    site.outcomes[site.rows[told.row - 1]] = (told.outcome, told.code, told.message)
    except D3Error as error:
        site.problem = error.message


def write_results(path: Path, sites: dict[str, Site]) -> None:
    """One line a row, in the order of the file."""
    lines = [
        (row, name, *site.outcomes.get(row, ("unsent", "", site.problem)))
        for name, site in sites.items()
        for row in site.rows
    ]
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(["_row", COLUMN, "_outcome", "_code", "_message"])
        writer.writerows([line[0], *map(guarded, line[1:])] for line in sorted(lines))


async def everywhere(file: Path, folder: Path) -> dict[str, Site]:
    """Bring every server to what *file* says of it, all at the same time. Raises `JobFileError`."""
    with open_table(file) as table:
        sites = sites_of(table)
    async with asyncio.TaskGroup() as everybody:
        for name, site in sites.items():
            everybody.create_task(bring(file, name, site, folder))
    return sites


def main() -> int:
    """Read the command line, run, tell; the exit code."""
    parser = argparse.ArgumentParser(description="Rows of one file to several D3 servers")
    parser.add_argument("file", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    given.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        sites = asyncio.run(everywhere(given.file, given.folder))
    except JobFileError as error:
        print(error.message, file=sys.stderr)
        return 2
    write_results(given.folder / "results.csv", sites)
    left = 0
    for name, site in sites.items():
        oks = sum(outcome == "ok" for outcome, _, _ in site.outcomes.values())
        left += len(site.rows) - oks
        print(f"{name or '(no profile)'}: {oks} of {len(site.rows)} ok{f'; {site.problem}' if site.problem else ''}")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
