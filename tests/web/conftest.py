"""A page on a real socket, with a browser's cookie or without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from aiohttp import ClientSession, CookieJar, web

from d3async.web.server import HOST, make_app
from d3async.web.session import OneTimeToken, open_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from d3async.web.session import Session


@dataclass
class Page:
    """A served page; *client* has no cookie until it enters."""

    client: ClientSession
    session: Session
    token: OneTimeToken
    port: int
    state: Path

    @property
    def origin(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def base(self) -> str:
        return f"{self.origin}{self.session.path}"

    async def enter(self) -> None:
        async with self.client.get(f"{self.base}enter/{self.token.text}") as answer:
            assert answer.status == 200

    async def get(self, address: str = "", **headers: str) -> tuple[int, str]:
        async with self.client.get(self.base + address, headers=headers, allow_redirects=False) as answer:
            return answer.status, await answer.text()

    async def post(self, address: str, data: object = None, **headers: str) -> tuple[int, str]:
        """The status, and where it leads or what it says."""
        headers = {"Origin": self.origin, **headers}
        async with self.client.post(self.base + address, data=data, headers=headers, allow_redirects=False) as answer:
            return answer.status, answer.headers.get("Location") or await answer.text()


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("D3_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").write_text("")


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Page]:
    state = tmp_path / "state"
    session, token, port = open_session(state), OneTimeToken(), [0]
    runner = web.AppRunner(make_app(state, session, token, lambda: port[0], upload_limit=1 << 20), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    port[0] = runner.addresses[0][1]
    async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as client:
        yield Page(client, session, token, port[0], state)
    await runner.cleanup()


@pytest_asyncio.fixture
async def page(served: Page) -> Page:
    """A page that was entered."""
    await served.enter()
    return served
