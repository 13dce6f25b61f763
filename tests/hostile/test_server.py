"""A server that means harm: every row ends in a right outcome, in bounded memory, and the terminal stays ours."""

import asyncio
import json
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.ground import rows_of, running
from tests.hostile.conftest import Told
from tests.hostile.ground import MOST_MEMORY, Ran, measured

HEADER = "incident,name,description,assignee,due\n"
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
"""What steers a terminal or turns text around; line end and tab do not."""


def job_file(folder: Path, incidents: list[str]) -> Path:
    file = folder / "tasks.csv"
    file.write_text(HEADER + "".join(f"{name},n,d,admin user,2027-01-01 10:00:00\n" for name in incidents))
    return file


def outcomes(folder: Path) -> dict[str, tuple[str, str]]:
    return {row["incident"]: (row["_outcome"], row["_code"]) for row in rows_of(folder / "tasks.d3run" / "results.csv")}


def steers_nothing(ran: Ran) -> None:
    assert not STEERING.findall(ran.out.decode() + ran.err.decode())


UNREADABLE = {
    "deep-json": ("unknown", "bad_response"),
    "invalid-utf8": ("unknown", "bad_response"),
    "duplicate-keys": ("unknown", "bad_response"),
    "giant-header": ("unknown", "bad_response"),
    "gzip-bomb": ("unknown", "answer_too_large"),
    "huge-body": ("unknown", "answer_too_large"),
    "redirect": ("unknown", "http_307"),
    "html-200": ("unknown", "bad_response"),
    "ansi-message": ("failed", "command_error"),
    "set-cookie": ("ok", ""),
    "slow-drip": ("unknown", "read_timeout"),
}


def test_whatever_it_answers_each_row_gets_its_outcome_in_bounded_memory(tmp_path: Path) -> None:
    faults = {f"20220125-{number}": fault for number, fault in enumerate(UNREADABLE, 1)}
    with running(rate=None, faults=lambda ask: faults.get(ask.incident), drip=1.0) as d3:
        job_file(tmp_path, [*faults, "20220125-99"])
        ran = measured(tmp_path, "run", "tasks.csv", "--yes", "--timeout", "3s", "-v", env=d3.env)
        counts = d3.ledger()["counts"]

    found = {faults.get(incident, "none"): outcome for incident, outcome in outcomes(tmp_path).items()}
    assert found == {**UNREADABLE, "none": ("ok", "")}
    assert ran.code == 4
    assert ran.peak < MOST_MEMORY
    steers_nothing(ran)
    assert (counts["strays"], counts["strays_with_key"]) == (0, 0), "a redirect takes us nowhere, and no key along"
    assert counts["cookies"] == 0, "a cookie is not kept"


def test_answers_without_measure_all_at_once_do_not_fill_the_memory(tmp_path: Path) -> None:
    with running(rate=None, faults=["gzip-bomb", "huge-body"] * 8) as d3:
        job_file(tmp_path, [f"i-{number}" for number in range(16)])
        ran = measured(tmp_path, "run", "tasks.csv", "--yes", env={**d3.env, "D3_CONCURRENCY": "16"})

    assert set(outcomes(tmp_path).values()) == {("unknown", "answer_too_large")}
    assert ran.peak < MOST_MEMORY


def test_what_a_message_says_never_steers_the_terminal_of_any_command(tmp_path: Path, told: Told) -> None:
    with running(rate=None, faults=lambda _: "ansi-message") as d3:
        job_file(tmp_path, ["20220125-1"])
        for words in (
            ("run", "tasks.csv", "--yes", "--json", "--progress", "json", "-v"),
            ("status", "tasks.d3run"),
            ("status", "tasks.d3run", "--json"),
        ):
            ran = told(tmp_path, *words, env=d3.env)
            steers_nothing(ran)
            if "json" in words:
                for line in ran.err.decode().splitlines():
                    if line.startswith("{"):
                        json.loads(line)
        refused = told(tmp_path, "call", "CreateTask", "-p", "Incident Number=1", env=d3.env)

    steers_nothing(refused)
    report = (tmp_path / "tasks.d3run" / "report.html").read_text()
    assert "All tasks deleted" in report
    assert "\x1b" not in report


# -- what the sandbox cannot do: bytes that are no HTTP server's

Act = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def endless_header_lines(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-More: and more\r\n" * 1000)
        await writer.drain()


async def slow_headers(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"y" * 1000:
        writer.write(bytes((byte,)))
        await writer.drain()
        await asyncio.sleep(0.05)


async def endless_interim_answers(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\n" * 1000)
        await writer.drain()


async def endless_body(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        await writer.drain()


async def endless_chunk_size(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1" * 65536)
        await writer.drain()


async def ansi_reason(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 500 \x1b[2J\x1b[31mgone\x07\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()


async def nonsense(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x1b[2J\x9b\xff\xfe SSH-2.0-OpenSSH\r\n" * 3)
    await writer.drain()


ACTS: dict[str, tuple[Act, set[str]]] = {
    "endless header lines": (endless_header_lines, {"bad_response", "connection_lost"}),
    "slow headers": (slow_headers, {"read_timeout"}),
    "endless interim answers": (endless_interim_answers, {"read_timeout", "bad_response", "connection_lost"}),
    "endless body": (endless_body, {"answer_too_large", "read_timeout"}),
    "endless chunk size": (endless_chunk_size, {"bad_response", "cut_answer", "connection_lost", "read_timeout"}),
    "escapes in the reason": (ansi_reason, {"http_500", "bad_response"}),
    "no HTTP at all": (nonsense, {"bad_response"}),
}


HONEST = "20220125-1"


async def honest(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n{"returnData":"Successful"}')


@contextmanager
def server(acts: dict[str, Act], heads: list[bytes] | None = None) -> Iterator[int]:
    """Answers a request about incident *name* with the act of that name; *heads* takes what came before the body."""
    loop, up, over, port = asyncio.new_event_loop(), threading.Event(), asyncio.Event(), 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if heads is not None:
                heads.append(head)
            found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            asked = json.loads(await reader.readexactly(int(found[1]) if found else 0))
            async with asyncio.timeout(20):
                await acts[asked["CommandParams"]["Incident Number"]](reader, writer)
        except (OSError, EOFError, TimeoutError):
            pass
        finally:
            writer.close()

    async def main() -> None:
        nonlocal port
        serving = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = serving.sockets[0].getsockname()[1]
        up.set()
        async with serving:
            await over.wait()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:  # type: ignore[operator]
            task.cancel()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    assert up.wait(20)
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(20)
        loop.close()


@pytest.mark.parametrize("seconds", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_what_is_not_even_http_is_unknown_and_says_so_in_clean_words(tmp_path: Path, seconds: int) -> None:
    """What never ends is read until the time-out of the attempt: that long it keeps a processor busy."""
    acts = {HONEST: honest} | {name: act for name, (act, _) in ACTS.items()}
    with server(acts) as port:
        job_file(tmp_path, list(acts))
        env = {"D3_BASE_URL": f"http://127.0.0.1:{port}/s/V", "D3_USERNAME": "u", "D3_SITE": "s", "D3_API_KEY": "k-1"}
        ran = measured(tmp_path, "run", "tasks.csv", "--yes", "--timeout", f"{seconds}s", env=env, timeout=60)

    found = outcomes(tmp_path)
    assert found.pop(HONEST)[0] == "ok", "until D3 has answered, a page would stop the run"
    assert {name: outcome for name, (outcome, _) in found.items()} == dict.fromkeys(ACTS, "unknown")
    assert {name: code for name, (_, code) in found.items() if code not in ACTS[name][1]} == {}
    assert ran.peak < MOST_MEMORY
    steers_nothing(ran)


def test_a_netrc_gives_nobody_a_password(tmp_path: Path, told: Told) -> None:
    """D3 is told its own key and nothing that other programs keep for the same host."""
    heads: list[bytes] = []

    async def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n{"returnData":"Successful"}')

    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password netrc-password\n")
    netrc.chmod(0o600)
    with server({"20220125-1": note}, heads) as port:
        job_file(tmp_path, ["20220125-1"])
        env = {"D3_BASE_URL": f"http://127.0.0.1:{port}/s/V", "D3_USERNAME": "u", "D3_SITE": "s", "D3_API_KEY": "k-1"}
        ran = told(tmp_path, "run", "tasks.csv", "--yes", env={**env, "NETRC": str(netrc), "HOME": str(tmp_path)})

    assert ran.code == 0, ran.said
    assert b"d3key: k-1" in heads[0]
    assert b"authorization" not in heads[0].lower()
