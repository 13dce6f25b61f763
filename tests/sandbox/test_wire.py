"""Every fault on the wire: what the caller gets, and whether the command was carried out."""

from __future__ import annotations

import asyncio
import json
import zlib
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from d3async.sandbox import serve
from d3async.sandbox.limits_and_faults import ANSI_TEXT

if TYPE_CHECKING:
    from collections.abc import Callable

    from d3async.sandbox import Sandbox


pytestmark = pytest.mark.asyncio

SOURCE, GONE, STAYS, LOOSE = "INC-1", "INC-2", "INC-3", "INC-4"
LINKS = [(SOURCE, GONE), (SOURCE, STAYS)]
REMOVAL = {"Source Incident Number": SOURCE, "Linked Incident Numbers to be Removed": [GONE, LOOSE]}


@pytest.mark.parametrize(
    ("fault", "effect"),
    [("drop-before", False), ("drop-after", True), ("cut-body", True), ("hang", True), ("hang-before", False)],
)
async def test_no_whole_answer_comes_and_the_ledger_knows_whether_it_happened(
    d3: Callable[..., Any], task: dict[str, str], fault: str, effect: bool
) -> None:
    expected = {
        "cut-body": aiohttp.ClientPayloadError,
        "hang": TimeoutError,
        "hang-before": TimeoutError,
    }.get(fault, aiohttp.ServerDisconnectedError)
    async with d3(faults=[fault]) as server:
        with pytest.raises(expected):
            async with asyncio.timeout(0.3):
                await server.call("CreateTask", task)

        entry = server.url.ledger()["requests"][0]
        assert (entry["status"], entry["fault"], entry["effect"]) == (None, fault, effect)
        assert len(server.url.state.tasks) == effect
        assert (await server.call("CreateTask", task)).status == 200


async def test_a_dropped_connection_carries_not_one_byte(task: dict[str, str]) -> None:
    async with serve(faults=["drop-after"]) as url:
        assert await raw(url, task) == b""


async def test_a_cut_body_promises_more_than_it_holds(task: dict[str, str]) -> None:
    async with serve(faults=["cut-body"]) as url:
        head, _, body = (await raw(url, task)).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert 0 < len(body) < int(head.lower().split(b"content-length: ")[1])


@pytest.mark.parametrize(
    ("fault", "status", "effect", "body"),
    [
        ("error-500-before", 500, False, {"Error": "Unexpected Error."}),
        ("error-500-after", 500, True, {"Error": "Unexpected Error."}),
        ("error-400", 400, False, {"Error": "The body of the request must be a valid JSON object"}),
        ("error-401", 401, False, {"Error": "Invalid authentication key."}),
        ("error-503", 503, False, None),
        ("error-504-after", 504, True, None),
        ("error-413", 413, False, None),
        ("html-200", 200, False, None),
    ],
)
async def test_errors_have_d3s_body_or_a_gateways_page(
    d3: Callable[..., Any], task: dict[str, str], fault: str, status: int, effect: bool, body: Any
) -> None:
    async with d3(faults=[fault]) as server:
        reply = await server.call("CreateTask", task)

        assert (reply.status, len(server.url.state.tasks)) == (status, effect)
        if body is None:
            assert reply.text.startswith("<!DOCTYPE html>")
        else:
            assert reply.json == body


async def test_a_scripted_429_says_when_to_come_back(d3: Callable[..., Any], task: dict[str, str]) -> None:
    async with d3(faults=["error-429"], retry_after=120.0) as server:
        reply = await server.call("CreateTask", task)

        assert (reply.status, reply.headers["Retry-After"]) == (429, "120")


async def test_a_redirect_points_to_another_host_and_whoever_follows_is_seen(
    d3: Callable[..., Any], task: dict[str, str]
) -> None:
    async with d3(faults=["redirect"]) as server:
        reply = await server.call("CreateTask", task)
        where = reply.headers["Location"]
        async with server.session.post(where.replace("localhost", "127.0.0.1"), headers={"d3key": "sandbox-key"}):
            pass

        assert (reply.status, where.startswith("http://localhost:")) == (307, True)
        counts = server.url.ledger()["counts"]
        assert (counts["strays"], counts["strays_with_key"], counts["tasks"]) == (1, 1, 0)


async def told(d3: Callable[..., Any], fault: str) -> tuple[Any, list[str]]:
    async with d3(links=LINKS, faults=[fault]) as server:
        reply = await server.call("RemoveLinkedIncidents", REMOVAL)
        return reply, server.url.state.links.of(SOURCE)


@pytest.mark.parametrize(
    ("fault", "numbers"),
    [
        ("foreign-error-data", [LOOSE, "20190101-1"]),
        ("repeated-error-data", [LOOSE, LOOSE]),
        ("wrong-status", [LOOSE]),
        ("other-data-key", [LOOSE]),
    ],
)
async def test_error_data_lies_and_the_links_do_not(d3: Callable[..., Any], fault: str, numbers: list[str]) -> None:
    reply, left = await told(d3, fault)

    assert [item["Incident Number"] for item in reply.json["returnData"]["ErrorData"]] == numbers
    assert left == [STAYS]


async def test_error_data_may_be_missing(d3: Callable[..., Any]) -> None:
    reply, _ = await told(d3, "missing-error-data")

    assert "ErrorData" not in reply.json["returnData"]
    assert reply.json["returnData"]["Status"] == "Partially Successful"


async def test_error_data_may_be_in_another_case(d3: Callable[..., Any]) -> None:
    reply, _ = await told(d3, "odd-case-error-data")

    assert reply.json["returnData"]["ErrorData"] == [
        {"Incident number": "inc-4", "Error Message": "The source incident is not linked to this incident."}
    ]


async def test_the_status_may_contradict_the_error_data(d3: Callable[..., Any]) -> None:
    reply, _ = await told(d3, "wrong-status")

    assert reply.json["returnData"]["Status"] == "Successful"


async def test_data_may_have_another_key(d3: Callable[..., Any]) -> None:
    reply, _ = await told(d3, "other-data-key")

    assert reply.json["returnData"]["Data"] == {"Linked incidents left": [STAYS]}


async def test_a_link_may_stay_although_nobody_says_so(d3: Callable[..., Any]) -> None:
    reply, left = await told(d3, "still-linked")

    (remaining,) = reply.json["returnData"]["Data"].values()
    assert remaining == left == [GONE, STAYS]
    assert [item["Incident Number"] for item in reply.json["returnData"]["ErrorData"]] == [LOOSE]


async def test_return_data_may_be_json_in_a_string(d3: Callable[..., Any]) -> None:
    reply, _ = await told(d3, "string-return-data")

    assert json.loads(reply.json["returnData"])["Status"] == "Partially Successful"


@pytest.mark.parametrize(
    ("fault", "body"),
    [
        ("empty-answer", {"error": "", "returnData": ""}),
        ("ansi-message", {"error": ANSI_TEXT, "returnData": "Failed", "rawData": ""}),
    ],
)
async def test_an_answer_that_says_nothing_or_steers_a_terminal_did_nothing(
    d3: Callable[..., Any], task: dict[str, str], fault: str, body: Any
) -> None:
    async with d3(faults=[fault]) as server:
        reply = await server.call("CreateTask", task)

        assert (reply.json, server.url.state.tasks) == (body, [])


async def test_json_may_be_deeper_than_a_parser_goes(d3: Callable[..., Any], task: dict[str, str]) -> None:
    async with d3(faults=["deep-json"]) as server:
        reply = await server.call("CreateTask", task)

        with pytest.raises(RecursionError):
            json.loads(reply.text)


async def test_a_body_may_be_no_utf8(task: dict[str, str]) -> None:
    async with serve(faults=["invalid-utf8"]) as url:
        body = (await raw(url, task)).partition(b"\r\n\r\n")[2]

    with pytest.raises(UnicodeDecodeError):
        body.decode()


async def test_keys_may_come_twice_and_contradict(d3: Callable[..., Any], task: dict[str, str]) -> None:
    async with d3(faults=["duplicate-keys"]) as server:
        pairs = json.loads((await server.call("CreateTask", task)).text, object_pairs_hook=list)

        assert [value for name, value in pairs if name == "returnData"] == ["Successful", "Failed"]


async def test_a_gzip_bomb_unpacks_to_a_thousand_times_its_size(task: dict[str, str]) -> None:
    async with serve(faults=["gzip-bomb"]) as url:
        head, _, body = (await raw(url, task)).partition(b"\r\n\r\n")

    assert b"content-encoding: gzip" in head.lower()
    assert len(body) < 1_000_000
    unpacker, size = zlib.decompressobj(16 + zlib.MAX_WBITS), 0
    packed = unchunked(body)
    while packed:
        size += len(unpacker.decompress(packed, 1 << 20))
        packed = unpacker.unconsumed_tail
    assert (size, unpacker.eof) == (256 * 1024 * 1024 + 31, True)


async def test_a_huge_body_ends_when_the_caller_has_had_enough(d3: Callable[..., Any], task: dict[str, str]) -> None:
    async with d3(faults=["huge-body"]) as server:
        body = json.dumps({"Username": "Admin", "Site": "S", "CommandParams": task})
        headers = {"d3key": "sandbox-key"}
        async with server.session.post(f"{server.url}/api/Command/CreateTask", data=body, headers=headers) as answer:
            assert len(await answer.content.readexactly(5_000_000)) == 5_000_000
            answer.close()

        assert (await server.call("CreateTask", task)).status == 200


async def test_a_slow_answer_comes_byte_by_byte_and_whole(d3: Callable[..., Any], task: dict[str, str]) -> None:
    async with d3(faults=["slow-drip"], drip=0.0001) as server:
        assert (await server.call("CreateTask", task)).json["returnData"] == "Successful"


async def test_a_hanging_request_is_answered_in_the_end(d3: Callable[..., Any], task: dict[str, str]) -> None:
    async with d3(faults=["hang"], hang_for=0.05) as server:
        assert (await server.call("CreateTask", task)).json["returnData"] == "Successful"


async def test_an_answer_may_set_a_cookie_and_its_return_is_seen(d3: Callable[..., Any], task: dict[str, str]) -> None:
    async with d3(faults=["set-cookie"]) as server:
        reply = await server.call("CreateTask", task)
        await server.call("CreateTask", task, headers={"d3key": "sandbox-key", "Cookie": "session=tracked"})

        assert reply.headers["Set-Cookie"] == "session=tracked; Path=/"
        assert server.url.ledger()["counts"]["cookies"] == 1


async def test_a_header_may_be_larger_than_a_client_takes(d3: Callable[..., Any], task: dict[str, str]) -> None:
    async with d3(faults=["giant-header"]) as server:
        with pytest.raises(aiohttp.ClientResponseError):
            await server.call("CreateTask", task)

        assert len(server.url.state.tasks) == 1


async def raw(url: Sandbox, task: dict[str, str]) -> bytes:
    """Send one request on a bare socket and read until the server closes."""
    body = json.dumps({"Username": "Admin", "Site": "S", "CommandParams": task}).encode()
    host, port = str(url).split("/")[2].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /VSOC/api/Command/CreateTask HTTP/1.1\r\nHost: d3\r\nd3key: sandbox-key\r\nConnection: close\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    found = await reader.read(-1)
    writer.close()
    await writer.wait_closed()
    return found


def unchunked(body: bytes) -> bytes:
    found = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        found, body = found + rest[:length], rest[length + 2 :]
    return found
