"""A server that is never the bottleneck: a raw asyncio protocol in its own process, with D3's answers, due date echoed.

    python -m benchmarks.stub [--limit 50] [--latency 0.2] [--ports 100] [--count] [--times]

Prints its ports, serves until stdin closes, prints what it saw. *limit* is a sliding second, as strict as limits get;
*count* looks for bodies that were let in twice, *times* tells when each request came, on the machine's monotonic clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from benchmarks.harness import python

if TYPE_CHECKING:
    from collections.abc import Iterator

_BODY = json.dumps(
    {
        "error": "",
        "returnData": "Successful",
        "rawData": {
            "Task Name": "Call the user and note the answer",
            "Task Type": "Default",
            "Task Description": "<p>Ask whether the sign-in from abroad was theirs, and write down the answer.</p>",
            "Assignee": "admin user",
            "Due Date": "2027-01-04 11:00:00 (UTC)",
            "Required": "Yes",
            "Status": "Open",
        },
    }
).encode()


def _answer(status: str, body: bytes) -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


OK = _answer("200 OK", _BODY)
_DUE_ECHOED = OK.index(b"2027-01-04 11:00:00")
_DUE = b'"Due Date":"'
_LENGTH = len("2027-01-04 11:00:00")
THROTTLED = _answer("429 Too Many Requests", b'{"Error": "The request exceeds rate limits."}')


class Seen:
    """What came to one port. *refused* were answered 429, *duplicates* are bodies that were let in before."""

    def __init__(self, limit: int, latency: float, *, count: bool, times: bool) -> None:
        self.requests = self.refused = self.duplicates = 0
        self.first = self.last = 0.0
        self.latency = latency
        self._limit = limit
        self._admitted: deque[float] = deque()
        self._bodies: set[bytes] | None = set() if count else None
        self._times: list[float] | None = [] if times else None
        self._refused_times: list[float] = []

    def answer(self, body: bytes) -> bytes:
        """Let a request in, or not."""
        self.requests += 1
        now = time.perf_counter()
        self.first = self.first or now
        if self._times is not None:
            self._times.append(now)
        if self._limit:
            while self._admitted and self._admitted[0] <= now - 1.0:
                self._admitted.popleft()
            if len(self._admitted) >= self._limit:
                self.refused += 1
                self._refused_times += [now] if self._times is not None else []
                return THROTTLED
            self._admitted.append(now)
        self.last = now
        if self._bodies is not None:
            self.duplicates += body in self._bodies
            self._bodies.add(body)
        return _echoing(body)

    def told(self) -> dict[str, Any]:
        """Seconds are from the first request to the last answer of one that was let in."""
        return {
            "requests": self.requests,
            "refused": self.refused,
            "duplicates": self.duplicates,
            "seconds": self.last - self.first + self.latency,
            "times": self._times,
            "refused_times": self._refused_times,
        }


def _echoing(body: bytes) -> bytes:
    """As D3 does: with the due date that was sent."""
    begin = body.find(_DUE) + len(_DUE)
    due = body[begin : begin + _LENGTH]
    if len(due) < _LENGTH or begin < len(_DUE):
        return OK
    return OK[:_DUE_ECHOED] + due + OK[_DUE_ECHOED + _LENGTH :]


class Connection(asyncio.Protocol):
    """HTTP as far as clients that send Content-Length need it."""

    def __init__(self, seen: Seen, loop: asyncio.AbstractEventLoop) -> None:
        self._seen = seen
        self._loop = loop
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._rest = self._rest + data if self._rest else data
        while (end := self._rest.find(b"\r\n\r\n")) >= 0:
            head = self._rest[:end].lower()
            at = head.find(b"content-length:")
            size = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._rest) < end + 4 + size:
                return
            body, self._rest = self._rest[end + 4 : end + 4 + size], self._rest[end + 4 + size :]
            answer = self._seen.answer(body)
            if self._seen.latency and answer is not THROTTLED:
                self._loop.call_later(self._seen.latency, self._write, answer)
            else:
                self._write(answer)

    def _write(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


async def _serve(given: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    ports, all_seen = [], []
    for _ in range(given.ports):
        seen = Seen(given.limit, given.latency, count=given.count, times=given.times)
        server = await loop.create_server(lambda seen=seen: Connection(seen, loop), "127.0.0.1", 0, backlog=1024)  # type: ignore[misc]
        ports.append(server.sockets[0].getsockname()[1])
        all_seen.append(seen)
    print(json.dumps(ports), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    print(json.dumps([seen.told() for seen in all_seen]), flush=True)


class Stub:
    """A running stub: its base URLs, and once it has ended what each of them saw."""

    def __init__(self, ports: list[int]) -> None:
        self.urls = [f"http://127.0.0.1:{port}/ce_site/VSOC" for port in ports]
        self.url = self.urls[0]
        self.all_seen: list[dict[str, Any]] = []

    @property
    def seen(self) -> dict[str, Any]:
        return self.all_seen[0]


@contextmanager
def stub(
    *, limit: int = 0, latency: float = 0.0, ports: int = 1, count: bool = False, times: bool = False
) -> Iterator[Stub]:
    """A stub for the length of the block."""
    flags = [*(["--count"] if count else []), *(["--times"] if times else [])]
    options = [f"--limit={limit}", f"--latency={latency}", f"--ports={ports}", *flags]
    with subprocess.Popen(
        python("-m", "benchmarks.stub", *options), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("pipes were asked for")
        running = Stub(json.loads(process.stdout.readline()))
        try:
            yield running
        finally:
            process.stdin.close()
            running.all_seen = json.loads(process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=0, help="requests in any second; 0 for no limit")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds until an answer")
    parser.add_argument("--ports", type=int, default=1, help="servers, each with its own limit")
    parser.add_argument("--count", action="store_true", help="look for duplicates")
    parser.add_argument("--times", action="store_true", help="tell when each request came")
    given = parser.parse_args()
    factory = None
    with suppress(ImportError):
        import uvloop  # noqa: PLC0415 - optional

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_serve(given))


if __name__ == "__main__":
    main()
