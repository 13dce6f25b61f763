"""What provably never left us is sent again: the row is unsent or ok, never unknown."""

import asyncio
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from d3async.engine.delivery import connect
from tests.end_to_end.faults.test_matrix import COMMANDS, carry, connect_to, head, settings
from tests.end_to_end.faults.wire import Act, Scripted, always, listening, sends

PATIENCE = 2.0
"""Seconds until a server that says nothing is given up; the others answer at once, also on a busy machine."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@asynccontextmanager
async def tcp(act: Act) -> AsyncIterator[Scripted]:
    """A server that does *act* to every connection."""
    async with listening(Scripted(always("ok"), accept=act)) as server:
        yield server


@pytest.mark.asyncio
@pytest.mark.parametrize("command", COMMANDS)
async def test_a_refused_connection_stops_the_run_after_so_many(command: str) -> None:
    async with connect_to(free_port()) as parts:
        assert await carry(parts, command) == ("unsent", "", "unreachable")


@pytest.mark.asyncio
@pytest.mark.parametrize("command", COMMANDS)
async def test_a_server_that_comes_back_gets_every_request_once(command: str) -> None:
    server = Scripted(always("ok"), port=free_port())
    parts = connect(settings(server.port))
    async with parts.transport:
        running = asyncio.create_task(carry(parts, command))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(running), 0.2)
        async with listening(server):
            assert await running == ("ok", "", "")

    assert len(server.requests) == 1


@pytest.mark.asyncio
async def test_a_name_that_cannot_be_resolved_stops_the_run() -> None:
    env = {"D3_BASE_URL": "https://d3async.invalid/ce_site/VSOC"}
    parts = connect(settings(0, env=env), max_outages=1)
    async with parts.transport:
        assert await carry(parts, "CreateTask") == ("unsent", "", "unreachable")


@pytest.mark.asyncio
async def test_a_connection_nobody_accepts_is_given_up() -> None:
    """A full backlog: the kernel drops what comes."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        parts = connect(settings(deaf.getsockname()[1], timeout=PATIENCE), max_outages=1)
        async with parts.transport:
            assert await carry(parts, "CreateTask") == ("unsent", "", "unreachable")
        for filler in fillers:
            filler.close()


TLS: list[tuple[str, Act]] = [
    ("speaks plain HTTP", sends(head(200, "Content-Length: 0"))),
    ("closes during the handshake", always("close")),
    ("resets during the handshake", always("reset")),
    ("says nothing", always("silence")),
]


@pytest.mark.asyncio
@pytest.mark.parametrize("act", [row[1] for row in TLS], ids=[row[0] for row in TLS])
@pytest.mark.parametrize("command", COMMANDS)
async def test_without_tls_nothing_leaves(act: Act, command: str) -> None:
    async with tcp(act) as server:
        env = {"D3_BASE_URL": f"https://127.0.0.1:{server.port}/ce_site/VSOC"}
        parts = connect(settings(0, env=env, timeout=PATIENCE), max_outages=1)
        async with parts.transport:
            assert await carry(parts, command) == ("unsent", "", "unreachable")

    assert server.requests == []


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that nobody vouches for, made here and now."""
    file = tmp_path_factory.mktemp("tls") / "localhost.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", file, "-out", f"{file}.crt"],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("needs openssl to make a certificate")
    file.write_text(file.read_text() + Path(f"{file}.crt").read_text())
    return file


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("host", "trusted", "outcome"),
    [("localhost", True, "ok"), ("localhost", False, "unsent"), ("127.0.0.1", True, "unsent")],
    ids=["trusted", "untrusted", "for another host"],
)
async def test_a_certificate_must_be_vouched_for_and_name_the_host(
    certificate: Path, host: str, trusted: bool, outcome: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with listening(Scripted(always("ok")), ssl=context) as server:
        env = {"D3_BASE_URL": f"https://{host}:{server.port}/ce_site/VSOC"}
        bundle = {"ca_bundle": Path(f"{certificate}.crt")} if trusted else {}
        parts = connect(settings(0, env=env, timeout=5.0, **bundle), max_outages=1)
        async with parts.transport:
            found, *_ = await carry(parts, "CreateTask")

    assert (found, len(server.requests)) == (outcome, int(outcome == "ok"))


PROXIES: list[tuple[str, Act]] = [
    ("refuses", sends(head(403, "Content-Length: 0"))),
    ("is overloaded", sends(head(503, "Content-Length: 0"))),
    ("wants a password", sends(head(407, "Content-Length: 0", "Proxy-Authenticate: Basic"))),
    ("closes", always("close")),
    ("resets", always("reset")),
    ("speaks no HTTP", sends(b"\x05\x00" * 20)),
    ("says nothing", always("silence")),
]


@pytest.mark.asyncio
@pytest.mark.parametrize("act", [row[1] for row in PROXIES], ids=[row[0] for row in PROXIES])
async def test_a_proxy_that_does_not_connect_us_has_sent_nothing_on(act: Act, monkeypatch: pytest.MonkeyPatch) -> None:
    """CONNECT is the proxy's business: our request comes after it."""
    async with tcp(act) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "")
        env = {"D3_BASE_URL": "https://d3async.invalid/ce_site/VSOC"}
        parts = connect(settings(0, env=env, timeout=PATIENCE), max_outages=1)
        async with parts.transport:
            assert await carry(parts, "CreateTask") == ("unsent", "", "unreachable")

    assert proxy.connections >= 1
