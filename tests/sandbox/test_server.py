"""The server over real sockets: paths, keys, tokens, limits, and the ledger it shows."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from d3async.sandbox import serve
from d3async.sandbox.limits_and_faults import FixedWindow

if TYPE_CHECKING:
    from collections.abc import Callable


pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize(
    "path",
    ["/api/Command/CreateTask", "/api/command/createtask", "//api/Command/CREATETASK", "/api/Command/CreateTask/"],
)
async def test_paths_have_no_case(d3: Callable[..., Any], task: dict[str, str], path: str) -> None:
    async with d3() as server:
        body = json.dumps({"Username": "Admin", "Site": "S", "CommandParams": task}).encode()

        assert (await server.post(path, body)).status == 200


@pytest.mark.parametrize("prefix", ["", "/VSOC", "/MainApp/VSOC", "/ce_site/VSOC"])
async def test_any_site_path_will_do(d3: Callable[..., Any], task: dict[str, str], prefix: str) -> None:
    async with d3() as server:
        body = json.dumps({"Username": "Admin", "Site": "S", "CommandParams": task}).encode()
        root = str(server.url).removesuffix("/ce_site/VSOC")

        async with server.session.post(
            f"{root}{prefix}/api/Command/CreateTask", data=body, headers={"d3key": "sandbox-key"}
        ) as answer:
            assert answer.status == 200


async def test_the_yield_is_a_base_url_with_all_that_is_needed_to_call_it() -> None:
    async with serve(keys={"CreateTask": "k1", "GetLinkedIncidentsOfAnIncident": "k2"}) as url:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/ce_site/VSOC", url)
        assert url.env == {
            "D3_BASE_URL": str(url),
            "D3_USERNAME": "Admin",
            "D3_SITE": "Security Operations",
            "D3_API_KEY_CREATE_TASK": "k1",
            "D3_API_KEY_GET_LINKED_INCIDENTS_OF_AN_INCIDENT": "k2",
        }


async def test_it_listens_on_ipv6_too() -> None:
    async with serve(host="::1") as url:
        assert url.startswith("http://[::1]:")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"d3key": "sandbox-key"}, 200),
        ({"D3Key": "sandbox-key-create-task"}, 200),
        ({"d3key": "sandbox-key-remove-linked-incidents"}, 401),
        ({"d3key": "sandbox-key "}, 200),
        ({"d3key": "Sandbox-Key"}, 401),
        ({"d3key": ""}, 401),
        ({}, 401),
        ({"Authorization": "Bearer sandbox-key"}, 401),
    ],
)
async def test_a_key_opens_its_own_command_only(
    d3: Callable[..., Any], task: dict[str, str], headers: dict[str, str], status: int
) -> None:
    async with d3() as server:
        reply = await server.call("CreateTask", task, headers=headers)

        assert reply.status == status
        if status == 401:
            assert reply.json == {"Error": "Invalid authentication key."}
            assert server.url.ledger()["tasks"] == []


async def test_the_key_header_can_be_another(d3: Callable[..., Any], task: dict[str, str]) -> None:
    async with d3(key_header="x-webhook-key") as server:
        assert (await server.call("CreateTask", task, headers={"d3key": "sandbox-key"})).status == 401
        assert (await server.call("CreateTask", task, headers={"x-webhook-key": "sandbox-key"})).status == 200


SECRET = "sandbox-secret-of-at-least-32-bytes"
RIGHT = {"Username": "Admin", "Site": "Security Operations"}


@pytest.mark.parametrize(
    ("claims", "secret", "algorithm", "status"),
    [
        (RIGHT, SECRET, "HS256", 200),
        (RIGHT | {"exp": 4102444800}, SECRET, "HS256", 200),
        (RIGHT | {"exp": 1}, SECRET, "HS256", 401),
        (RIGHT | {"Username": "admin"}, SECRET, "HS256", 401),
        (RIGHT | {"Site": "Other"}, SECRET, "HS256", 401),
        ({"Username": "Admin"}, SECRET, "HS256", 401),
        (RIGHT, "another-secret-of-at-least-32-bytes!", "HS256", 401),
        (RIGHT, SECRET * 2, "HS512", 401),
    ],
)
async def test_a_tokens_claims_equal_the_bodys_values(
    d3: Callable[..., Any], task: dict[str, str], claims: dict[str, Any], secret: str, algorithm: str, status: int
) -> None:
    async with d3() as server:
        token = jwt.encode(claims, secret, algorithm)

        assert (await server.call("CreateTask", task, headers={"d3jwt": token})).status == status


async def test_a_token_that_is_none_is_refused(d3: Callable[..., Any], task: dict[str, str]) -> None:
    async with d3() as server:
        for token in ("", "x", "a.b.c", jwt.encode(RIGHT, "", "none")):
            assert (await server.call("CreateTask", task, headers={"d3jwt": token})).status == 401


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'"text"'])
async def test_a_body_that_is_no_json_object_is_a_bad_request(d3: Callable[..., Any], body: Any) -> None:
    async with d3() as server:
        reply = await server.post("/api/Command/CreateTask", body)

        assert (reply.status, reply.json) == (400, {"Error": "The body of the request must be a valid JSON object"})
        assert reply.headers["Content-Type"] == "application/json; charset=utf-8"


async def test_text_comes_back_as_it_went_out(d3: Callable[..., Any], task: dict[str, str]) -> None:
    async with d3() as server:
        odd = 'Grüße, "quoted", 日本語 🙂\n\ttab'

        reply = await server.call("CreateTask", task | {"Task Name": odd})

        assert reply.json["rawData"]["Task Name"] == odd
        assert server.url.state.tasks[0].name == odd


@pytest.mark.parametrize(("path", "status"), [("/api/Command/Nope", 404), ("/api/Command/", 404), ("/", 404)])
async def test_whatever_is_no_command_is_an_html_page_and_a_stray(
    d3: Callable[..., Any], path: str, status: int
) -> None:
    async with d3() as server:
        reply = await server.post(path, b"{}")

        assert (reply.status, reply.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
        counts = server.url.ledger()["counts"]
        assert (counts["strays"], counts["strays_with_key"], counts["requests"]) == (1, 1, 0)


async def test_a_command_is_only_ever_posted(d3: Callable[..., Any]) -> None:
    async with d3() as server:
        assert (await server.get("/api/Command/CreateTask")).status == 405


async def test_beyond_the_limit_comes_429_and_nothing_happens(d3: Callable[..., Any], task: dict[str, str]) -> None:
    async with d3(rate=2, retry_after="seconds") as server:
        replies = [await server.call("CreateTask", task | {"Task Name": str(i)}) for i in range(3)]

        assert [reply.status for reply in replies] == [200, 200, 429]
        assert replies[2].json == {
            "Error": "The request exceeds rate limits or is otherwise blocked by rate limiting policies."
        }
        assert replies[2].headers["Retry-After"] == "1"
        assert len(server.url.state.tasks) == 2


async def test_a_429_says_nothing_of_when_unless_told_to(d3: Callable[..., Any], task: dict[str, str]) -> None:
    async with d3(rate=1) as server:
        await server.call("CreateTask", task)

        assert "Retry-After" not in (await server.call("CreateTask", task)).headers


async def test_the_limit_comes_before_the_key(d3: Callable[..., Any], task: dict[str, str]) -> None:
    async with d3(rate=1) as server:
        assert (await server.call("CreateTask", task, headers={})).status == 401
        assert (await server.call("CreateTask", task, headers={})).status == 429


async def test_no_rate_no_limit(d3: Callable[..., Any], task: dict[str, str]) -> None:
    async with d3(rate=0) as server:
        assert {(await server.call("CreateTask", task)).status for _ in range(60)} == {200}


async def test_limit_and_faults_can_change_while_it_runs(d3: Callable[..., Any], task: dict[str, str]) -> None:
    async with d3() as server:
        server.url.set_limit(FixedWindow(0))
        blocked = await server.call("CreateTask", task)
        server.url.set_limit(None)
        server.url.set_faults(["error-500-before"])
        broken = await server.call("CreateTask", task)

        assert (blocked.status, broken.status) == (429, 500)
        assert broken.json == {"Error": "Unexpected Error."}


async def test_lists_that_are_too_long_are_refused_as_a_whole(
    d3: Callable[..., Any], removal: dict[str, Any], page_links: list[tuple[str, str]]
) -> None:
    async with d3(links=page_links, faults={"max-list": 1}) as server:
        reply = await server.call("RemoveLinkedIncidents", removal)

        assert (reply.status, reply.json) == (400, {"Error": "At most 1 incident numbers can be given."})
        assert server.url.ledger()["links"]["20231025-130"] == ["20210127-197", "20231025-131"]


async def test_the_ledger_tells_what_really_happened(
    d3: Callable[..., Any], task: dict[str, str], removal: dict[str, Any], page_links: list[tuple[str, str]]
) -> None:
    async with d3(links=page_links) as server:
        await server.call("CreateTask", task)
        await server.call("CreateTask", task | {"Assignee": "nobody"})
        await server.call("CreateTask", task, headers={"d3key": "wrong"})
        await server.call("RemoveLinkedIncidents", removal)

        told = (await server.get("/ledger")).json

        assert told == json.loads(json.dumps(server.url.ledger()))
        assert [
            (entry["n"], entry["command"], entry["status"], entry["effect"], entry["incident"], entry["items"])
            for entry in told["requests"]
        ] == [
            (1, "CreateTask", 200, True, "20220125-1", []),
            (2, "CreateTask", 200, False, "20220125-1", []),
            (3, "CreateTask", 401, False, "20220125-1", []),
            (4, "RemoveLinkedIncidents", 200, True, "20231025-130", ["20210127-198", "20210127-197"]),
        ]
        assert told["tasks"] == [{"n": 1, **task}]
        assert told["links"] == {"20231025-130": ["20231025-131"], "20231025-131": ["20231025-130"]}
        assert told["counts"]["by_status"] == {"200": 3, "401": 1}
        assert (told["counts"]["tasks"], told["counts"]["links_removed"]) == (1, 1)
        assert (told["worst_second"], told["in_flight_max_per_source"]) == (4, 1)


async def test_the_ledger_can_be_short_or_only_what_is_new(d3: Callable[..., Any], task: dict[str, str]) -> None:
    async with d3() as server:
        for _ in range(3):
            await server.call("CreateTask", task)

        short, new = (await server.get("/ledger?summary=1")).json, (await server.get("/ledger?since=2")).json

        assert "requests" not in short
        assert short["counts"] == new["counts"]
        assert [entry["n"] for entry in new["requests"]] == [task["n"] for task in new["tasks"]] == [3]


async def test_the_ledger_can_be_started_anew(
    d3: Callable[..., Any], task: dict[str, str], removal: dict[str, Any], page_links: list[tuple[str, str]]
) -> None:
    async with d3(links=page_links) as server:
        await server.call("CreateTask", task)
        await server.call("RemoveLinkedIncidents", removal)

        async with server.session.delete(server.url.ledger_url) as answer:
            assert answer.status == 204

        told = server.url.ledger()
        assert (told["requests"], told["tasks"], told["counts"]["requests"]) == ([], [], 0)
        assert told["links"]["20231025-130"] == ["20210127-197", "20231025-131"]


async def test_long_runs_keep_counts_only(d3: Callable[..., Any], task: dict[str, str]) -> None:
    async with d3(keep=False) as server:
        for _ in range(2):
            await server.call("CreateTask", task)

        told = server.url.ledger()
        assert (told["requests"], told["tasks"]) == ([], [])
        assert (told["counts"]["tasks"], told["counts"]["tasks_repeated"]) == (2, 1)


async def test_a_taken_port_is_an_os_error_and_leaves_nothing_behind(d3: Callable[..., Any]) -> None:
    async with d3() as server:
        port = int(str(server.url).split(":")[2].split("/")[0])
        with pytest.raises(OSError, match="address already in use"):
            async with serve(port=port):
                pass
