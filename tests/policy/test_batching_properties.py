"""Whatever the file and whatever D3 refuses: no item is lost, and merging changes nothing but the number of calls."""

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d3async.d3.call import Call, normalize_number
from d3async.d3.commands.remove_linked_incidents import RemoveLinkedIncidents
from d3async.d3.response import Answer, ItemError, Refused, Reply
from d3async.engine.delivery import Delivered, Stopper
from d3async.engine.engine import Engine
from d3async.jobs.job import Job, request_of
from d3async.journal.model import CallResult, Event, RowOutcome, Selection
from d3async.journal.protocols import AttemptLog
from d3async.journal.sqlite.row_claims import RowStore
from d3async.journal.sqlite.run_folder import in_memory

NOT_LINKED = "The source incident is not linked to this incident."
Link = frozenset[str]


@dataclass
class World:
    """A D3 without sockets: symmetric *links*; it does not know some sources, chokes on some items, refuses others."""

    links: set[Link]
    missing: frozenset[str] = frozenset()
    poison: frozenset[str] = frozenset()
    closed: frozenset[str] = frozenset()
    max_list: int = 1000
    calls: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    settled: Counter[tuple[str | None, str, str]] = field(default_factory=Counter)
    in_flight: set[str] = field(default_factory=set)

    async def deliver(self, call: Call, *, repeatable: bool, log: AttemptLog, stopper: Stopper) -> Delivered:
        source = normalize_number(call.label)
        assert source not in self.in_flight, "one source is never in flight twice"
        self.in_flight.add(source)
        await log.claim(call, 0.0)
        for _ in range(1 + len(self.calls) % 3 * 4):
            await anyio.lowlevel.checkpoint()
        self.calls.append((source, call.items))
        answer = self.answer(source, call.items)
        await anyio.lowlevel.checkpoint()
        self.in_flight.remove(source)
        if isinstance(answer, Reply):
            self.settled.update((call.username, source, normalize_number(item)) for item in call.items)
        return Delivered(call, answer, 1)

    def answer(self, source: str, items: Sequence[str]) -> Answer:
        if source in self.missing:
            return Refused("command_error", f"Incident {source.upper()} does not exist.", 200)
        if len(items) > self.max_list or not self.poison.isdisjoint(map(normalize_number, items)):
            return Refused("http_400", "The parameters are not valid.", 400)
        errors = tuple(
            ItemError(item.swapcase(), text) for item in items if (text := self.refusal(source, normalize_number(item)))
        )
        status = "ok" if not errors else "failed" if len(errors) == len(items) else "partial"
        return Reply(status, errors, tuple(sorted(other for link in self.links if source in link for other in link)))  # type: ignore[arg-type]

    def refusal(self, source: str, item: str) -> str:
        if item in self.closed:
            return f"Incident {item} is closed."
        if (link := frozenset((source, item))) in self.links:
            self.links.remove(link)
            return ""
        return NOT_LINKED


def expected(world: World, source: str, item: str) -> tuple[str, str]:
    """The outcome that the world, as it was before the run, proves for a pair, whatever else is in the file."""
    source, item = normalize_number(source), normalize_number(item)
    if source in world.missing:
        return "failed", "command_error"
    if item in world.poison:
        return "failed", "http_400"
    if item in world.closed:
        return "failed", "item_error"
    return ("ok", "") if frozenset((source, item)) in world.links else ("failed", "not_linked")


class Direct:
    """A journal without a thread."""

    def __init__(self, store: RowStore) -> None:
        self.store = store

    async def lanes(self, after: int, most: int) -> Sequence[tuple[int, Call | None]]:
        return self.store.lanes(after, most)

    async def take(self, lane: int, most: int) -> Call | None:
        return self.store.take(lane, most)

    async def claim(self, call: Call, at: float) -> None:
        self.store.claim(call, at)

    def release(self, call: Call, *, sent: bool) -> None:
        self.store.release(call, sent=sent)

    def settle(self, settlement: CallResult) -> "asyncio.Future[list[RowOutcome]]":
        future: asyncio.Future[list[RowOutcome]] = asyncio.get_running_loop().create_future()
        future.set_result(self.store.settle(settlement))
        return future

    def note(self, event: Event) -> None:
        raise AssertionError(event)

    async def flush(self) -> None:
        pass


Row = tuple[str, tuple[str, ...], str | None]


@dataclass
class Sent:
    rows: list[str]
    items: list[tuple[int, str, str, str]]
    calls: list[tuple[str, tuple[str, ...]]]


def send(rows: Sequence[Row], world: World, *, per_call: int, workers: int = 4) -> Sent:
    """Bring *rows* through journal and engine."""
    folder = in_memory()
    try:
        stage = folder.stage()
        stage.add(job(at, row) for at, row in enumerate(rows, 1))
        list(stage.duplicates(allow=False))
        folder.adopt({"rows": str(len(rows))})
        folder.begin(Selection(), now=0.0, facts={})
        folder.commit()
        journal = Direct(RowStore(folder.db, epoch=folder.epoch))
        finished: list[RowOutcome] = []

        async def main() -> object:
            engine = Engine(
                carrier=world, journal=journal, rows=len(rows), workers=workers, links_per_call=per_call,
                on_row=finished.append, wall=lambda: 0.0,
            )  # fmt: skip
            return await engine.run()

        assert anyio.run(main) is None
        assert sorted(row.row for row in finished) == list(range(1, len(rows) + 1)), "each row is told once"
        told = folder.db.execute("select state from job order by row").fetchall()
        items = folder.db.execute(
            "select job.row, item.name, item.state, item.code from item join job on job.id = item.job order by 1, pos"
        ).fetchall()
        return Sent([state for (state,) in told], items, world.calls)
    finally:
        folder.abandon()


def job(at: int, row: Row) -> Job:
    source, linked, username = row
    command = RemoveLinkedIncidents(source=source, linked=linked)
    return Job(
        row=at, line=at + 1, raw="", asked=request_of(command), username=username, site="SOC", key=None, selected=True
    )


NUMBERS = [f"{letter}-1" for letter in "abcdef"]
numbers = st.sampled_from([*NUMBERS, *map(str.upper, NUMBERS)])
some = st.frozensets(st.sampled_from(NUMBERS), max_size=2)
files = st.lists(
    st.tuples(numbers, st.lists(numbers, min_size=1, max_size=6).map(tuple), st.sampled_from([None, None, "Bo"])),
    min_size=1,
    max_size=8,
)
worlds = st.builds(
    World,
    links=st.sets(st.frozensets(st.sampled_from(NUMBERS), min_size=2, max_size=2), max_size=12),
    missing=some, poison=some, closed=some, max_list=st.integers(1, 8),
)  # fmt: skip


def fresh(world: World) -> World:
    return World(set(world.links), world.missing, world.poison, world.closed, world.max_list)


def told(row: Row, outcomes: Sequence[tuple[str, str]]) -> str:
    kinds = {outcome for outcome, _ in outcomes}
    return "partial" if len(kinds) > 1 else kinds.pop()


@settings(max_examples=120, deadline=None)
@given(files, worlds, st.integers(2, 9), st.integers(1, 5))
def test_merged_and_unmerged_runs_give_every_item_the_outcome_that_the_world_proves(
    rows: list[Row], world: World, per_call: int, workers: int
) -> None:
    """Mirrored pairs, duplicates, two users, other letter case, refused calls, a list limit: all at once."""
    merged = send(rows, fresh(world), per_call=per_call, workers=workers)
    single = send(rows, fresh(world), per_call=1, workers=workers)

    for sent in (merged, single):
        found = iter(sent.items)
        for at, row in enumerate(rows, 1):
            names = list(dict.fromkeys(row[1]))
            outcomes = [expected(world, row[0], name) for name in names]
            mine = [next(found) for _ in names]
            assert [(row_, name) for row_, name, _, _ in mine] == [(at, name) for name in names]
            assert [(state, "" if code == "removed_before" else code) for _, _, state, code in mine] == outcomes
            assert sent.rows[at - 1] == told(row, outcomes)
        assert next(found, None) is None
    assert len(single.calls) == len(
        {(normalize_number(row[0]), normalize_number(name), row[2]) for row in rows for name in row[1]}
    )


@settings(max_examples=60, deadline=None)
@given(files, worlds)
def test_the_same_pair_is_sent_once_and_a_removal_is_seen_once(rows: list[Row], world: World) -> None:
    one = fresh(world)
    send(rows, one, per_call=50)

    assert all(times == 1 for times in one.settled.values())


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 64), st.data())
def test_each_bad_item_costs_at_most_two_calls_for_each_halving(count: int, data: Any) -> None:
    items = tuple(f"n-{n}" for n in range(count))
    bad = data.draw(st.sets(st.sampled_from(items), min_size=1, max_size=3))
    world = World({frozenset(("s-1", item)) for item in items}, poison=frozenset(bad))
    sent = send([("S-1", items, None)], world, per_call=count)

    assert len(sent.calls) - 1 <= len(bad) * (2 * math.log2(count) + 2)
    assert {name for _, name, state, _ in sent.items if state != "ok"} == bad


@pytest.mark.parametrize(("asked", "limit", "calls"), [(50, 20, 66), (50, 49, 36), (50, 1, 1100), (200, 20, 80)])
def test_a_list_limit_is_learnt_to_the_item(asked: int, limit: int, calls: int) -> None:
    """1,000 links of one source: at best 1,000 / limit calls, and a few to find out."""
    items = tuple(f"n-{n}" for n in range(1000))
    world = World({frozenset(("s-1", item)) for item in items}, max_list=limit)
    sent = send([("s-1", items, None)], world, per_call=asked)

    assert {state for _, _, state, _ in sent.items} == {"ok"}
    assert max(len(call) for _, call in sent.calls[-5:-1]) == limit
    assert len(sent.calls) <= calls


def test_a_dump_with_every_link_both_ways_round_still_goes_in_one_call_a_source(tmp_path: Path) -> None:
    """Ten clusters of five incidents, each linked to the other four: waves part the sources, not their links."""
    names = [[f"{cluster}-{n}" for n in range(5)] for cluster in range(10)]
    pairs = [(a, b) for cluster in names for a in cluster for b in cluster if a != b]
    world = World({frozenset(pair) for pair in pairs})
    sent = send([(a, (b,), None) for a, b in pairs], world, per_call=50, workers=32)

    assert set(sent.rows) == {"ok"}
    assert len(sent.calls) == 50
    assert world.links == set()
