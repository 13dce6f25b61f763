"""A run folder's journal at one moment, for all that is written from it; what plan and summary count."""

from __future__ import annotations

import json
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from d3async.d3.commands import all_commands
from d3async.errors import JournalError
from d3async.jobs.feedback_rows import row_mark
from d3async.jobs.identity import VERSION as IDENTITY
from d3async.journal.model import INTERRUPTED, FolderOwner, ItemRecord, RowRecord, outcome_of, states_of
from d3async.journal.protocols import SQLITE, ReaderBase
from d3async.journal.sqlite.schema import VERSION, check_parts
from d3async.journal.sqlite.session import NAMES, WRITTEN
from d3async.policy.outcome import NOT_LINKED, OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from d3async.d3.commands import Command
    from d3async.jobs.feedback_rows import Mark

FILE = "journal.sqlite"

_SPOKEN = """
    case {0}.state when 'pending' then 'unsent' when 'sent' then 'unknown' else {0}.state end,
    case {0}.state when 'sent' then 'interrupted' else coalesce({0}.code, '') end,
    case {0}.state when 'sent' then '{1}' else coalesce({0}.message, '') end"""
_TRIED = ", ".join(
    f"case when count(i.id) > sum(i.state = 'pending') then sum(i.state in {states}) end"
    for states in ("('ok')", "('failed')", "('unknown', 'sent')")
)
_NOT_WRITABLE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
_WITH_ITEMS = "left join item i on i.job = j.id"


class FolderReader(ReaderBase):
    """A journal at one moment: whatever is asked, the answers belong together, also while a run is writing.

    Raises `JournalError` when *path* is missing, torn, no journal, or of a newer d3async. It changes nothing; where
    it may, it opens the file for writing all the same, so that SQLite tidies its `-wal` and `-shm` away on closing.
    """

    figures = SQLITE

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._path = path
        self.folder = path.parent
        if not path.is_file():
            raise JournalError(f"{path.parent} is no run folder: it has no {path.name}; `d3async run FILE` makes one")
        with self._translated():
            self._db = _opened(path)
        try:
            with self._translated():
                check_parts(self._db, path)
            self._check_schema()
            self._has_items = bool(self._one("select exists(select 1 from item)"))
        except JournalError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the moment and of the file."""
        self._db.close()

    def meta(self) -> dict[str, str]:
        """Everything the journal says about itself and its file."""
        return dict(self._all("select key, value from meta"))

    def owner(self) -> FolderOwner | None:
        """Who holds the run folder, or who held it last without letting go."""
        told = self._one("select value from meta where key = 'owner'")
        if not told:
            return None
        known = json.loads(told)
        return FolderOwner(int(known["pid"]), str(known["host"]), known.get("since"))

    def counts_by_profile(self) -> dict[str | None, dict[str, int]]:
        """As `counts`, for each profile that rows of the current file go to; None are those without one."""
        found: dict[str | None, dict[str, int]] = {}
        asked = "select profile, state, count(*) from job where row is not null and state != 'invalid' group by 1, 2"
        for profile, state, number in self._each(asked):
            counts = found.setdefault(profile, dict.fromkeys(OUTCOMES, 0))
            counts[outcome_of(state)] += number
        return found

    def unknown_rows(self) -> list[tuple[str | None, str, int]]:
        """Rows that may have happened, as (profile, command, count)."""
        profile = "profile" if self.meta().get("profiles") else "null"
        return self._all(
            f"select {profile}, command, count(*) from job"
            " where row is not null and state in ('unknown', 'sent') group by 1, 2"
        )

    def unknown_examples(self, limit: int) -> list[tuple[int, str, str]]:
        """The first rows that may have happened, *limit* at most, as (line, label, message)."""
        asked = "select line, label, message from job where row is not null and state in ('unknown', 'sent')"
        return self._all(f"{asked} order by row limit ?", limit)

    def base_urls(self) -> dict[str | None, str]:
        """Where rows go, by profile; None is that of rows that name none."""
        meta = self.meta()
        own: dict[str | None, str] = {None: meta["base_url"]} if meta.get("base_url") else {}
        profiles = json.loads(meta.get("profiles") or "{}")
        return own | {name: home["base_url"] for name, home in profiles.items()}

    def to_mend(self) -> int:
        """Rows that are wrong or that D3 refused, but for those that have nothing left to do."""
        return self._number(
            "select count(*) from job where row is not null and (state = 'invalid'"
            " or (state = 'failed' and coalesce(code, '') != ?) or (state = 'partial' and exists("
            "select 1 from item where item.job = job.id and item.state = 'failed' and coalesce(item.code, '') != ?)))",
            NOT_LINKED,
            NOT_LINKED,
        )

    def failed_with(self, codes: Collection[str]) -> int:
        """Rows that failed with one of *codes*."""
        marks = ",".join("?" * len(codes))
        asked = f"select count(*) from job where row is not null and state = 'failed' and code in ({marks})"
        return self._number(asked, *codes)

    def has_identical(self, commands: Sequence[str]) -> bool:
        """Whether rows of *commands* that ask for the same are among those that are left."""
        marks = ",".join("?" * len(commands))
        return bool(
            self._one(
                "select exists(select 1 from job where row is not null and occurrence > 0"
                f" and state != 'invalid' and command in ({marks}))",
                *commands,
            )
        )

    def has_mended_left(self) -> bool:
        """Whether rows that a feedback file changed were not sent since."""
        if self._one("select value from meta where key = 'identity'") is None:
            return False  # of a version without feedback files
        asked = "select exists(select 1 from job where state = 'pending' and row is not null and id in"
        return bool(self._one(f"{asked} (select job from mended))"))

    def brought_forward(self) -> bool:
        """Whether the last run brought a row to `ok`."""
        asked = "select exists(select 1 from job where state = 'ok' and epoch = (select max(epoch) from run))"
        return bool(self._one(asked))

    def rows(self, outcomes: Iterable[str] | None = None, *, full: bool = False) -> Iterator[RowRecord]:
        """Rows of the current file, in its order; only those of *outcomes* if any; label and answer only if *full*."""
        wanted = None if outcomes is None else tuple(outcomes)
        if wanted is not None and not any(self.counts()[outcome] for outcome in wanted):
            return iter(())
        chosen, states = _chosen(wanted)
        tally, joined = ("null, null, null", "") if not self._has_items else (_TRIED, _WITH_ITEMS)
        more = "j.label, j.answer" if full else "null, null"
        sql = f"""select j.row, j.line, {_SPOKEN.format("j", INTERRUPTED)},
            j.http, j.attempts, j.sent_at, j.done_at, j.raw, {tally}, {more}
            from job j {joined} where j.row is not null {chosen} {"group by j.row" if joined else ""} order by j.row"""
        return map(RowRecord._make, self._each(sql, *states))

    def some_rows(
        self, outcomes: Sequence[str] = (), search: str = "", *, skip: int = 0, most: int = 50
    ) -> tuple[list[RowRecord], int]:
        """*most* rows of *outcomes* (all, if there are none) that have *search* in them, after *skip*; how many in all.

        *search* is looked for in the row's text and its message, without regard to the case of ASCII letters.
        """
        chosen, states = _chosen(outcomes or None)
        counts = self.counts()
        text = "%" + search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        like, texts = (
            ("and (j.raw like ? escape '\\' or j.message like ? escape '\\')", (text, text)) if search else ("", ())
        )
        among = f"from job j where j.row is not null {chosen} {like}"
        count = sum(counts[name] for name in outcomes or counts)
        if search:
            count = self._number(f"select count(*) {among}", *states, *texts)
        sql = f"""select j.row, j.line, {_SPOKEN.format("j", INTERRUPTED)}, j.http, j.attempts, j.sent_at, j.done_at,
            j.raw, null, null, null, j.label, j.answer {among} order by j.row limit ? offset ?"""
        return list(map(RowRecord._make, self._each(sql, *states, *texts, most, skip))), count

    def one_row(self, number: int) -> tuple[RowRecord, list[ItemRecord]] | None:
        """Row *number* of the current file and its items; None where there is none."""
        sql = f"""select j.row, j.line, {_SPOKEN.format("j", INTERRUPTED)}, j.http, j.attempts, j.sent_at, j.done_at,
            j.raw, null, null, null, j.label, j.answer from job j where j.row = ?"""
        found = [RowRecord._make(row) for row in self._each(sql, number)]
        items = f"""select j.row, j.line, coalesce(j.label, ''), i.name, {_SPOKEN.format("i", INTERRUPTED)}
            from job j join item i on i.job = j.id where j.row = ? order by i.pos"""
        return (found[0], list(map(ItemRecord._make, self._each(items, number)))) if found else None

    def items(self, outcomes: Iterable[str] | None = None) -> Iterator[ItemRecord]:
        """Items of the current file's rows, in the rows' order; only of rows of *outcomes* if any are given."""
        if not self._has_items:
            return iter(())
        chosen, states = _chosen(outcomes)
        sql = f"""select j.row, j.line, coalesce(j.label, ''), i.name, {_SPOKEN.format("i", INTERRUPTED)}
            from job j cross join item i on i.job = j.id
            where j.row is not null {chosen} order by j.row, i.pos"""  # cross join: rows first, else it sorts all items
        return map(ItemRecord._make, self._each(sql, *states))

    def marks(self, outcomes: Iterable[str]) -> Iterator[Mark] | None:
        """The mark of each of `rows(outcomes)`; None in a journal whose next run gives its rows other digests."""
        meta = self.meta()
        if meta.get("identity") != str(IDENTITY) or "uid" not in meta:
            return None
        chosen, states = _chosen(outcomes)
        sql = f"select id, coalesce(content, identity) from job j where row is not null {chosen} order by row"
        return (row_mark(meta["uid"], job, content) for job, content in self._each(sql, *states))

    def written(self) -> dict[str, list[str]]:
        """What `journal.sqlite.session` has noted of files, by their names."""
        found: dict[str, list[str]] = json.loads(self.meta().get(WRITTEN) or "{}")
        return found

    def answer(self, number: int) -> str | None:
        """D3's answer as text; None where it was not kept."""
        body: str | None = self._one("select body from answer where id = ?", number)
        return body

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of one small SQL question; for aggregates that need no name of their own here."""
        return self._all(sql, *values)

    def _check_schema(self) -> None:
        if not self._one("select exists(select 1 from sqlite_schema)"):
            raise JournalError(f"{self.folder} holds no run yet: one was cut short there before it sent anything")
        version = self._one("select value from meta where key = 'schema'")
        if version is None or not version.isdecimal():
            raise JournalError(f"{self._path} is not a journal of d3async")
        if int(version) > VERSION:
            raise JournalError(
                f"{self._path} is of a newer d3async (journal version {version}, this one reads up to {VERSION}): "
                "use that d3async, or update this one"
            )

    def _number(self, sql: str, *values: object) -> int:
        return int(self._one(sql, *values))

    def _one(self, sql: str, *values: object) -> Any:
        found = self._all(sql, *values)
        return found[0][0] if found else None

    def _ask(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        with self._translated():
            return self._db.execute(statement.format_map(NAMES), values).fetchall()

    def _all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return list(self._each(sql, *values))

    def _each(self, sql: str, *values: object) -> Iterator[tuple[Any, ...]]:
        with self._translated():
            yield from self._db.execute(sql, values)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise JournalError(f"{self._path} cannot be read: {error}") from error


def _opened(path: Path) -> sqlite3.Connection:
    place = path.absolute().as_uri()
    tidy = not path.with_name(path.name + "-wal").exists()
    for manner in ("mode=rw", "mode=ro", *(["mode=ro&immutable=1"] if tidy else [])):
        database = sqlite3.connect(f"{place}?{manner}", uri=True, isolation_level=None)
        try:
            database.execute("pragma query_only = 1")
            database.execute("begin")
            database.execute("select 1 from sqlite_schema").fetchall()
        except sqlite3.OperationalError as error:
            database.close()
            failed = error
            if error.sqlite_errorcode & 0xFF not in _NOT_WRITABLE:
                break
        except sqlite3.DatabaseError:
            database.close()
            raise
        else:
            return database
    raise failed


def _chosen(outcomes: Iterable[str] | None) -> tuple[str, list[str]]:
    if outcomes is None:
        return "", []
    states = states_of(outcomes)
    return f"and j.state in ({', '.join('?' * len(states))})", states


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
