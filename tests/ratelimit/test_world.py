"""Many processes on one limit, whatever happens to them, to their store and to its clock."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.throttle.measures import most_in_a_second
from tests.ratelimit.world import Process, World, run

if TYPE_CHECKING:
    from collections.abc import Sequence

RATE = 20
_BACK = 2.0
"""Seconds until all are back at a store that was lost, or have heard of its clock's new time."""
Event = tuple[float, str, int, float]


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
@pytest.mark.parametrize("latency", [0.0005, 0.02, 0.1])
def test_together_they_keep_the_limit_and_waste_little_of_it(processes: int, latency: float) -> None:
    async def test(world: World) -> None:
        for _ in range(processes):
            world.start()
        await asyncio.sleep(12)

    world = run(test, latency=latency)

    assert most_in_a_second(world.arrivals) <= RATE
    assert world.rate(2, 12) >= 0.95 * RATE


def test_each_gets_the_same() -> None:
    async def test(world: World) -> None:
        for _ in range(8):
            world.start()
        await asyncio.sleep(30)

    sent = [process.sent for process in run(test).processes]

    assert sum(sent) ** 2 / (len(sent) * sum(one * one for one in sent)) >= 0.995


def test_without_a_store_they_go_on_by_turns_and_with_it_they_share_again() -> None:
    async def test(world: World) -> None:
        for _ in range(8):
            world.start()
        await asyncio.sleep(4)
        world.down = True
        await asyncio.sleep(10)
        world.down, world.since = False, world.store_now
        await asyncio.sleep(3)
        assert not any(process.share.lost for process in world.processes)
        await asyncio.sleep(5)

    world = run(test)

    assert most_in_a_second(world.arrivals) <= RATE
    assert world.rate(4, 14) >= 0.7 * RATE
    assert world.rate(17, 22) >= 0.95 * RATE
    assert [len(process.told) for process in world.processes] == [2] * 8


def test_who_is_cut_off_goes_on_with_its_share_and_the_others_leave_it_that() -> None:
    async def test(world: World) -> None:
        for _ in range(4):
            world.start()
        await asyncio.sleep(4)
        world.processes[2].cut_off = True
        await asyncio.sleep(30)
        world.processes[2].cut_off = False
        await asyncio.sleep(5)

    world = run(test)

    assert most_in_a_second(world.arrivals) <= RATE
    assert world.rate(6, 34) >= 0.8 * RATE
    assert world.rate(36, 39) >= 0.95 * RATE


def test_who_is_killed_costs_the_others_its_share_for_some_seconds_only() -> None:
    async def test(world: World) -> None:
        for _ in range(2):
            world.start()
        await asyncio.sleep(4)
        await world.processes[1].kill()
        await asyncio.sleep(12)

    world = run(test)

    assert world.rate(12, 16) >= 0.95 * RATE


@pytest.mark.parametrize("step", [-3600.0, -1.0, 0.5, 3600.0])
def test_a_store_whose_clock_is_set_costs_a_second(step: float) -> None:
    async def test(world: World) -> None:
        for _ in range(4):
            world.start()
        await asyncio.sleep(4)
        world.skew += step
        await asyncio.sleep(6)

    world = run(test)

    assert most_in_a_second(world.arrivals) <= RATE
    assert world.rate(6.5, 10) >= 0.9 * RATE


EVENTS = st.lists(
    st.tuples(
        st.floats(0.5, 6.0),
        st.sampled_from(["freeze", "kill", "start", "down", "cut off", "set clock"]),
        st.integers(0, 4),
        st.floats(-2.0, 2.0),
    ),
    max_size=6,
)


async def happen(world: World, events: Sequence[Event]) -> None:
    """Let *events* come to pass, and all that can be mended be well again after two seconds.

    Who starts without a store takes a share of its own, and who has just started is not known to all: no process starts
    in an outage or shortly before one. Nor is the store's clock set then: who is cut off goes by the time it knew.
    """
    outages = asyncio.Lock()
    async with asyncio.TaskGroup() as group:
        for event in events:
            group.create_task(_happen(world, outages, *event))


async def _happen(world: World, outages: asyncio.Lock, at: float, what: str, which: int, amount: float) -> None:
    await asyncio.sleep(at)
    process = world.processes[which % len(world.processes)]
    if what in {"start", "down", "cut off", "set clock"}:
        async with outages:
            await _lasting(world, process, what, amount)
    match what:
        case "kill":
            await process.kill()
        case "freeze":
            process.freeze()
            await asyncio.sleep(abs(amount))
            process.thaw()


async def _lasting(world: World, process: Process, what: str, amount: float) -> None:
    if what == "start":
        world.start()
        await asyncio.sleep(1.5)
    elif what == "set clock":
        await asyncio.sleep(_BACK)
        world.skew += amount * 1000
        await asyncio.sleep(_BACK)
    elif what == "down":
        world.down = True
        await asyncio.sleep(abs(amount))
        world.down, world.since = False, world.store_now
    else:
        process.cut_off = True
        await asyncio.sleep(abs(amount))
        process.cut_off = False


@given(events=EVENTS, processes=st.integers(1, 4), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_happens_no_second_holds_more_than_the_limit_and_nobody_waits_for_ever(
    events: list[Event], processes: int, seed: int
) -> None:
    """One more where the store was lost: who is cut off keeps a pace of its own."""

    async def test(world: World) -> None:
        for _ in range(processes):
            world.start()
        await happen(world, events)
        world.start()
        await asyncio.sleep(4)
        before = [process.sent for process in world.processes]
        await asyncio.sleep(3)
        moved = [now.sent > then for now, then in zip(world.processes, before, strict=True) if not now.dead]
        assert all(moved)

    world = run(test, seed=seed)

    lost = any(what in {"down", "cut off"} for _, what, _, _ in events)
    assert most_in_a_second(world.arrivals) <= RATE + lost
