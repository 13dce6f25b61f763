"""A wait that somebody else ends: the block is left, nothing else is."""

import asyncio

import anyio
import anyio.lowlevel
import pytest

from d3async.engine.delivery import Interruptible


@pytest.mark.asyncio
async def test_a_block_that_waits_is_left_and_what_follows_goes_on() -> None:
    waits: set[Interruptible] = set()
    after = []

    async def waits_for_ever() -> None:
        with Interruptible(waits, over=False):
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        after.append(True)

    task = asyncio.ensure_future(waits_for_ever())
    await asyncio.sleep(0)
    for wait in waits:
        wait.end()
    await task

    assert after == [True]
    assert not waits


@pytest.mark.asyncio
async def test_a_block_that_is_over_is_left_as_soon_as_it_waits() -> None:
    with Interruptible(set(), over=True):
        await asyncio.Event().wait()


@pytest.mark.asyncio
async def test_a_block_that_waits_for_nothing_is_not_left_and_nothing_is_cancelled_after_it() -> None:
    done = []
    with Interruptible(set(), over=True) as _:
        done.append(True)
    await asyncio.sleep(0)

    assert done == [True]


@pytest.mark.asyncio
@pytest.mark.parametrize("ended", [False, True])
async def test_a_cancel_from_outside_goes_through(*, ended: bool) -> None:
    waits: set[Interruptible] = set()

    async def waits_for_ever() -> None:
        with Interruptible(waits, over=False):
            await asyncio.Event().wait()

    task = asyncio.ensure_future(waits_for_ever())
    await asyncio.sleep(0)
    if ended:
        next(iter(waits)).end()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.asyncio
@pytest.mark.parametrize("ended", [False, True])
async def test_a_scope_of_anyio_around_it_goes_through(*, ended: bool) -> None:
    waits: set[Interruptible] = set()
    reached = []
    with anyio.CancelScope() as scope:
        asyncio.get_running_loop().call_soon(scope.cancel)
        if ended:
            asyncio.get_running_loop().call_soon(lambda: next(iter(waits)).end())
        with Interruptible(waits, over=False):
            await asyncio.Event().wait()
        await anyio.lowlevel.checkpoint()
        reached.append(True)

    assert scope.cancelled_caught
    assert not reached


@pytest.mark.asyncio
async def test_another_failure_goes_through() -> None:
    with pytest.raises(KeyError), Interruptible(set(), over=True):
        raise KeyError
