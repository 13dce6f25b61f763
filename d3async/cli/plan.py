"""What a run is about to do, counted in the journal and told in a few lines before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from d3async.commands import all_commands

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from d3async.commands.base import Command
    from d3async.journal.adopt import Changes

_EXPECTED_UNKNOWN_RATE = 20.0


@dataclass(frozen=True, slots=True)
class Work:
    """What of one command is to be sent: rows, requests after merging, items; *facets* counts people, incidents …."""

    command: type[Command]
    rows: int
    requests: int
    items: int
    facets: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Plan:
    """A run about to start. *outcomes* is what earlier runs already know of the file's rows."""

    name: str
    base_url: str
    site: str
    works: tuple[Work, ...]
    outcomes: Mapping[str, int]
    changes: Changes
    rerun: bool
    mirrored: int
    rate: float | None

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
        """How long the limit makes it take."""
        return self.requests / (0.98 * self.rate if self.rate else _EXPECTED_UNKNOWN_RATE)


def works(db: sqlite3.Connection, links_per_call: int) -> tuple[Work, ...]:
    """What the rows marked to be sent come to."""
    found = db.execute("select command, count(*) from job where todo = 1 group by command order by command")
    return tuple(_work(db, all_commands()[name], rows, links_per_call) for name, rows in found.fetchall())


def _work(db: sqlite3.Connection, command: type[Command], rows: int, links_per_call: int) -> Work:
    items, requests = 0, rows
    if command.items:
        items, requests = db.execute(
            "select coalesce(sum(n), 0), coalesce(sum((n + ? - 1) / ?), 0) from"
            " (select count(distinct i.fold) n from item i join job j on j.id = i.job"
            " where i.todo = 1 and j.command = ? group by i.source)",
            (links_per_call, links_per_call, command.__name__),
        ).fetchone()
    facets = {
        name: db.execute(
            f"select count(distinct {_column(command, field)}) from job where todo = 1 and command = ?",  # noqa: S608 - a field of ours
            (command.__name__,),
        ).fetchone()[0]
        for name, field in command.facets.items()
    }
    return Work(command, rows, requests, items, facets)


def _column(command: type[Command], field: str) -> str:
    if field == command.subject:
        return "label"
    return f"json_extract(params, '$.\"{command.parameter(field)}\"')"


def told(plan: Plan) -> list[str]:
    """The plan in words, a line each."""
    host = urlsplit(plan.base_url).hostname or plan.base_url
    where = f' at {host}, site "{plan.site}"' if plan.site else f" at {host}"
    lines = [_work_words(work) + where for work in plan.works] or ["nothing to send"]
    if plan.rerun:
        lines.insert(0, _rerun_words(plan))
    if plan.outcomes.get("unknown") and plan.rows < sum(plan.outcomes.values()):
        lines.append(f"{plan.outcomes['unknown']:,} unknown from before: they may exist in D3")
    if plan.mirrored:
        lines.append(f"{plan.mirrored:,} pairs stand in the file both ways round (A-B and B-A)")
    if plan.works:
        lines.append(_pace_words(plan))
    return lines


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
            (changes.vanished, f"{changes.vanished:,} no longer in the file"),
        )
        if count
    ]
    return f"{', '.join(found) or 'as before'}; {done:,} done, {plan.rows:,} to send"


def _pace_words(plan: Plan) -> str:
    rate = f"{0.98 * plan.rate:.0f} requests/s" if plan.rate and plan.rate > 1 else "a rate still to be found"
    if plan.rate and plan.rate <= 1:
        rate = f"{plan.rate:g} requests/s"
    return f"about {duration(plan.seconds)} at {rate}"


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
    return f"{text[:1].upper()}{text[1:]}?"


def outcomes(db: sqlite3.Connection) -> dict[str, int]:
    """What the journal knows of the file's rows before this run sends anything."""
    spoken = {"pending": "unsent", "sent": "unknown"}
    counts: dict[str, int] = {}
    for state, count in db.execute("select state, count(*) from job where row is not null group by state"):
        name = spoken.get(state, state)
        counts[name] = counts.get(name, 0) + count
    return counts
