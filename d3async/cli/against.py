"""`check --against-d3` and `run --verify`: the links of a file, or of a run, as D3 has them now."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from d3async.cli.servers import name_of
from d3async.client import D3Client
from d3async.connect import host_limiter
from d3async.errors import D3Error
from d3async.journal.session import FolderSession, SqliteSession
from d3async.journal.stage import Stage
from d3async.operations.lookup_commands import link_lookup_commands
from d3async.readback import LinkCounts, against, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from d3async.cli.servers import Server, Servers
    from d3async.journal.pairs import Pair, Source
    from d3async.journal.sqlite import RunFolder
    from d3async.limiter import Limiter
    from d3async.operations.observer import Observer
    from d3async.sansio.job import Invalid, Job
    from d3async.settings import Settings


def compare_with_d3(entries: Iterable[Job | Invalid], servers: Servers, observer: Observer, *, first: int = 20) -> None:
    """Report which pairs of the valid rows among *entries* are not linked in D3, the *first* ones by line.

    Memory does not grow with the file. Raises `SettingsError` without a key to read with, and what `against` does; of
    several servers one that cannot be asked is told, and the others are asked all the same.
    """
    with closing(sqlite3.connect("", isolation_level=None)) as db:
        stage = Stage(db, keep=False)
        db.execute("begin")
        stage.add(entries)
        profiles = stage.profiles() or [None]
        asked = {profile: servers.of(profile) for profile in profiles}
        ways = {profile: link_lookup_commands(settings) for profile, settings in asked.items()}
        for profile, settings in asked.items():
            name = "" if len(asked) == 1 else f"{name_of(profile)}: "
            try:
                _compare(_Asked(profile, name, settings, ways[profile]), db, first, observer)
            except D3Error as error:
                if not name:
                    raise
                observer.message(f"{name}could not be asked: {error.message}")


@dataclass(frozen=True, slots=True)
class _Asked:
    """One D3, the commands to read it with, and what its lines begin with."""

    profile: str | None
    name: str
    settings: Settings
    ways: tuple[str, ...]


def _compare(at: _Asked, db: sqlite3.Connection, first: int, observer: Observer) -> None:
    told = 0

    def not_linked(source: Source, pair: Pair) -> None:
        nonlocal told
        told += 1
        if told <= first:
            observer.message(f"  {at.name}line {pair.line}: {source.number} is not linked to {pair.name}")

    counts = asyncio.run(_against(at, db, not_linked, observer))
    if told > first:
        observer.message(f"  and {told - first:,} more")
    gone = f"{counts.gone:,} not linked (need not be sent)"
    observer.message(f"{at.name}In D3 now: {counts.linked:,} linked · {gone}{_unsure(counts)}")


async def _against(
    at: _Asked, db: sqlite3.Connection, not_linked: Callable[[Source, Pair], None], observer: Observer
) -> LinkCounts:
    async with D3Client(at.settings, limiter=host_limiter(at.settings, observer.message)) as client:
        return await against(client, SqliteSession(db), at.ways, not_linked=not_linked, profile=at.profile)


async def verify_run(
    folder: RunFolder, server: Server, limiter: Limiter, *, only: bool, tell: Callable[[str], None]
) -> LinkCounts:
    """Read back what the run that holds *folder* removed at *server*, under its own *limiter*; tell what stays linked.

    Lines begin with its name unless it is the *only* one.
    """
    async with D3Client(server.settings, limiter=limiter) as client:
        counts = await verify(
            client, FolderSession(folder), link_lookup_commands(server.settings, direct=True), profile=server.profile
        )
    name = "" if only else f"{server.name}: "
    tell(f"{name}Read back: {counts.gone:,} gone · {counts.linked:,} still linked{_unsure(counts)}")
    return counts


def _unsure(counts: LinkCounts) -> str:
    return f" · {counts.cannot_tell:,} of which D3's answer does not tell" if counts.cannot_tell else ""
