"""A sandbox stops at once, whatever its requests are doing, and leaves nothing running."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import TYPE_CHECKING, Any

import pytest

from d3async.sandbox import serve

if TYPE_CHECKING:
    from collections.abc import Callable

    from d3async.sandbox import Sandbox


pytestmark = pytest.mark.asyncio


async def ask(url: Sandbox, task: dict[str, str]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = str(url).split("/")[2].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps({"Username": "Admin", "Site": "S", "CommandParams": task}).encode()
    head = b"POST /api/Command/CreateTask HTTP/1.1\r\nHost: d3\r\nd3key: sandbox-key\r\nContent-Length: %d\r\n\r\n"
    writer.write(head % len(body) + body)
    return reader, writer


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


def others() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


@pytest.mark.parametrize(
    "options",
    [
        {"faults": {"hang": 1.0}},
        {"faults": {"hang-before": 1.0}},
        {"faults": {"slow-drip": 1.0}, "drip": 30.0},
        {"faults": {"huge-body": 1.0}},
        {"latency": 30.0},
        {"latency": 0.0},
    ],
    ids=["hanging", "hanging before", "dripping", "sending", "working", "idle"],
)
async def test_nothing_is_left_behind(
    task: dict[str, str], caplog: pytest.LogCaptureFixture, options: dict[str, Any]
) -> None:
    async with asyncio.timeout(5):
        async with serve(**options) as url:
            callers = [await ask(url, task) for _ in range(3)]
            await until(lambda: len(url.ledger()["requests"]) == 3)
            await asyncio.sleep(0.01)
        for reader, writer in callers:
            await reader.read(-1)
            writer.close()
            await writer.wait_closed()
    await until(lambda: not others())
    gc.collect()

    assert caplog.records == []


async def test_a_request_that_is_only_half_there_does_not_hold_the_server_up(caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(5):
        async with serve() as url:
            host, port = str(url).split("/")[2].split(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"POST /api/Command/CreateTask HTTP/1.1\r\nHost: d3\r\nContent-Length: 9\r\n\r\n{")
            await until(lambda: url.ledger()["counts"]["requests"] == 1)
        writer.close()
    await until(lambda: not others())

    assert caplog.records == []


@pytest.mark.parametrize(
    "options",
    [
        {"faults": {"hang": 1.0}},
        {"faults": {"slow-drip": 1.0}, "drip": 0.05},
        {"faults": {"slow-drip": 1.0}, "latency": 0.05},
        {"faults": {"huge-body": 1.0}},
        {"faults": {"cut-body": 1.0}, "latency": 0.05},
    ],
    ids=["hanging", "dripping", "before dripping", "sending", "before cutting"],
)
async def test_a_caller_who_hangs_up_frees_his_request(
    task: dict[str, str], caplog: pytest.LogCaptureFixture, options: dict[str, Any]
) -> None:
    async with serve(**options) as url:
        _, writer = await ask(url, task)
        await until(lambda: url.ledger()["counts"]["requests"] == 1)
        writer.close()

        await until(lambda: not url.ledger()["in_flight"])

    assert caplog.records == []


async def test_a_caller_who_hangs_up_too_early_is_carried_out_all_the_same(task: dict[str, str]) -> None:
    async with serve(latency=0.05) as url:
        _, writer = await ask(url, task)
        await until(lambda: len(url.ledger()["requests"]) == 1)
        writer.close()

        await until(lambda: url.state.tasks)


async def test_an_error_inside_the_block_comes_out_of_it() -> None:
    with pytest.raises(LookupError, match="mine"):
        async with serve():
            raise LookupError("mine")
