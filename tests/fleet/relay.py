"""Carries bytes from one address to another: `python -m tests.fleet.relay FROM:PORT=TO:PORT …`, until stdin closes."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.close()


async def _serve(way: str) -> None:
    (here, port), (there, to) = (end.rsplit(":", 1) for end in way.split("="))

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(there, int(to))
        except OSError:
            writer.close()
            return
        await asyncio.gather(_carry(reader, far_writer), _carry(far_reader, writer))

    await asyncio.start_server(accepted, here, int(port), backlog=256)


async def main(ways: list[str]) -> None:
    for way in ways:
        await _serve(way)
    print("ready", flush=True)  # noqa: T201 - whoever started it waits for this
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
