"""The way past the session, for our own programs: what a session does anew for every request is done once.

Connections, TLS and the reading of HTTP are aiohttp's own; what is left out is what D3 never asks for: redirects,
cookies, traces, middlewares. A request costs two fifths of one through a session (`python -m benchmarks wire`).
It asks for parts that aiohttp does not document, so only of versions it was tried with.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import ClientRequest, hdrs
from yarl import URL

from d3async.sansio.protocol import ApiResponse, Broken
from d3async.transport.patience import Deadlines, Patience
from d3async.transport.reading import BodyReader, LowerCase, too_large

if TYPE_CHECKING:
    from aiohttp import BaseConnector, ClientTimeout
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection

    from d3async.transport.facts import Facts, Post

_TRIED = (3, 14)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_HEADS = 64
"""Heads kept: one for each command and credential."""


def known_aiohttp(version: str = aiohttp.__version__) -> bool:
    """Whether *version* of aiohttp is one that this was tried with."""
    return tuple(version.split(".")[:2]) == tuple(map(str, _TRIED))


class Direct:
    """Sends over *connector*, without a proxy; *headers* go with every request.

    A connection is kept for *keep* seconds after its last answer.
    """

    def __init__(self, connector: BaseConnector, url: str, headers: dict[str, str], *, keep: float) -> None:
        self._connector = connector
        self._loop = asyncio.get_running_loop()
        self._target = ClientRequest(hdrs.METH_POST, URL(url), loop=self._loop)
        self._headers = headers
        self._keep = keep
        self._idle: deque[tuple[Connection, float]] = deque()
        self._bodies = BodyReader()
        self._deadlines = Deadlines(self._loop)
        self._head = lru_cache(maxsize=_HEADS)(self._made_head)

    def close(self) -> None:
        """Close the connections that nobody uses."""
        self._deadlines.close()
        while self._idle:
            self._idle.pop()[0].close()

    async def exchange(self, post: Post, facts: Facts) -> ApiResponse | Broken:
        """POST once; raises what aiohttp raises."""
        head = self._head(post.url, *post.headers.items())
        latest = self._loop.time() + (post.within.total or 0.0)
        connection = self._kept() or await self._connected(post.within)
        answer: ApiResponse | Broken | None = None
        try:
            answer = await self._exchange(
                connection, b"%b%d\r\n\r\n%b" % (head, len(post.body), post.body), latest, facts
            )
        finally:
            if type(answer) is ApiResponse:
                self._idle.append((connection, self._loop.time()))
            else:
                connection.close()
        return answer

    def _kept(self) -> Connection | None:
        """A connection that is open still, and on which nothing came that nobody asked for."""
        while self._idle:
            connection, since = self._idle.popleft()
            protocol = connection.protocol
            fresh = self._loop.time() - since <= self._keep
            if fresh and protocol is not None and protocol.is_connected() and not protocol.should_close:
                return connection
            connection.close()
        return None

    async def _connected(self, within: ClientTimeout) -> Connection:
        """A new connection; one parser reads all its answers."""
        connection = await self._connector.connect(self._target, [], within)
        if connection.protocol is not None:
            connection.protocol.set_response_params(read_until_eof=True)
        return connection

    async def _exchange(
        self, connection: Connection, request: bytes, latest: float, facts: Facts
    ) -> ApiResponse | Broken:
        protocol = connection.protocol
        if protocol is None or protocol.transport is None or protocol.transport.is_closing():
            raise aiohttp.ClientConnectionResetError("Cannot write to a closing connection")
        facts.gone()
        protocol.transport.write(request)
        patience = Patience(protocol, latest)
        self._deadlines.add(patience)
        try:
            return await self._answer(protocol, patience, facts)
        finally:
            self._deadlines.done(patience)

    async def _answer(self, protocol: ResponseHandler, patience: Patience, facts: Facts) -> ApiResponse | Broken:
        """The final answer, after any interim ones (RFC 9110 section 15.2); 101 is final, as nothing follows it."""
        message: Any
        message, content = await protocol.read()
        while message.code != 101 and 100 <= message.code < 200:  # noqa: PLR2004 - the range of interim answers
            message, content = await protocol.read()
        patience.content, facts.status = content, message.code
        said = await self._bodies.read(content)
        if said is None:
            return too_large(message.code)
        return ApiResponse(message.code, LowerCase(message.headers), said, time.monotonic() - facts.sent_at)

    def _made_head(self, url: str, *credentials: tuple[str, str]) -> bytes:
        """A request up to its Content-Length (RFC 9112). Raises ValueError where a header would hold two."""
        target = URL(url)
        headers = {
            hdrs.HOST: target.host_port_subcomponent or "",
            hdrs.ACCEPT_ENCODING: ClientRequest.DEFAULT_HEADERS[hdrs.ACCEPT_ENCODING],
            **self._headers,
            hdrs.CONTENT_TYPE: "application/json",
            **dict(credentials),
        }
        lines = [f"POST {target.raw_path_qs} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        if any(map(_CONTROLS.search, lines)):
            raise ValueError("a header holds a control character")
        return "\r\n".join([*lines, "Content-Length: "]).encode()
