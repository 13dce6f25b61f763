"""What a run is about to do, counted in its journal before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from d3async.cli.servers import Server
from d3async.journal.counts import work_by_profile

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from d3async.cli.servers import Homes
    from d3async.journal.adopt import Changes
    from d3async.journal.counts import Work

AT_ONCE = 32
"""Servers that are worked on at the same time; the others wait for one of them to be done."""
_EXPECTED_UNKNOWN_RATE = 20.0


@dataclass(frozen=True, slots=True)
class Plan:
    """A run about to start. *outcomes* is what earlier runs already know of the file's rows.

    *servers* are those with rows to be sent, the one that takes longest first. *other_day* and *other_name* count rows
    that resemble rows sent before; see `sansio.look_alikes.mentioned`.
    """

    name: str
    servers: tuple[Server, ...]
    works: tuple[Work, ...]
    outcomes: Mapping[str, int]
    changes: Changes
    rerun: bool
    mirrored: int
    other_day: int = 0
    other_name: int = 0

    @property
    def rows(self) -> int:
        """Rows to send."""
        return sum(work.rows for work in self.works)

    @property
    def requests(self) -> int:
        """Requests expected, if none has to be repeated."""
        return sum(work.requests for work in self.works)

    @property
    def seconds(self) -> float:
        """How long the limits make it take."""
        each = [seconds(server) for server in self.servers]
        return max(max(each, default=0.0), sum(each) / AT_ONCE)


def seconds(server: Server) -> float:
    """How long its limit makes one server take."""
    rate = server.settings.rate
    return server.requests / (0.98 * rate if rate else _EXPECTED_UNKNOWN_RATE)


def shares(db: sqlite3.Connection, homes: Homes, works: tuple[Work, ...], links_per_call: int) -> tuple[Server, ...]:
    """What *works* come to for each of *homes*, the server that takes longest first."""
    if len(homes) == 1 and works:
        [(profile, settings)] = homes.items()
        names = tuple(work.command.__name__ for work in works)
        return (Server(profile, settings, names, sum(work.rows for work in works), sum(w.requests for w in works)),)
    found = work_by_profile(db, links_per_call)
    servers = [Server(profile, homes[profile], *work) for profile, work in found.items()]
    return tuple(sorted(servers, key=lambda server: -seconds(server)))


def duration(seconds: float) -> str:
    """`65 s`, `12 min`, `3 h 20 min`."""
    whole = max(1, round(seconds))
    if whole < 120:  # noqa: PLR2004 - two minutes read better in seconds
        return f"{whole} s"
    minutes = round(whole / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"  # noqa: PLR2004 - as above
