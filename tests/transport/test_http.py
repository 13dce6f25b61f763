"""One request out, an answer or what is known of the failure back; nothing is sent twice, nothing is followed."""

import asyncio
import json
import ssl
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from d3async.d3.call import ApiRequest
from d3async.d3.response import ApiResponse, TransportFailure
from d3async.errors import SettingsError
from d3async.transport.http import MAX_ANSWER, HttpSettings, Transport, broken, tls
from tests.end_to_end.faults.wire import Act, Scripted, always, bomb, huge, listening, status

REQUEST = ApiRequest("CreateTask", b'{"Username": "Admin"}')
KEY = {"d3key": "key"}


def network(port: int, **options: Any) -> HttpSettings:
    return HttpSettings(
        base_url=f"http://127.0.0.1:{port}/ce_site/VSOC", timeout=options.pop("timeout", 10.0), **options
    )


@asynccontextmanager
async def talking(act: Act, **options: Any) -> AsyncIterator[tuple[Transport, Scripted]]:
    async with (
        listening(Scripted(act)) as server,
        Transport(network(server.port, **options)) as transport,
    ):
        yield transport, server


@pytest.mark.asyncio
async def test_an_answer_comes_with_lower_case_headers_and_repeated_ones_joined() -> None:
    async def act(wire: Any) -> None:
        await wire.raw(b"HTTP/1.1 429 X\r\nRetry-After: 1\r\nretry-after: 2\r\nX-Y: z\r\nContent-Length: 2\r\n\r\n{}")

    async with talking(act) as (transport, _):
        answer = await transport.send(REQUEST, KEY)

    assert isinstance(answer, ApiResponse)
    assert (answer.status, answer.body) == (429, b"{}")
    assert (answer.headers["retry-after"], answer.headers["x-y"]) == ("1, 2", "z")
    assert 0 <= answer.elapsed < 10


@pytest.mark.asyncio
async def test_whoever_asks_hears_when_the_headers_leave_and_only_then() -> None:
    told: list[str] = []
    async with talking(always("ok")) as (transport, _):
        await transport.send(REQUEST, KEY, on_sent=lambda: told.append("left"))
        assert told == ["left"]
    async with Transport(network(1)) as transport:
        answer = await transport.send(REQUEST, KEY, on_sent=lambda: told.append("never"))

    assert told == ["left"]
    assert answer == TransportFailure(sent=False, code="refused", message=answer.message)  # type: ignore[union-attr] - a Broken


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("act", "code", "http"),
    [
        (always("close"), "connection_lost", None),
        (always("reset"), "connection_lost", None),
        (always("silence"), "read_timeout", None),
        (always("raw", b"HTTP/1.1 500 X\r\nContent-Length: 9\r\n\r\n"), "read_timeout", 500),
        (always("raw", b"nonsense\r\n\r\n"), "bad_response", None),
    ],
)
async def test_a_failure_after_sending_says_so_and_keeps_the_status_it_began_with(
    act: Act, code: str, http: int | None
) -> None:
    async with talking(act, timeout=0.3) as (transport, _):
        answer = await transport.send(REQUEST, KEY)

    assert isinstance(answer, TransportFailure)
    assert (answer.sent, answer.code, answer.status) == (True, code, http)
    assert answer.message


@pytest.mark.asyncio
@pytest.mark.parametrize("act", [huge, bomb])
async def test_an_answer_without_end_is_given_up_and_memory_does_not_grow(act: Act) -> None:
    """256 MB are offered; a little more than the 16 MB that are read at most is ever held."""
    async with talking(act) as (transport, _):
        await asyncio.to_thread(lambda: None)
        tracemalloc.start()
        try:
            answer = await transport.send(REQUEST, KEY)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert isinstance(answer, TransportFailure)
    assert (answer.sent, answer.code, answer.status) == (True, "answer_too_large", 200)
    assert peak < 5 * MAX_ANSWER


@pytest.mark.asyncio
async def test_connections_are_used_again_but_not_after_four_idle_seconds() -> None:
    async with talking(always("ok")) as (transport, server):
        await transport.send(REQUEST, KEY)
        await transport.send(REQUEST, KEY)
        assert server.connections == 1
        async with transport._connector() as connector:
            assert connector._keepalive_timeout == 4.0


@pytest.mark.asyncio
async def test_cookies_are_neither_kept_nor_sent() -> None:
    async with talking(status(200, b"{}", Set_Cookie="a=b; Path=/")) as (transport, server):
        await transport.send(REQUEST, KEY)
        await transport.send(REQUEST, KEY)

    assert server.cookies == 0


@pytest.mark.asyncio
async def test_a_session_passed_in_is_used_left_open_and_left_as_it_was() -> None:
    async with listening(Scripted(always("ok"))) as server, aiohttp.ClientSession() as session:
        for _ in range(2):
            async with Transport(network(server.port), session=session) as transport:
                told: list[int] = []
                await transport.send(REQUEST, KEY, on_sent=lambda told=told: told.append(1))
                assert told == [1]
        assert not session.closed
        assert session.trace_configs == []

    assert len(server.requests) == 2


@pytest.mark.asyncio
async def test_two_clients_on_one_session_hear_each_of_its_own_request_once() -> None:
    async with (
        listening(Scripted(always("ok"))) as server,
        aiohttp.ClientSession() as session,
        Transport(network(server.port), session=session) as one,
        Transport(network(server.port), session=session) as other,
    ):
        told: list[str] = []
        await one.send(REQUEST, KEY, on_sent=lambda: told.append("one"))
        await other.send(REQUEST, KEY, on_sent=lambda: told.append("other"))

    assert told == ["one", "other"]


@pytest.mark.asyncio
async def test_a_session_that_raises_for_a_status_does_not_lose_us_the_answer() -> None:
    """A 429 would look like a request nobody knows anything about."""
    async with (
        listening(Scripted(status(429))) as server,
        aiohttp.ClientSession(raise_for_status=True) as session,
        Transport(network(server.port), session=session) as transport,
    ):
        answer = await transport.send(REQUEST, KEY)

    assert isinstance(answer, ApiResponse)
    assert answer.status == 429


@pytest.mark.asyncio
async def test_a_session_that_sends_again_by_itself_does_not_do_so_for_us() -> None:
    async def again(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        for _ in range(2):
            await (await handler(request)).read()
        return await handler(request)

    async with (
        listening(Scripted(status(503))) as server,
        aiohttp.ClientSession(middlewares=(again,)) as session,
        Transport(network(server.port), session=session) as transport,
    ):
        await transport.send(REQUEST, KEY)

    assert len(server.requests) == 1


@pytest.mark.asyncio
async def test_a_cancel_gives_the_connection_back_closed() -> None:
    async with talking(always("silence")) as (transport, server):
        left = asyncio.Event()
        sending = asyncio.create_task(transport.send(REQUEST, KEY, on_sent=left.set))
        await left.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        server.act = always("ok")
        assert isinstance(await transport.send(REQUEST, KEY), ApiResponse)
        assert server.connections == 2


@pytest.mark.asyncio
async def test_cancelled_at_any_step_the_next_answer_is_the_next_request_s() -> None:
    """However far it got: an answer that nobody waits for any more is never taken for another."""

    async def act(wire: Any) -> None:
        await asyncio.sleep(0.001)
        await wire.answer(200, {"nth": wire.nth})

    async with talking(act) as (transport, server):
        for steps in range(40):
            sending = asyncio.create_task(transport.send(REQUEST, KEY))
            for _ in range(steps):
                await asyncio.sleep(0.0005 if steps % 2 else 0)
            sending.cancel()
            await asyncio.wait([sending])
            answer = await transport.send(REQUEST, KEY)

            assert isinstance(answer, ApiResponse)
            assert json.loads(answer.body) == {"nth": server._asked}


@pytest.mark.asyncio
async def test_interim_answers_are_passed_over() -> None:
    async def act(wire: Any) -> None:
        await wire.raw(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        await wire.answer(200, {"said": "at last"})

    async with talking(act) as (transport, _):
        answer = await transport.send(REQUEST, KEY)

    assert isinstance(answer, ApiResponse)
    assert (answer.status, json.loads(answer.body)) == (200, {"said": "at last"})


@pytest.mark.asyncio
async def test_the_request_line_and_each_header_leave_once() -> None:
    heads: list[list[bytes]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(len(REQUEST.body))
        heads.append([*head.strip().split(b"\r\n"), body])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    async with (
        await asyncio.start_server(serve, "127.0.0.1", 0) as server,
        Transport(network(server.sockets[0].getsockname()[1])) as transport,
    ):
        await transport.send(REQUEST, KEY)

    [[first, *headers, body]] = heads
    assert (first, body) == (b"POST /ce_site/VSOC/api/Command/CreateTask HTTP/1.1", REQUEST.body)
    names = [header.split(b":")[0].lower() for header in headers]
    assert len(names) == len(set(names))
    assert {b"d3key: key", b"Content-Type: application/json", b"Accept: application/json"} <= set(headers)


@pytest.mark.asyncio
@pytest.mark.parametrize("value", ["a\r\nX-Y: z", "a\nb", "a\x00b"])
async def test_a_header_never_becomes_two(value: str) -> None:
    async with talking(always("ok")) as (transport, server):
        answer = await transport.send(REQUEST, {"d3key": value})

    assert isinstance(answer, TransportFailure)
    assert server.requests == []


@pytest.mark.asyncio
async def test_before_it_is_entered_nothing_can_be_sent() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await Transport(network(1)).send(REQUEST, KEY)


@pytest.mark.asyncio
@pytest.mark.parametrize("code", [200, 400, 429, 500])
async def test_what_a_mock_of_aiohttp_answers_is_read_like_any_other_answer(responses: Any, code: int) -> None:
    responses.post("http://127.0.0.1:9/ce_site/VSOC/api/Command/CreateTask", status=code, payload={"error": ""})
    async with Transport(network(9)) as transport:
        answer = await transport.send(REQUEST, KEY)

    assert isinstance(answer, ApiResponse)
    assert (answer.status, answer.body) == (code, b'{"error": ""}')


@pytest.mark.asyncio
async def test_without_proof_that_it_left_a_failure_is_one_before_the_wire(responses: Any) -> None:
    """aioresponses runs no traces: so this also shows that nothing else decides."""
    responses.post(
        "http://127.0.0.1:9/ce_site/VSOC/api/Command/CreateTask", exception=aiohttp.ServerDisconnectedError()
    )
    async with Transport(network(9)) as transport:
        answer = await transport.send(REQUEST, KEY)

    assert isinstance(answer, TransportFailure)
    assert not answer.sent


@pytest.mark.parametrize(
    ("error", "unsent", "sent"),
    [
        (TimeoutError(), "connect_timeout", "read_timeout"),
        (aiohttp.ServerTimeoutError(), "connect_timeout", "read_timeout"),
        (aiohttp.ConnectionTimeoutError(), "connect_timeout", "read_timeout"),
        (aiohttp.SocketTimeoutError(), "connect_timeout", "read_timeout"),
        (aiohttp.ServerDisconnectedError(), "connect_failed", "connection_lost"),
        (aiohttp.ClientOSError(104, "reset"), "connect_failed", "connection_lost"),
        (ConnectionResetError(104, "reset"), "connect_failed", "connection_lost"),
        (ConnectionRefusedError(111, "refused"), "refused", "connection_lost"),
        (aiohttp.ClientPayloadError("cut"), "connect_failed", "cut_answer"),
        (aiohttp.InvalidURL("x"), "bad_url", "bad_response"),
        (ValueError("x"), "connect_failed", "bad_response"),
        (ssl.SSLError("x"), "connect_failed", "connection_lost"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_the_class_of_an_error_names_it_and_only_the_fact_decides_what_it_means(
    error: Exception, unsent: str, sent: str
) -> None:
    before, after = broken(error, sent=False), broken(error, sent=True, status=200)

    assert (before.sent, before.code, before.status) == (False, unsent, None)
    assert (after.sent, after.code, after.status) == (True, sent, 200)


def test_a_refusal_behind_several_addresses_is_still_a_refusal() -> None:
    several = OSError("Multiple exceptions")
    several.os_error = ExceptionGroup("all failed", [ConnectionRefusedError(111, "a"), OSError(101, "b")])  # type: ignore[attr-defined] - as aiohttp has it

    assert broken(several, sent=False).code == "refused"


@pytest.mark.parametrize("field", ["ca_bundle", "client_cert"])
def test_a_file_that_is_no_certificate_is_a_setting_to_mend(tmp_path: Path, field: str) -> None:
    (tmp_path / "x.pem").write_text("not a certificate")

    with pytest.raises(SettingsError, match="D3_CA_BUNDLE"):
        tls(network(1, **{field: tmp_path / "x.pem"}))


def test_old_tls_is_not_spoken() -> None:
    assert tls(network(1)).minimum_version == ssl.TLSVersion.TLSv1_2
