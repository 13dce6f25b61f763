"""Contract §7 on real sockets: for every fault, how many requests reached the server, and what the row is called."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from d3async.config.settings import Settings
from d3async.d3.call import Call
from d3async.engine.delivery import Connection, NoAttemptLog, Stopper, connect
from d3async.engine.engine import Engine
from d3async.journal.model import Selection
from d3async.journal.sqlite.group_commit import GroupCommitJournal
from d3async.journal.sqlite.row_claims import RowStore
from d3async.journal.sqlite.run_folder import in_memory
from tests.end_to_end.faults.wire import (
    OK_TASK,
    Act,
    Scripted,
    Wire,
    always,
    around,
    bomb,
    drip,
    endless_hints,
    gzipped,
    huge,
    listening,
    once,
    sends,
    status,
    twice,
)
from tests.journal.ground import NOW, links, load, task

TIMEOUT = 10.0
IMPATIENT = 2.0
"""Seconds for the faults that end in nobody's answering."""
SILENT = {
    "103 Early Hints without end", "body that never ends", "read, then silence", "a drop at a time", "never reads",
}  # fmt: skip
ATTEMPTS = 2
PRIME = Call("GetIncidents", {}, None, "", 0, "")


@dataclass(frozen=True)
class Found:
    """How one row ended: *reached* counts the requests that reached the server whole."""

    reached: int
    outcome: str
    code: str = ""
    stop: str = ""
    reused: bool = False
    elsewhere: int = 0
    cookies: int = 0

    def __str__(self) -> str:
        return f"{self.reached} {self.outcome}"


def settings(port: int, **options: Any) -> Settings:
    env = {
        "D3_BASE_URL": f"http://127.0.0.1:{port}/ce_site/VSOC",
        "D3_USERNAME": "Admin",
        "D3_SITE": "SOC",
        "D3_API_KEY": "key",
    }
    given = {"timeout": TIMEOUT, "max_attempts": ATTEMPTS, "rate": 1000.0, "max_wait": 5.0, **options}
    return Settings.from_env({**env, **given.pop("env", {})}, **given)


async def carry(parts: Connection, command: str) -> tuple[str, str, str]:
    """One row through engine and journal: outcome, code, why it stopped."""
    folder = in_memory()
    load(folder, [task("a") if command == "CreateTask" else links("a-1")])
    rows = folder.begin(Selection(), now=NOW, facts={})
    folder.commit()
    journal = GroupCommitJournal(folder.db, RowStore(folder.db, epoch=1))
    engine = Engine(carrier=parts.delivery, journal=journal, rows=rows, workers=1)
    stop = await asyncio.wait_for(engine.run(), 30)
    await journal.aclose()
    outcome, code = folder.db.execute("select state, coalesce(code, '') from job").fetchone()
    folder.close()
    return {"pending": "unsent"}.get(outcome, outcome), code, stop.code if stop else ""


async def prime(parts: Connection) -> None:
    """Open the connection that is re-used."""
    done = await parts.delivery.deliver(PRIME, repeatable=True, log=NoAttemptLog(), stopper=Stopper())
    assert done.response is not None
    assert done.response.status == 200


async def outcome_of(server: Scripted, command: str, *, reuse: bool, patience: float = TIMEOUT) -> Found:
    async with listening(server), connect_to(server.port, timeout=patience) as parts:
        if reuse:
            await prime(parts)
        outcome, code, stop = await carry(parts, command)
        first = server.requests[0][1] if server.requests else 0
        return Found(len(server.requests), outcome, code, stop, reuse and first == 1, server.stray, server.cookies)


OK = json.dumps(OK_TASK).encode()
CHUNKED = "Transfer-Encoding: chunked"
TWO_LENGTHS = ("Content-Length: 9", "Content-Length: 8")


def head(number: int, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {number} X", *headers, "", ""]).encode()


def reply(*headers: str, body: bytes | None = None) -> bytes:
    return head(200, *headers) + (OK if body is None else body)


LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {n}\r\n"
HINT = b"HTTP/1.1 103 Early Hints\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSING = LENGTH + b"Connection: close\r\n\r\n"
SURROGATE = b'{"error":"\\ud800\\u0000","returnData":"Failed"}'
FAILED = {"error": "Incident 1 does not exist.", "returnData": "Failed"}
ELSEWHERE = {"Location": "/elsewhere"}
TWICE = b'{"error":"","returnData":"Successful","error":"Unexpected Error.","returnData":"Failed"}'

# what the server does to every request it gets, and what becomes of a task, and of a link (2 attempts at most)
# fmt: off
MATRIX: list[tuple[str, Act, str, str]] = [
    ("an honest answer",                  always("ok"),                                      "1 ok",      "1 ok"),
    ("honest, Connection: close",         around(CLOSING, then="close"),                     "1 ok",      "1 ok"),
    ("honest, gzip",                      gzipped,                                           "1 ok",      "1 ok"),
    ("honest after 100 Continue",         around(CONTINUE + LENGTH + b"\r\n"),               "1 ok",      "1 ok"),
    ("honest after 103 Early Hints",      around(HINT + LENGTH + b"\r\n"),                   "1 ok",      "1 ok"),
    ("honest, sets a cookie",             around(LENGTH + b"Set-Cookie: a=b; Path=/\r\n\r\n"), "1 ok",      "1 ok"),
    ("honest, twice over",                twice,                                             "1 ok",      "1 ok"),
    ("429 once",                          once(status(429)),                                 "2 ok",      "2 ok"),
    ("429 once, Retry-After: 0",          once(status(429, Retry_After="0")),                "2 ok",      "2 ok"),
    ("429 once, HTML",                    once(status(429, b"<html>", kind="text/html")),    "2 ok",      "2 ok"),
    ("429, Retry-After: 86400",           status(429, Retry_After="86400"),                  "1 unsent",  "1 unsent"),
    ("401",                               status(401),                                       "1 unsent",  "1 unsent"),
    ("400",                               status(400),                                       "1 failed",  "1 failed"),
    ("403 HTML",                          status(403, b"<html>", kind="text/html"),          "1 failed",  "1 failed"),
    ("404",                               status(404),                                       "1 failed",  "1 failed"),
    ("405",                               status(405),                                       "1 failed",  "1 failed"),
    ("409",                               status(409),                                       "1 failed",  "1 failed"),
    ("413",                               status(413),                                       "1 failed",  "1 failed"),
    ("421",                               status(421),                                       "1 failed",  "1 failed"),
    ("425",                               status(425),                                       "1 failed",  "1 failed"),
    ("200 with an error",                 status(200, FAILED),                               "1 failed",  "1 failed"),
    ("200 with Failed",                   status(200, {"error": "", "returnData": "Failed"}), "1 failed",  "1 failed"),
    ("200 with half a surrogate",         status(200, SURROGATE),                            "1 failed",  "1 failed"),
    ("408 of a gateway",                  status(408),                                       "1 unknown", "2 unknown"),
    ("500",                               status(500),                                       "1 unknown", "2 unknown"),
    ("502 HTML",                          status(502, b"<html>", kind="text/html"),          "1 unknown", "2 unknown"),
    ("503",                               status(503),                                       "1 unknown", "2 unknown"),
    ("503, Retry-After: 0",               status(503, Retry_After="0"),                      "1 unknown", "2 unknown"),
    ("504",                               status(504),                                       "1 unknown", "2 unknown"),
    ("599",                               status(599),                                       "1 unknown", "2 unknown"),
    ("301 to elsewhere",                  status(301, **ELSEWHERE),                          "1 unknown", "2 unknown"),
    ("302 to elsewhere",                  status(302, **ELSEWHERE),                          "1 unknown", "2 unknown"),
    ("307 to elsewhere",                  status(307, **ELSEWHERE),                          "1 unknown", "2 unknown"),
    ("308 to elsewhere",                  status(308, **ELSEWHERE),                          "1 unknown", "2 unknown"),
    ("101 Switching Protocols",           sends(head(101, "Upgrade: x", "Connection: x")), "1 unknown", "2 unknown"),
    ("103 Early Hints without end",       endless_hints,                                     "1 unknown", "2 unknown"),
    ("202",                               status(202, OK),                                   "1 unknown", "2 unknown"),
    ("204",                               sends(head(204)),                                  "1 unknown", "2 unknown"),
    ("304",                               sends(head(304)),                                  "1 unknown", "2 unknown"),
    ("200 HTML",                          status(200, b"<html>Sign in", kind="text/html"),   "1 unknown", "2 unknown"),
    ("200 empty",                         status(200, b""),                                  "1 unknown", "2 unknown"),
    ("200 with empty fields",             status(200, {"error": "", "returnData": ""}),      "1 unknown", "2 unknown"),
    ("200 with every key twice",          status(200, TWICE),                                "1 unknown", "2 unknown"),
    ("200 nested 100,000 deep",           status(200, b'{"returnData":' + b"[" * 100_000),   "1 unknown", "2 unknown"),
    ("200 that is no UTF-8",              status(200, OK.replace(b"ccess", b"\xff\xfe")),    "1 unknown", "2 unknown"),
    ("half the JSON, length to match",    status(200, OK[:20]),                              "1 unknown", "2 unknown"),
    ("body cut by a close",               sends(reply("Content-Length: 99")),                "1 unknown", "2 unknown"),
    ("body cut by a reset",               sends(reply("Content-Length: 99"), "reset"),       "1 unknown", "2 unknown"),
    ("body that never ends",              sends(reply("Content-Length: 99"), "silence"),     "1 unknown", "2 unknown"),
    ("Content-Length too short",          sends(reply("Content-Length: 9"), ""),             "1 unknown", "2 unknown"),
    ("Content-Length: abc",               sends(reply("Content-Length: abc")),               "1 unknown", "2 unknown"),
    ("two Content-Lengths",               sends(reply(*TWO_LENGTHS)), "1 unknown", "2 unknown"),
    ("a chunk of no size",                sends(reply(CHUNKED, body=b"zz\r\n" + OK)),        "1 unknown", "2 unknown"),
    ("chunks cut by a close",             sends(reply(CHUNKED, body=b"5\r\nerr")),           "1 unknown", "2 unknown"),
    ("gzip that is none",                 status(200, OK, Content_Encoding="gzip"),          "1 unknown", "2 unknown"),
    ("a header of 1 MB",                  status(200, OK, X_Debug="x" * 1_000_000),          "1 unknown", "2 unknown"),
    ("a body of 256 MB",                  huge,                                              "1 unknown", "2 unknown"),
    ("a gzip bomb of 256 MB",             bomb,                                              "1 unknown", "2 unknown"),
    ("half a status line, then close",    sends(b"HTTP/1.1 20"),                             "1 unknown", "2 unknown"),
    ("no HTTP at all",                    sends(b"\x15\x03\x03\x00\x02\x02\x28" * 9),        "1 unknown", "2 unknown"),
    ("a body without a head",             sends(OK),                                         "1 unknown", "2 unknown"),
    ("read, then closed",                 always("close"),                                   "1 unknown", "2 unknown"),
    ("read, then reset",                  always("reset"),                                   "1 unknown", "2 unknown"),
    ("read, then silence",                always("silence"),                                 "1 unknown", "2 unknown"),
    ("a drop at a time",                  drip,                                              "1 unknown", "2 unknown"),
]
# what the server does when it has read the head alone: nothing has reached it
EARLY: list[tuple[str, Act, str, str]] = [
    ("early 400 and close",               sends(head(400, "Content-Length: 0")),             "0 failed",  "0 failed"),
    ("early 429, then honest",            once(sends(head(429, "Content-Length: 0"))),       "0 ok",      "0 ok"),
    ("early 500 and close",               sends(head(500, "Content-Length: 0")),             "0 unknown", "0 unknown"),
    ("closed after the head",             always("close"),                                   "0 unknown", "0 unknown"),
    ("reset after the head",              always("reset"),                                   "0 unknown", "0 unknown"),
]
# what the server does to a connection before it reads anything: only a fresh one can meet it
ACCEPT: list[tuple[str, Act, str, str]] = [
    ("closed on accepting",               always("close"),                                   "0 unknown", "0 unknown"),
    ("reset on accepting",                always("reset"),                                   "0 unknown", "0 unknown"),
    ("never reads",                       lambda _: asyncio.sleep(30),                       "0 unknown", "0 unknown"),
]
# what it does to a connection while nobody uses it: only a re-used one can meet it
IDLE: list[tuple[str, bytes | None, str, str]] = [
    ("closed while idle",                 b"",                                               "1 ok",      "1 ok"),
    ("reset while idle",                  None,                                              "1 ok",      "1 ok"),
    ("408 while idle, then closed",       head(408, "Content-Length: 0"),                    "1 ok",      "1 ok"),
    ("an answer nobody asked for",        reply(f"Content-Length: {len(OK)}"),               "1 failed",  "1 failed"),
]
# fmt: on
HEAVY = {"a body of 256 MB", "a gzip bomb of 256 MB"}
COMMANDS = ("CreateTask", "RemoveLinkedIncidents")
Key = tuple[str, str, bool]


async def all_of_matrix() -> dict[Key, Found]:
    gate = asyncio.Semaphore(12)
    found: dict[Key, Found] = {}

    async def one(key: Key, server: Callable[[], Scripted]) -> None:
        """On a machine that has much else to do a connection may idle away before it is used again: then once more."""
        async with gate:
            seconds = IMPATIENT if key[0] in SILENT else TIMEOUT
            for _ in range(4):
                found[key] = seen = await outcome_of(server(), key[1], reuse=key[2], patience=seconds)
                if seen.reused or not (key[2] and seen.reached):
                    return

    async with asyncio.TaskGroup() as group:
        for name, act, *_ in (*MATRIX, *EARLY):
            for command in COMMANDS:
                for reuse in (False,) if name in HEAVY else (False, True):
                    server = partial(Scripted, act, early=(name, act, *_) in EARLY)
                    group.create_task(one((name, command, reuse), server))
        for name, act, *_ in ACCEPT:
            for command in COMMANDS:
                group.create_task(one((name, command, False), partial(Scripted, always("ok"), accept=act)))
    return found


@pytest.fixture(scope="module")
def matrix() -> dict[Key, Found]:
    return asyncio.run(all_of_matrix())


PAGES = {
    "502 HTML", "301 to elsewhere", "302 to elsewhere", "307 to elsewhere", "308 to elsewhere",
    "101 Switching Protocols", "204", "304", "200 HTML", "200 empty",
}  # fmt: skip
"""D3 did not write them: before D3 has ever answered, they stop the run."""


def rows() -> Iterator[tuple[str, str, bool, str]]:
    for table in (MATRIX, EARLY, ACCEPT):
        for name, _, create, remove in table:
            for command, expected in zip(COMMANDS, (create, remove), strict=True):
                for reuse in (False,) if table is ACCEPT or name in HEAVY else (False, True):
                    yield name, command, reuse, "1 unknown" if name in PAGES and not reuse else expected


@pytest.mark.parametrize(
    ("name", "command", "reuse", "expected"),
    [pytest.param(*row, id=f"{row[0]} - {row[1]} - {'re-used' if row[2] else 'fresh'}") for row in rows()],
)
def test_requests_that_reached_the_server_and_outcome(
    matrix: dict[Key, Found], name: str, command: str, reuse: bool, expected: str
) -> None:
    found = matrix[name, command, reuse]

    assert str(found) == expected, found
    assert found.elsewhere == found.cookies == 0
    if reuse and found.reached:
        assert found.reused, "the case is about a connection that was used before"


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("act", [huge, bomb])
async def test_heavy_answers_over_a_connection_used_before(command: str, act: Act) -> None:
    found = await outcome_of(Scripted(act), command, reuse=True)

    assert str(found) == ("1 unknown" if command == "CreateTask" else "2 unknown")
    assert found.reused


def test_there_are_at_least_forty_faults() -> None:
    names = [row[0] for row in (*MATRIX, *EARLY, *ACCEPT, *IDLE)]

    assert len(names) == len(set(names)) >= 40


def test_no_task_reaches_the_server_twice_unless_it_was_refused(matrix: dict[Key, Found]) -> None:
    assert {key[0] for key, found in matrix.items() if key[1] == "CreateTask" and found.reached > 1} == {
        "429 once", "429 once, Retry-After: 0", "429 once, HTML",
    }  # fmt: skip


def test_a_401_and_a_pause_that_is_too_long_stop_the_run(matrix: dict[Key, Found]) -> None:
    for command in COMMANDS:
        assert matrix["401", command, False].stop == "unauthorized"
        assert matrix["429, Retry-After: 86400", command, False].stop == "throttled"


DOUBTS = [row for row in MATRIX if row[3] == "2 unknown" and row[0] not in HEAVY]


@pytest.mark.asyncio
async def test_links_in_doubt_are_asked_about_again_and_gone_ones_count() -> None:
    """Every fault once, then an honest "not linked": ok, for it was our own attempt that removed the link."""
    gate = asyncio.Semaphore(12)

    async def one(name: str, act: Act) -> tuple[str, str]:
        async with gate:
            server = Scripted(once(act), effective=True)
            seconds = IMPATIENT if name in SILENT else TIMEOUT
            return name, str(await outcome_of(server, "RemoveLinkedIncidents", reuse=name in PAGES, patience=seconds))

    found = await asyncio.gather(*(one(name, act) for name, act, *_ in DOUBTS))

    assert dict(found) == {row[0]: "2 ok" for row in DOUBTS}


@pytest.mark.asyncio
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("data", "create", "remove"), [row[1:] for row in IDLE], ids=[row[0] for row in IDLE])
async def test_what_comes_over_an_idle_connection_is_no_answer(
    command: str, data: bytes | None, create: str, remove: str
) -> None:
    """The next request gets the answer to itself, on another connection: here a refusal where a stray one said ok."""
    spoilt = asyncio.Event()
    stray = data is not None and b"200" in data
    act = status(200, FAILED) if stray else always("ok")
    server = Scripted(act)
    honest = server.serve

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if server.connections:
            await honest(reader, writer)
            return
        server.connections += 1
        await server.one(reader, writer, 1)
        await asyncio.sleep(0.02)
        if data is None:
            await Wire(server, reader, writer, "", 0).reset()
        else:
            writer.write(data)
            if not stray:
                writer.close()
        spoilt.set()
        await asyncio.sleep(0.1 if stray else 0)

    server.serve = serve  # type: ignore[method-assign] - one connection is served apart
    async with listening(server), connect_to(server.port) as parts:
        await prime(parts)
        await spoilt.wait()
        await asyncio.sleep(0.02)
        outcome, *_ = await carry(parts, command)

    assert f"{len(server.requests)} {outcome}" == (create if command == "CreateTask" else remove)
    assert server.connections == 2


@asynccontextmanager
async def connect_to(port: int, **options: Any) -> AsyncIterator[Connection]:
    parts = connect(settings(port, **options), max_outages=2)
    async with parts.transport:
        yield parts
