"""The way past the session, for our own programs: what a session does anew for every request is done once.

Connections, TLS and the reading of HTTP are aiohttp's own; what is left out is what D3 never asks for: redirects,
cookies, traces, middlewares. A request costs a third of one through a session (`python -m benchmarks wire`).
It asks for parts that aiohttp does not document, so only of versions it was tried with.
"""

from __future__ import annotations

import asyncio
import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import ClientRequest, hdrs
from yarl import URL

from d3async.sansio.protocol import ApiResponse, Broken
from d3async.transport.reading import BodyReader, lower, too_large

if TYPE_CHECKING:
    from aiohttp import BaseConnector, StreamReader
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
    """Sends over *connector*, without a proxy; *headers* go with every request."""

    def __init__(self, connector: BaseConnector, url: str, headers: dict[str, str]) -> None:
        self._connector = connector
        self._target = ClientRequest(hdrs.METH_POST, URL(url), loop=asyncio.get_running_loop())
        self._headers = headers
        self._bodies = BodyReader()
        self._head = lru_cache(maxsize=_HEADS)(self._made_head)

    async def exchange(self, post: Post, facts: Facts) -> ApiResponse | Broken:
        """POST once; raises what aiohttp raises."""
        head = self._head(post.url, *post.headers.items())
        async with asyncio.timeout(post.within.total):
            connection = await self._connector.connect(self._target, [], post.within)
            try:
                answer = await self._exchange(connection, head, post.body, facts)
            except BaseException:
                connection.close()
                raise
            if isinstance(answer, Broken):
                connection.close()
            connection.release()
            return answer

    async def _exchange(self, connection: Connection, head: bytes, body: bytes, facts: Facts) -> ApiResponse | Broken:
        protocol = connection.protocol
        if protocol is None or protocol.transport is None or protocol.transport.is_closing():
            raise aiohttp.ClientConnectionResetError("Cannot write to a closing connection")
        protocol.set_response_params(read_until_eof=True)
        facts.gone()
        protocol.transport.write(b"%b%d\r\n\r\n%b" % (head, len(body), body))
        message, content = await _answer(protocol)
        facts.status = message.code
        said = await self._bodies.read(content)
        if said is None:
            return too_large(message.code)
        return ApiResponse(message.code, lower(message.headers), said, time.monotonic() - facts.sent_at)

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


async def _answer(protocol: ResponseHandler) -> tuple[Any, StreamReader]:
    """The final answer's head, after any interim ones (RFC 9110 section 15.2); 101 is final, as nothing follows it."""
    while True:
        message: Any
        message, content = await protocol.read()
        if message.code == 101 or not 100 <= message.code < 200:  # noqa: PLR2004 - the range of interim answers
            return message, content
