"""Pairs of a source and a linked incident to look up, set aside on disk: memory does not grow with their number."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence
    from typing import Any

_TABLE = """create temp table pair(
    id integer primary key, key text, username text, site text, source text, item integer, job integer, line integer,
    name text)"""
_FILL = "insert into pair(key, username, site, source, item, job, line, name)"
_KEPT = (
    "select j.lane_key, j.username, j.site, j.label, i.id, j.id, j.line, i.name from item i join job j on j.id = i.job"
)
_CHUNK = 1000


class Source(NamedTuple):
    """An incident whose links are wanted. *username* None is the account's own; *key* tells sources apart."""

    key: str
    username: str | None
    site: str
    number: str


class Pair(NamedTuple):
    """One link. *item* and *job* are ids in the journal, *item* None for rows that are only staged."""

    item: int | None
    job: int
    line: int | None
    name: str


class Pairs:
    """The pairs to look up, source by source. `close` forgets them."""

    def __init__(self, db: sqlite3.Connection, select: str, *values: object) -> None:
        self._db = db
        db.execute("drop table if exists temp.pair")
        db.execute(_TABLE)
        db.execute(f"{_FILL} {select}", values)
        db.execute("create index temp.pair_key on pair(key, id)")

    @classmethod
    def unknown(cls, db: sqlite3.Connection, profile: str | None = None) -> Pairs:
        """Every item of *profile* nobody knows about, rows no longer in the file included."""
        return cls(db, f"{_KEPT} where i.state = 'unknown' and j.profile is ?", profile)

    @classmethod
    def removed(cls, db: sqlite3.Connection, epoch: int, profile: str | None = None) -> Pairs:
        """Every item of the rows of *profile* that the run of *epoch* sent and that D3 says is removed."""
        return cls(db, f"{_KEPT} where i.state = 'ok' and j.epoch = ? and j.profile is ?", epoch, profile)

    @classmethod
    def staged(cls, db: sqlite3.Connection, profile: str | None = None) -> Pairs:
        """Every item of the valid rows of *profile* in a `Stage`."""
        select = "select i.lane_key, i.username, i.site, i.label, null, i.row, i.line, n.name"
        rows = "temp.incoming_item n join temp.incoming i on i.row = n.row"
        return cls(db, f"{select} from {rows} where i.state = 'pending' and i.profile is ?", profile)

    def batches(self, most: int) -> Iterator[Sequence[Source]]:
        """At most *most* sources at a time that are asked for by the same account at the same site."""
        after = ""
        while found := self._sources(after, most):
            batch = [source for source in found if source[1:3] == found[0][1:3]]
            after = batch[-1].key
            yield batch

    def _sources(self, after: str, most: int) -> list[Source]:
        rows = self._db.execute(
            "select key, username, site, source from pair where key > ? group by key order by key limit ?",
            (after, most),
        )
        return list(map(Source._make, rows.fetchall()))

    def of(self, source: Source) -> Iterator[Sequence[Pair]]:
        """The pairs of *source*, some at a time."""
        after = 0
        while rows := self._chunk(source.key, after):
            after = rows[-1][0]
            yield [Pair._make(row[1:]) for row in rows]

    def _chunk(self, key: str, after: int) -> list[tuple[Any, ...]]:
        return self._db.execute(
            "select id, item, job, line, name from pair where key = ? and id > ? order by id limit ?",
            (key, after, _CHUNK),
        ).fetchall()

    def close(self) -> None:
        """Forget them."""
        self._db.execute("drop table if exists temp.pair")
