"""`check --against-d3` and `run --verify`: the links of a file, or of a run, as D3 has them now."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from d3async.cli.console import say
from d3async.cli.ways import link_ways
from d3async.client import D3Client
from d3async.journal.stage import Stage
from d3async.readback import LinkCounts, against, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from d3async.journal.pairs import Pair, Source
    from d3async.journal.sqlite import RunFolder
    from d3async.limiter import Limiter
    from d3async.sansio.job import Invalid, Job
    from d3async.settings import Settings


def tell_against(entries: Iterable[Job | Invalid], settings: Settings, *, first: int = 20) -> LinkCounts:
    """Tell which pairs of the valid rows among *entries* are not linked in D3, the *first* ones by line.

    Memory does not grow with the file. Raises `SettingsError` without a key to read with, and what `against` does.
    """
    ways = link_ways(settings)
    told = 0

    def not_linked(source: Source, pair: Pair) -> None:
        nonlocal told
        told += 1
        if told <= first:
            say(f"  line {pair.line}: {source.number} is not linked to {pair.name}")

    with closing(sqlite3.connect("", isolation_level=None)) as db:
        stage = Stage(db, keep=False)
        db.execute("begin")
        stage.add(entries)
        counts = asyncio.run(_against(settings, db, ways, not_linked))
    if told > first:
        say(f"  and {told - first:,} more")
    say(f"In D3 now: {counts.linked:,} linked · {counts.gone:,} not linked (need not be sent){_unsure(counts)}")
    return counts


async def _against(
    settings: Settings, db: sqlite3.Connection, ways: tuple[str, ...], not_linked: Callable[[Source, Pair], None]
) -> LinkCounts:
    async with D3Client(settings) as client:
        return await against(client, db, ways, not_linked=not_linked)


async def verify_run(folder: RunFolder, settings: Settings, limiter: Limiter) -> LinkCounts:
    """Read back what the run that holds *folder* removed, under the run's own *limiter*; tell what is still there."""
    async with D3Client(settings, limiter=limiter) as client:
        counts = await verify(client, folder, link_ways(settings, direct=True))
    say(f"Read back: {counts.gone:,} gone · {counts.linked:,} still linked{_unsure(counts)}")
    return counts


def _unsure(counts: LinkCounts) -> str:
    return f" · {counts.cannot_tell:,} of which D3's answer does not tell" if counts.cannot_tell else ""
