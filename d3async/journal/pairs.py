"""Links to look up in D3, source by source, kept in a temporary table: memory does not grow with their number."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from d3async.journal.session import Session

_TABLE = """create temp table d3async_pair(
    id integer primary key, key text, username text, site text, source text, item bigint, job bigint, line integer,
    name text)"""
_KEPT = """
select row_number() over (order by r.lane_key, r.id, i.pos), r.lane_key, r.username, r.site, r.label, i.id, r.id,
    r.line, i.name
from (select id, job, pos, name from {item} where {here} and state = :state) i cross join {rows} and r.id = i.job"""
_STAGED = """
select row_number() over (order by i.lane_key, i.row, n.pos), i.lane_key, i.username, i.site, i.label, null, i.row,
    i.line, n.name
from incoming_item n join incoming i on i.row = n.row where i.state = 'pending' and i.profile is :profile"""
_SOURCES = """
select key, min(username), min(site), min(source) from d3async_pair where key > :after
group by key order by key limit :most"""
_OF = """
select id, item, job, line, name from d3async_pair where key = :key and id > :after order by id limit :most"""
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


class LinksToLookUp:
    """The links to look up, source by source; one such set at a time in a journal. `close` forgets them."""

    def __init__(self, session: Session, select: str, **values: object) -> None:
        self._session = session
        self.close()
        session.run(_TABLE)
        session.run(f"insert into d3async_pair {select}", **values)
        session.run("create index d3async_pair_key on d3async_pair(key, id)")

    @classmethod
    def unknown(cls, session: Session, profile: str | None = None) -> LinksToLookUp:
        """Every unknown link of rows for the D3 of *profile*, of rows no longer in the file too."""
        return cls(session, f"{_KEPT} and {{at_profile}}", state="unknown", profile=profile)

    @classmethod
    def removed(cls, session: Session, profile: str | None = None) -> LinksToLookUp:
        """Every link of the rows for the D3 of *profile* that the present owner sent and that D3 says is removed."""
        return cls(session, f"{_KEPT} and j.epoch = :epoch and {{at_profile}}", state="ok", profile=profile)

    @classmethod
    def staged(cls, session: Session, profile: str | None = None) -> LinksToLookUp:
        """Every link of the valid rows of *profile* in a `Stage`."""
        return cls(session, _STAGED, profile=profile)

    def batches(self, most: int) -> Iterator[Sequence[Source]]:
        """At most *most* sources at a time that are asked for by the same account at the same site."""
        after = ""
        while found := self._session.all(_SOURCES, after=after, most=most):
            sources = [Source(key, *map(self._readable, words)) for key, *words in found]
            batch = [source for source in sources if source[1:3] == sources[0][1:3]]
            after = batch[-1].key
            yield batch

    def of(self, source: Source) -> Iterator[Sequence[Pair]]:
        """The links of *source*, some at a time."""
        after = 0
        while rows := self._session.all(_OF, key=source.key, after=after, most=_CHUNK):
            after = rows[-1][0]
            yield [Pair(item, job, line, self._readable(name)) for _, item, job, line, name in rows]

    def _readable(self, text: str | None) -> Any:
        return text and self._session.unescape(text)

    def close(self) -> None:
        """Forget them."""
        self._session.run("drop table if exists d3async_pair")
