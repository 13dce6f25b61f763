"""A line that is cut at any byte, in either direction, between us and a D3 that keeps a ledger."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import pytest
from yarl import URL

from d3async import sandbox
from d3async.engine.delivery import connect
from d3async.sandbox import Sandbox
from tests.end_to_end.faults.test_matrix import COMMANDS, carry, settings


@dataclass
class Cut:
    """Lets *up* bytes through to the server and *down* bytes back (None: all), then does *then*, *times* times."""

    up: int | None
    down: int | None
    then: str = "close"
    times: int = 99

    async def pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: int | None) -> bool:
        """Copy until the end, or up to *most* bytes; whether it was cut."""
        while most is None or most > 0:
            data = await reader.read(65_536 if most is None else most)
            if not data:
                return False
            writer.write(data)
            await writer.drain()
            most = None if most is None else most - len(data)
        return True


@asynccontextmanager
async def line_to(port: int, cut: Cut) -> AsyncIterator[int]:
    """A port that leads to *port*, but for *cut*."""
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        running.add(task)
        ends, pipes = [writer], list[asyncio.Task[bool]]()
        try:
            # streams look at how a server's task ended, and a cancel is no way to
            with suppress(ConnectionError, asyncio.CancelledError):
                up, down = await asyncio.open_connection("127.0.0.1", port)
                ends.append(down)
                cut.times -= 1
                limits = (cut.up, cut.down) if cut.times >= 0 else (None, None)
                pipes.append(asyncio.create_task(cut.pipe(reader, down, limits[0])))
                pipes.append(asyncio.create_task(cut.pipe(up, writer, limits[1])))
                done, _ = await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
                if any(pipe.result() for pipe in done) and cut.then == "silence":
                    await asyncio.sleep(30)
                elif cut.then == "reset":
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        finally:
            for pipe in pipes:
                pipe.cancel()
            await asyncio.gather(*pipes, return_exceptions=True)
            for end in ends:
                end.close()
            for end in ends:
                with suppress(OSError):
                    await end.wait_closed()
            running.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tuple(running):
            task.cancel()
        if running:
            await asyncio.wait(tuple(running))


@asynccontextmanager
async def d3() -> AsyncIterator[Sandbox]:
    async with sandbox.serve(rate=0, links=[("20231025-130", "a-1")], retry_after="none") as url:
        yield url


def effects(url: Sandbox) -> tuple[int, int]:
    """Tasks made and links removed."""
    counts = url.ledger()["counts"]
    return counts["tasks"], counts["links_removed"]


PATIENCE = 3.0
"""Seconds until a connection that says nothing is given up; time enough for an answer on a busy machine."""
CUTS = [
    *((Cut(up, None, then), f"request cut after {up} bytes, {then}") for up in (0, 1, 150, 300)
      for then in ("close", "reset", "silence")),
    *((Cut(None, down, then), f"answer cut after {down} bytes, {then}") for down in (0, 1, 9, 60, 170)
      for then in ("close", "reset", "silence")),
]  # fmt: skip


@pytest.mark.asyncio
@pytest.mark.parametrize("command", COMMANDS)
async def test_whatever_is_cut_no_task_is_made_twice_and_what_was_done_is_never_called_failed(command: str) -> None:
    async def one(cut: Cut, name: str) -> tuple[str, str, tuple[int, int]]:
        async with d3() as url, line_to(URL(url).port or 0, cut) as port:
            key = {"D3_API_KEY": url.keys["*"]} if "*" in url.keys else url.env
            env = {**key, "D3_BASE_URL": f"http://127.0.0.1:{port}/ce_site/VSOC"}
            parts = connect(settings(port, env=env, timeout=PATIENCE), max_outages=2)
            async with parts.transport:
                outcome, *_ = await carry(parts, command)
            return name, outcome, effects(url)

    gate = asyncio.Semaphore(8)

    async def gated(cut: Cut, name: str) -> tuple[str, str, tuple[int, int]]:
        async with gate:
            return await one(Cut(cut.up, cut.down, cut.then), name)

    found = await asyncio.gather(*(gated(cut, name) for cut, name in CUTS))

    for name, outcome, (tasks, _removed) in found:
        assert tasks <= 1, name
        assert outcome == "unknown", name
    if command == "CreateTask":
        assert {name for name, _, (tasks, _) in found if tasks} == {name for name, *_ in found if "answer" in name}


@pytest.mark.asyncio
async def test_a_link_whose_removal_was_cut_once_is_removed_and_ok() -> None:
    async def one(cut: Cut, name: str) -> tuple[str, str, int]:
        async with d3() as url, line_to(URL(url).port or 0, cut) as port:
            env = {**url.env, "D3_BASE_URL": f"http://127.0.0.1:{port}/ce_site/VSOC"}
            parts = connect(settings(port, env=env, timeout=PATIENCE), max_outages=2)
            async with parts.transport:
                outcome, *_ = await carry(parts, "RemoveLinkedIncidents")
            return name, outcome, effects(url)[1]

    found = await asyncio.gather(*(one(Cut(cut.up, cut.down, cut.then, times=1), name) for cut, name in CUTS))

    assert found == [(name, "ok", 1) for _, name in CUTS]
