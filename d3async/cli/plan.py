"""What a run is about to do, counted in the journal and told in a few lines before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from d3async.cli.servers import Server
from d3async.journal.counts import work_by_profile
from d3async.sansio.look_alikes import mentioned

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from d3async.cli.servers import Homes
    from d3async.journal.adopt import Changes
    from d3async.journal.counts import Work

AT_ONCE = 32
"""Servers that are worked on at the same time; the others wait for one of them to be done."""
_EXPECTED_UNKNOWN_RATE = 20.0
_SHOWN = 12


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


def told(plan: Plan) -> list[str]:
    """The plan in words, a line each."""
    lines = [_work_words(work) + _where(plan) for work in plan.works] or ["nothing to send"]
    if len(plan.servers) > 1:
        lines += _server_lines(plan)
    if plan.rerun:
        lines.insert(0, _rerun_words(plan))
    if plan.outcomes.get("unknown") and plan.rows < sum(plan.outcomes.values()):
        lines.append(f"{plan.outcomes['unknown']:,} unknown from before: they may exist in D3")
    if plan.mirrored:
        lines.append(f"{plan.mirrored:,} pairs stand in the file both ways round (A-B and B-A)")
    lines += mentioned(plan.other_day, plan.other_name)
    if plan.works:
        lines.append(_pace_words(plan))
    return lines


def _where(plan: Plan) -> str:
    if len(plan.servers) > 1:
        return f" at {len(plan.servers):,} servers"
    settings = plan.servers[0].settings
    return f' at {_host(settings.base_url)}, site "{settings.site}"'


def _host(base_url: str) -> str:
    return urlsplit(base_url).hostname or base_url


def _server_lines(plan: Plan) -> list[str]:
    shown = plan.servers[:_SHOWN]
    width = max(len(server.name) for server in shown)
    lines = [
        f"  {server.name:{width}}  {server.rows:,} row{'s' * (server.rows != 1)} at {_host(server.settings.base_url)},"
        f' site "{server.settings.site}", about {duration(seconds(server))} at {_rate_words(server.settings.rate)}'
        for server in shown
    ]
    more = len(plan.servers) - len(shown)
    return [*lines, f"  and {more:,} more"] if more else lines


def _work_words(work: Work) -> str:
    count = work.items if work.command.items else work.rows
    one, many = work.command.nouns
    words = f"{count:,} {one if count == 1 else many} to {work.command.verb}"
    facets = [f"{number:,} {_singular(name) if number == 1 else name}" for name, number in work.facets.items()]
    joints = (" for ", " in ") if len(facets) > 1 else (" of ",)
    words += "".join(joint + facet for joint, facet in zip(joints, facets, strict=False))
    if work.command.items and work.requests != count:
        words += f", in {work.requests:,} requests"
    return words


def _singular(name: str) -> str:
    return "person" if name == "people" else name.removesuffix("s")


def _rerun_words(plan: Plan) -> str:
    done = plan.outcomes.get("ok", 0)
    changes = plan.changes
    found = [
        text
        for count, text in (
            (changes.new, f"{changes.new:,} new" + (" or mended" if changes.mended else "")),
            (changes.changed, f"{changes.changed:,} changed"),
            (changes.changed_after_ok, f"{changes.changed_after_ok:,} changed after they were done (not sent again)"),
            (changes.changed_in_doubt, f"{changes.changed_in_doubt:,} changed while unknown (not sent again)"),
            (changes.read_otherwise, _as_read_then(changes.read_otherwise)),
            (changes.as_mended, f"{changes.as_mended:,} done as mended in a feedback file"),
            (changes.vanished, f"{changes.vanished:,} no longer in the file"),
        )
        if count
    ]
    return f"{', '.join(found) or 'as before'}; {done:,} done, {plan.rows:,} to send"


def _as_read_then(rows: int) -> str:
    return f"{rows:,} row{'s are' if rows != 1 else ' is'} done as {'they were' if rows != 1 else 'it was'} read then"


def _pace_words(plan: Plan) -> str:
    if len(plan.servers) > 1:
        return f"about {duration(plan.seconds)}, all at the same time"
    return f"about {duration(plan.seconds)} at {_rate_words(plan.servers[0].settings.rate)}"


def _rate_words(rate: float | None) -> str:
    if rate and rate <= 1:
        return f"{rate:g} requests/s"
    return f"{0.98 * rate:.0f} requests/s" if rate else "a rate still to be found"


def duration(seconds: float) -> str:
    """`65 s`, `12 min`, `3 h 20 min`."""
    whole = max(1, round(seconds))
    if whole < 120:  # noqa: PLR2004 - two minutes read better in seconds
        return f"{whole} s"
    minutes = round(whole / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"  # noqa: PLR2004 - as above


def question(plan: Plan) -> str:
    """What is asked before sending."""
    parts = []
    for work in plan.works:
        count = work.items if work.command.items else work.rows
        parts.append(f"{work.command.verb} {count:,} {work.command.nouns[count != 1]}")
    text = " and ".join(parts)
    like = plan.other_day + plan.other_name
    resembling = f" ({like:,} of them resemble tasks sent before)" if like else ""
    return f"{text[:1].upper()}{text[1:]}{resembling}?"
