"""One POST through aiohttp's session; what a server or a network can do to it comes back as `Broken`."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

import aiohttp
from aiohttp import ClientTimeout, TCPConnector
from aiohttp.helpers import get_env_proxy_for_url
from yarl import URL

from d3async import __version__
from d3async.errors import SettingsError
from d3async.network import tls
from d3async.sansio.protocol import API_PATH, ApiRequest, ApiResponse, Broken
from d3async.transport.by_session import BySession
from d3async.transport.facts import Facts, Post
from d3async.transport.failures import WIRE_ERRORS, broken

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

    from d3async.network import Network

_KEEP_ALIVE = 4.0
"""Seconds an idle connection is kept: below the 5 s after which common servers close theirs."""
_CONNECT = 10.0
_HEADERS = {"User-Agent": f"d3async/{__version__}", "Accept": "application/json"}


class Transport:
    """Sends requests through an aiohttp session; never follows a redirect, never sends anything twice.

    A *session* passed in keeps its connections, cookies and headers and is not closed. Without one, the transport
    opens a session of its own.
    """

    def __init__(self, network: Network, *, session: aiohttp.ClientSession | None = None) -> None:
        self._network = network
        self._root = network.base_url.rstrip("/") + API_PATH
        self._within = _within(network.timeout)
        self._session = session
        self._closing = AsyncExitStack()
        self._way: BySession | None = None

    async def __aenter__(self) -> Self:
        if self._session is not None:
            self._way = self._closing.enter_context(BySession(self._session))
            return self
        proxy, proxy_headers = await asyncio.to_thread(_proxy, self._network.base_url)
        session = await self._closing.enter_async_context(self._open(proxy, proxy_headers))
        self._way = self._closing.enter_context(BySession(session, proxy_headers))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._closing.aclose()

    def _connector(self) -> TCPConnector:
        return _Connector(
            limit=self._network.concurrency + 4,
            keepalive_timeout=_KEEP_ALIVE,
            ttl_dns_cache=60,
            ssl=tls(self._network) if self._root.startswith("https:") else True,
        )

    def _open(self, proxy: URL | None, proxy_headers: Mapping[str, str]) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=self._connector(),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=proxy,
            # without TLS there is no CONNECT that could carry the proxy's own
            headers={**_HEADERS, **({} if self._root.startswith("https:") else proxy_headers)},
            auto_decompress=True,
        )

    async def send(
        self,
        request: ApiRequest,
        headers: Mapping[str, str],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - a budget for aiohttp's own phases, not a scope around them
        on_sent: Callable[[], None] | None = None,
    ) -> ApiResponse | Broken:
        """POST *request* once. *timeout* in seconds covers the attempt; *on_sent* is called when its headers leave.

        Raises nothing for what a server or network can do: that comes back as `Broken`.
        """
        if self._way is None:
            raise RuntimeError("use `async with` before sending")
        within = self._within if timeout is None or timeout == self._network.timeout else _within(timeout)
        facts = Facts(on_sent)
        try:
            return await self._way.exchange(Post(self._root + request.command, headers, request.body, within), facts)
        except WIRE_ERRORS as error:
            return broken(error, sent=facts.sent, status=facts.status)


def _within(seconds: float) -> ClientTimeout:
    """*seconds* for the whole attempt: a limit of its own for the answer would cost a timer and say the same."""
    connect = min(_CONNECT, seconds)
    return ClientTimeout(total=seconds, connect=connect, sock_connect=connect)


def _proxy(base_url: str) -> tuple[URL | None, Mapping[str, str]]:
    """The environment's proxy on the way to *base_url*, and the headers for it; raises `SettingsError` when it is none.

    Asked for once: `trust_env` would ask in a thread, for every request anew.
    """
    try:
        proxy, user = get_env_proxy_for_url(URL(base_url))
    except LookupError:
        return None, {}
    except ValueError as error:
        raise SettingsError(f"HTTPS_PROXY or HTTP_PROXY cannot be used: {error}", code="proxy") from error
    return proxy, {"Proxy-Authorization": user.encode()} if user else {}


class _Connector(TCPConnector):
    """Never re-uses a connection on which something came that nobody asked for: the next request would take it.

    aiohttp asks `should_close` when a connection goes back to the pool, not when it is taken out again.
    """

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        connection = await super()._get(key, traces)
        while connection is not None and (connection.protocol is None or connection.protocol.should_close):
            connection.close()
            connection = await super()._get(key, traces)
        return connection
