"""d3async in a program of yours. With D3_* settings it talks to that D3, without any to a sandbox of its own.

python samples/library_use.py
"""

import asyncio
import os
from contextlib import AsyncExitStack
from datetime import datetime

from d3async import CreateTask, D3Client, D3Error, RemoveLinkedIncidents, Settings, sandbox
from d3async.errors import RefusedError, UnknownOutcomeError

SOURCE = "20231025-130"


async def main() -> None:
    """One command at a time, then many as a run."""
    async with AsyncExitStack() as stack:
        if "D3_BASE_URL" in os.environ:
            settings = Settings.from_env()
        else:
            links = [(SOURCE, "20210127-197"), (SOURCE, "20210127-198")]
            url = await stack.enter_async_context(sandbox.serve(links=links))
            settings = Settings.from_env(url.env)
        d3 = await stack.enter_async_context(D3Client(settings))
        await one_at_a_time(d3)
        await many(d3)


async def one_at_a_time(d3: D3Client) -> None:
    """What D3 refuses is raised; so is what nobody can know, as an error of its own."""
    due = datetime(2026, 12, 31, 17, 0)  # noqa: DTZ001 - D3 takes no zone: it reads the date in one of its own
    try:
        task = await d3.create_task(
            incident="20220125-1",
            name="Call the user",
            description="Ask whether the sign-in from abroad was theirs.",
            assignee="admin user",
            due=due,
            timeout=30,
        )
        print(f"created: {task.name}, due {task.due}")
    except RefusedError as error:
        print(f"refused: {error.message}")
    except UnknownOutcomeError as error:
        print(f"look before you send it again: {error.message}")

    links = await d3.remove_linked_incidents(SOURCE, ["20210127-197", "20990101-1"])
    print(f"removed: {links.removed}, refused: {[error.incident for error in links.refused]}")


async def many(d3: D3Client) -> None:
    """Hundreds go as one run: paced, merged, every job with one outcome. A journal makes it safe to repeat."""
    jobs = [
        *(
            CreateTask(
                incident=f"20220125-{number}",
                name="Collect the logs",
                description="From the proxy and the mail gateway.",
                assignee="admin user",
                due="2026-12-31 17:00:00",
            )
            for number in range(1, 11)
        ),
        RemoveLinkedIncidents(source=SOURCE, linked=["20210127-198"]),
    ]
    run = d3.run(jobs)  # d3.run(jobs, journal="collect.d3run") would go on where an earlier run ended
    try:
        async for outcome in run:
            if outcome.outcome != "ok":
                print(f"job {outcome.row}: {outcome.outcome} ({outcome.code}) {outcome.message}")
    except D3Error as error:
        print(f"ended early: {error.message}")
    print(f"{len(jobs)} jobs: {dict(run.counts)}, {run.requests} requests")


if __name__ == "__main__":
    asyncio.run(main())
