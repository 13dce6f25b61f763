"""A D3 that does one scripted thing to every request, byte by byte, and counts what reached it."""

import asyncio
import json
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

NOT_LINKED = "The source incident is not linked to this incident."
OK_TASK = {"error": "", "returnData": "Successful"}
MEGABYTE = 1024 * 1024


@dataclass
class Wire:
    """One request on its connection, as the script sees it. *nth* counts the requests it is asked about, from 1."""

    server: "Scripted"
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    command: str
    nth: int
    length: int = 0
    connection: int = 0

    async def read(self) -> None:
        """Read the request's body: only now has it reached the server."""
        body = json.loads(await self.reader.readexactly(self.length))
        self.server.arrived(self, body)

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, status: int, body: Any = None, *, kind: str = "application/json", **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps({"Error": "x"} if body is None else body).encode()
        lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(data)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.raw("\r\n".join([*lines, "", ""]).encode() + data)

    async def ok(self) -> None:
        await self.answer(200, self.server.ok_body(self.command))

    def ok_bytes(self) -> bytes:
        return json.dumps(self.server.ok_body(self.command)).encode()

    async def close(self) -> None:
        self.writer.close()

    async def reset(self) -> None:
        found = self.writer.get_extra_info("socket")
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def silence(self) -> None:
        """Say nothing until the other side goes away."""
        while await self.reader.read(65_536):
            pass


Act = Callable[[Wire], Awaitable[None]]


@dataclass
class Scripted:
    """*act* is done to every request but the priming one; *accept* to every connection before anything is read."""

    act: Act
    accept: Act | None = None
    early: bool = False
    port: int = 0
    requests: list[tuple[str, int]] = field(default_factory=list)
    connections: int = 0
    stray: int = 0
    cookies: int = 0
    effective: bool = False
    """Whether a request that gets no honest answer is carried out all the same."""
    _asked: int = 0

    def ok_body(self, command: str) -> dict[str, Any]:
        """What an honest D3 says: a link that is gone cannot be removed again."""
        if command == "CreateTask":
            return OK_TASK
        gone = self.effective and len(self.requests) > 1
        errors = [{"Incident Number": "a-1", "Error message": NOT_LINKED}] if gone else []
        status = "Failed" if gone else "Successful"
        return {"error": "", "returnData": {"Status": status, "Data": {}, "ErrorData": errors}}

    def arrived(self, wire: Wire, body: dict[str, Any]) -> None:
        assert body["Username"] == "Admin"
        self.requests.append((wire.command, wire.connection))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = self.connections
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            if self.accept:
                await self.accept(Wire(self, reader, writer, "", 0))
            while not writer.is_closing():
                await self.one(reader, writer, connection)
        with suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()

    async def one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        """Read one request and do what the script says."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ", 2)[1]
        length = next(int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length:"))
        self.stray += "/api/Command/" not in path
        self.cookies += "\ncookie:" in head.lower()
        command = path.rpartition("/")[2]
        if command == "GetIncidents":
            await reader.readexactly(length)
            await Wire(self, reader, writer, "CreateTask", 0).answer(200, OK_TASK)
            return
        self._asked += 1
        wire = Wire(self, reader, writer, command, self._asked, length, connection)
        if not self.early:
            await wire.read()
        await self.act(wire)


@asynccontextmanager
async def listening(server: Scripted, **options: Any) -> AsyncIterator[Scripted]:
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        try:
            await server.serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            tasks.discard(task)

    found = await asyncio.start_server(serve, "127.0.0.1", server.port, **options)
    server.port = found.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        found.close()
        for task in tuple(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tuple(tasks))


def always(method: str, *args: Any, **options: Any) -> Act:
    """The same to every request."""

    async def act(wire: Wire) -> None:
        await getattr(wire, method)(*args, **options)

    return act


def status(number: int, body: Any = None, **options: Any) -> Act:
    return always("answer", number, body, **options)


def once(act: Act) -> Act:
    """*act* to the first request, an honest answer to the others."""

    async def acted(wire: Wire) -> None:
        await (act(wire) if wire.nth == 1 else wire.ok())

    return acted


def sends(data: bytes, then: str = "close") -> Act:
    """Exactly these bytes, then `close`, `reset` or `silence`."""

    async def act(wire: Wire) -> None:
        await wire.raw(data)
        if then:
            await getattr(wire, then)()

    return act


def around(before: bytes, after: bytes = b"", then: str = "") -> Act:
    """An honest body between these bytes; `{n}` is its length."""

    async def act(wire: Wire) -> None:
        body = wire.ok_bytes()
        await wire.raw(before.replace(b"{n}", str(len(body)).encode()) + body + after)
        if then:
            await getattr(wire, then)()

    return act


async def drip(wire: Wire) -> None:
    """An honest answer, a byte at a time, slower than anyone waits."""
    body = wire.ok_bytes()
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body):
        await wire.raw(bytes([byte]))
        await asyncio.sleep(0.05)


async def endless_hints(wire: Wire) -> None:
    while True:
        await wire.raw(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await asyncio.sleep(0.02)


async def huge(wire: Wire) -> None:
    """256 MB of one JSON string."""
    await wire.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    piece = b"100000\r\n" + b"x" * MEGABYTE + b"\r\n"
    for _ in range(256):
        await wire.raw(piece)
    await wire.raw(b"0\r\n\r\n")


async def bomb(wire: Wire) -> None:
    """256 MB packed a thousand times smaller."""
    packed = _packed()
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n"
    await wire.raw(head.encode() + packed)


@lru_cache
def _packed() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    pieces = [packer.compress(b'{"error": "' + b"x" * MEGABYTE)]
    pieces += [packer.compress(b"x" * MEGABYTE) for _ in range(255)]
    return b"".join([*pieces, packer.flush()])


async def gzipped(wire: Wire) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    packed = packer.compress(wire.ok_bytes()) + packer.flush()
    await wire.raw(
        f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n".encode() + packed
    )


async def twice(wire: Wire) -> None:
    """Two honest answers to one request."""
    await wire.ok()
    await wire.ok()
