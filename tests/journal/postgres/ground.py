"""Runs of a fleet in a real database, for tests of the journal: one process that submits and works."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any

import psycopg

from d3async.files.source import Format
from d3async.journal.model import CallResult, RowOutcome, Selection
from d3async.journal.postgres.connections import unescape
from d3async.journal.postgres.group_commit import PostgresJournal, Writer, open_chunk
from d3async.journal.postgres.reader import FleetRunReader
from d3async.journal.postgres.schema import migrate
from d3async.journal.postgres.submission import submission
from d3async.policy.outcome import judge
from tests.journal.ground import NOW, numbered

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from typing import Self

    from d3async.d3.call import Call
    from d3async.d3.response import Answer
    from d3async.journal.model import Event
    from tests.journal.ground import Entry

_NAMES = count(1)
FORMAT = json.dumps(Format("csv", header_raw="raw").to_json())


class Fleet:
    """A database with the tables in it, one writer, one connection that submits and asks."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._runner = asyncio.Runner()
        self.run(self._install())
        self.db = psycopg.connect(url, autocommit=True)
        self.writer = Writer(url)
        self.run(self.writer.__aenter__())

    async def _install(self) -> None:
        async with await psycopg.AsyncConnection.connect(self.url) as connection:
            await migrate(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(psycopg.Error):
            self.run(self.writer.__aexit__())
        self.db.close()
        self._runner.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    def query(self, sql: str, *values: object) -> list[Any]:
        """Rows, or the values of a single column."""
        return [row[0] if len(row) == 1 else row for row in self.db.execute(sql, values).fetchall()]


class FleetPlace:
    """A run of a fleet, submitted once or again."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.name = f"run {next(_NAMES)}"

    def start(
        self, entries: Sequence[Entry], *, allow: bool = False, chunk_rows: int = 1_000_000, **selection: bool
    ) -> FleetWorld:
        """Submit *entries*, over whoever is at it, and open every chunk."""
        world = self.submit(entries, allow=allow, chunk_rows=chunk_rows, **selection)
        world.journals = [world.open(chunk) for chunk in world.begun.chunks]
        return world

    def submit(
        self, entries: Sequence[Entry], *, allow: bool = False, chunk_rows: int = 1_000_000, **selection: bool
    ) -> FleetWorld:
        """`start` without a worker: no chunk is open."""
        return FleetWorld(self, entries, allow=allow, chunk_rows=chunk_rows, **selection)

    def reader(self) -> FleetRunReader:
        return FleetRunReader(self.fleet.url, self.name)


class FleetWorld:
    """One submission of a run, its chunks driven by hand."""

    def __init__(
        self, place: FleetPlace, entries: Sequence[Entry], *, allow: bool, chunk_rows: int, **selection: bool
    ) -> None:
        self.place, self.fleet = place, place.fleet
        going = submission(self.fleet.db, place.name, "soc", now=NOW, take_over=True)
        try:
            going.add(numbered(entries))
            self.repeated = list(going.duplicates(allow=allow))
            self.changes = going.adopt({"rows": str(len(entries)), "format": FORMAT})
            self.begun = going.begin(Selection(**selection), now=NOW, facts={}, chunk_rows=chunk_rows)
        except BaseException:
            going.abandon()
            raise
        going.commit()
        self.id = going.id
        self.to_send = self.begun.rows
        self.journals: list[PostgresJournal] = []

    def open(self, chunk: int) -> PostgresJournal:
        opening = open_chunk(self.fleet.writer, self.id, chunk, round=self.begun.round, who="me", now=NOW)
        journal: PostgresJournal = self.fleet.run(opening)
        return journal

    def lanes(self, after: int = -1, most: int = 1000) -> list[tuple[int, Call | None]]:
        return [found for journal in self.journals for found in self.fleet.run(journal.lanes(after, most))]

    def take(self, lane: int, most: int = 50) -> Call | None:
        found = [self.fleet.run(journal.take(lane, most)) for journal in self.journals]
        return next((call for call in found if call), None)

    def calls(self, most: int = 50) -> list[Call]:
        return [call for lane, first in self.lanes() for call in [first or self.take(lane, most)] if call]

    def claim(self, call: Call, at: float = NOW) -> None:
        self.fleet.run(self.journals[0].claim(call, at))

    def release(self, call: Call, *, sent: bool) -> None:
        async def released() -> None:
            self.journals[0].release(call, sent=sent)
            await self.journals[0].flush()

        self.fleet.run(released())

    def settle(self, call: Call, answer: Answer) -> list[RowOutcome]:
        async def settled() -> list[RowOutcome]:
            return await self.journals[0].settle(CallResult(call, judge(call, answer), '{"error":""}', NOW + 1))

        found: list[RowOutcome] = self.fleet.run(settled())
        return found

    def note(self, event: Event) -> None:
        async def noted() -> None:
            self.journals[0].note(event)
            await self.journals[0].flush()

        self.fleet.run(noted())

    def answer(self, call: Call, answer: Answer) -> list[RowOutcome]:
        self.claim(call)
        return self.settle(call, answer)

    def die(self) -> None:
        """Go away as a kill does."""

    def end(self) -> None:
        for journal in self.journals:
            self.fleet.run(journal.aclose())

    def rows(self, *columns: str) -> list[Any]:
        """Columns of the file's rows, in its order; those that vanished last."""
        wanted = ", ".join(
            f"{'r' if column in {'row', 'line', 'raw', 'params', 'username', 'lane_key'} else 'j'}.{column}"
            for column in columns
        )
        return self.fleet.query(
            f"select {wanted} from d3async_job j join d3async_row r on r.run = j.run and r.id = j.id"
            " where j.run = %s order by r.row nulls last, r.id",
            self.id,
        )

    def states(self) -> list[str]:
        found = self.rows("row", "state")
        return [state for row, state in found if row is not None]

    def items(self) -> list[tuple[str, str]]:
        found = self.fleet.query(
            "select i.name, i.state from d3async_item i join d3async_row r on r.run = i.run and r.id = i.job"
            " where i.run = %s and r.row is not null order by r.row, i.pos",
            self.id,
        )
        return [(unescape(name), state) for name, state in found]

    def count(self, table: str) -> int:
        return int(self.fleet.query(f"select count(*) from d3async_{table} where run = %s", self.id)[0])
