"""What plan, checks and summary count in the journal of a run folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from d3async.commands import all_commands

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from d3async.commands.base import Command

_LEFT = "select exists(select 1 from job where row is not null and (state != 'ok' or coalesce(code, '') != ''))"
_UNKNOWN = """
select command, count(*) from job where row is not null and state in ('unknown', 'sent') {0} group by command"""
_DUE_ZONES = """
select substr(json_extract(body, '$.rawData."Due Date"'), 21), count(*) from answer
join job on job.answer = answer.id where job.command = 'CreateTask' and job.row is not null
and job.epoch = ? and json_valid(body) group by 1 order by 2 desc limit 20"""
_LINKS = """
select coalesce(sum(n), 0), coalesce(sum((n + ? - 1) / ?), 0) from
    (select count(distinct i.fold) n from item i join job j on j.id = i.job
    where i.todo = 1 and j.command = ? group by i.source)"""
_CALLS_BY_PROFILE = """
select profile, sum((n + ? - 1) / ?) from (select j.profile, count(distinct i.fold) n from item i
    join job j on j.id = i.job where i.todo = 1 group by i.source) group by profile"""
_ROWS_BY_PROFILE = """
select profile, command, count(*) from job where todo = 1 group by profile, command order by command"""


@dataclass(frozen=True, slots=True)
class Work:
    """What of one command is to be sent: rows, requests after merging, items; *facets* counts people, incidents …."""

    command: type[Command]
    rows: int
    requests: int
    items: int
    facets: Mapping[str, int]


class ProfileWork(NamedTuple):
    """What is to be sent to the server of one profile: names of commands, rows, requests after merging."""

    commands: tuple[str, ...]
    rows: int
    requests: int


def work_to_send(db: sqlite3.Connection, links_per_call: int, *, routed: bool = False) -> tuple[Work, ...]:
    """The rows marked to be sent, by command; *routed* says whether they go to several servers."""
    found = db.execute("select command, count(*) from job where todo = 1 group by command order by command")
    commands = {all_commands()[name]: rows for name, rows in found.fetchall()}
    return tuple(_work(db, command, rows, links_per_call, routed=routed) for command, rows in commands.items())


def _work(db: sqlite3.Connection, command: type[Command], rows: int, links_per_call: int, *, routed: bool) -> Work:
    items, requests = 0, rows
    if command.items:
        items, requests = db.execute(_LINKS, (links_per_call, links_per_call, command.__name__)).fetchone()
    facets = {
        name: db.execute(
            f"select count(distinct {_column(command, field, routed=routed)}) from job where todo = 1 and command = ?",
            (command.__name__,),
        ).fetchone()[0]
        for name, field in command.facets.items()
    }
    return Work(command, rows, requests, items, facets)


def _column(command: type[Command], field: str, *, routed: bool) -> str:
    if field == command.subject:
        # the same number at two servers is two incidents
        return "coalesce(profile || char(30), '') || label" if routed else "label"
    return f"json_extract(params, '$.\"{command.parameter(field)}\"')"


def work_by_profile(db: sqlite3.Connection, links_per_call: int) -> dict[str | None, ProfileWork]:
    """The rows marked to be sent, by the profile that they go to; None is that of rows that name none."""
    commands: dict[str | None, dict[str, int]] = {}
    for profile, command, rows in db.execute(_ROWS_BY_PROFILE):
        commands.setdefault(profile, {})[command] = rows
    calls = dict(db.execute(_CALLS_BY_PROFILE, (links_per_call, links_per_call)).fetchall())
    return {
        profile: ProfileWork(tuple(rows), sum(rows.values()), _without_items(rows) + calls.get(profile, 0))
        for profile, rows in commands.items()
    }


def _without_items(rows: Mapping[str, int]) -> int:
    """Of *rows* by command, those that take a request each."""
    return sum(count for name, count in rows.items() if not all_commands()[name].items)


def commands_to_send(db: sqlite3.Connection) -> list[str]:
    """The names of the commands of the rows marked to be sent."""
    return [name for (name,) in db.execute("select distinct command from job where todo = 1 order by 1")]


def is_all_done(db: sqlite3.Connection) -> bool:
    """Whether every row of the file is ok without a remark."""
    return not db.execute(_LEFT).fetchone()[0]


def vanished_rows(db: sqlite3.Connection) -> int:
    """Rows that were in an earlier state of the file and are no longer."""
    return int(db.execute("select count(*) from job where row is null").fetchone()[0])


def unknown_by_command(db: sqlite3.Connection, *, staged: bool = False) -> dict[str, int]:
    """Rows of the file that may have happened, by command; only those that are *staged*, of a feedback file."""
    among = "and row in (select row from temp.incoming)" if staged else ""
    return dict(db.execute(_UNKNOWN.format(among)).fetchall())


def was_sent_to(db: sqlite3.Connection, profile: str | None) -> bool:
    """Whether a row of *profile* was ever sent."""
    found = db.execute("select exists(select 1 from job where profile is ? and attempts > 0)", (profile,))
    return bool(found.fetchone()[0])


def due_zones(db: sqlite3.Connection, epoch: int) -> dict[str, int]:
    """The time zones that D3 read due dates in, by its answers to the run of *epoch*, with how many tasks.

    D3's pages do not name the zone; its answer does.
    """
    return {zone: count for zone, count in db.execute(_DUE_ZONES, (epoch,)).fetchall() if zone}
