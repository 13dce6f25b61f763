"""Between a client and its database: breaks the connection at one moment that is chosen."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Proxy:
    """*cut* is `before` or `after`: whether the next commit breaks off before the server has it, or after.

    While *heard* is not set nothing passes, and nobody is told so: a network that is parted.
    """

    def __init__(self, port: int) -> None:
        self.cut: str | None = None
        self.cuts = 0
        self.heard = asyncio.Event()
        self.heard.set()
        self.tasks: set[asyncio.Task[None]] = set()
        self._port = port

    async def serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        if task is not None:
            self.tasks.add(task)
        try:
            await self._serve(client, back)
        finally:
            back.transport.abort()

    async def _serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        try:
            server, forth = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return
        copying = asyncio.create_task(self._copy(server, back))
        try:
            broken = await self._forward(client, forth, copying)
            if broken == "after":
                # the server has said that it has stored it; nobody hears of that
                await server.read(1)
        finally:
            copying.cancel()
            forth.transport.abort()

    async def _forward(
        self, client: asyncio.StreamReader, forth: asyncio.StreamWriter, copying: asyncio.Task[None]
    ) -> str | None:
        with suppress(OSError):
            while data := await client.read(65536):
                await self.heard.wait()
                broken = self.cut if b"commit" in data else None
                if broken:
                    self.cut = None
                    self.cuts += 1
                    copying.cancel()
                    with suppress(asyncio.CancelledError):
                        await copying
                if broken != "before":
                    forth.write(data)
                    await forth.drain()
                if broken:
                    return broken
        return None

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self.heard.wait()
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def between(url: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy to the database at *url*, and the URL through it."""
    parts = urlsplit(url)
    proxy = Proxy(parts.port or 5432)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield proxy, urlunsplit(parts._replace(netloc=f"postgres@127.0.0.1:{port}"))
    for task in proxy.tasks:
        task.cancel()
    await asyncio.gather(*proxy.tasks, return_exceptions=True)
    # transports close a turn of the loop after they were told to
    await asyncio.sleep(0)
