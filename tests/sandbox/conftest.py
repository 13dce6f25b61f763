"""A running sandbox and a plain caller, both on real sockets."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from d3async.sandbox import serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from d3async.sandbox import Sandbox


@dataclass
class Reply:
    status: int
    text: str
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class D3:
    url: Sandbox
    session: aiohttp.ClientSession

    async def call(self, command: str, params: Any, *, headers: Mapping[str, str] | None = None) -> Reply:
        body = {"Username": "Admin", "Site": "Security Operations", "CommandParams": params}
        return await self.post(f"/api/Command/{command}", json.dumps(body).encode(), headers=headers)

    async def post(self, path: str, body: bytes, *, headers: Mapping[str, str] | None = None) -> Reply:
        headers = {"d3key": "sandbox-key"} if headers is None else headers
        async with self.session.post(f"{self.url}{path}", data=body, headers=headers, allow_redirects=False) as answer:
            return Reply(answer.status, await answer.text(), answer.headers)

    async def get(self, path: str) -> Reply:
        async with self.session.get(f"{self.url}{path}") as answer:
            return Reply(answer.status, await answer.text(), answer.headers)


@asynccontextmanager
async def _d3(**options: Any) -> AsyncIterator[D3]:
    async with serve(**options) as url, aiohttp.ClientSession() as session:
        yield D3(url, session)


@pytest.fixture
def d3() -> Callable[..., Any]:
    """`async with d3(rate=5) as server:` runs a sandbox; `server.call(command, params)` asks it."""
    return _d3


@pytest.fixture
def task() -> dict[str, str]:
    """The request sample of D3's CreateTask page."""
    return {
        "Task Name": "Sample Task ",
        "Task Type": "Default",
        "Task Description": "Sample Task Description",
        "Assignee": "admin user",
        "Due Date": "2022-03-24 13:28:13",
        "Required": "Yes",
        "Incident Number": "20220125-1",
    }


@pytest.fixture
def removal() -> dict[str, Any]:
    """The request sample of D3's RemoveLinkedIncidents page."""
    return {
        "Linked Incident Numbers to be Removed": ["20210127-198", "20210127-197"],
        "Source Incident Number": "20231025-130",
    }


@pytest.fixture
def page_links() -> list[tuple[str, str]]:
    """The links that make that request answer as printed on the page."""
    return [("20231025-130", "20210127-197"), ("20231025-130", "20231025-131")]
