"""The only room that speaks aiohttp: one `ApiRequest` out, an `ApiResponse` or what is known of the failure back."""

from __future__ import annotations

import asyncio
import errno
import ssl
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import aiohttp
from aiohttp import BytesPayload, ClientTimeout, TCPConnector, TraceConfig
from aiohttp.helpers import get_env_proxy_for_url
from yarl import URL

from d3async import __version__
from d3async.errors import SettingsError
from d3async.network import tls
from d3async.sansio.protocol import API_PATH, ApiRequest, ApiResponse, Broken

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import SimpleNamespace

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace
    from multidict import MultiMapping

    from d3async.network import Network

MAX_ANSWER = 16 * 1024 * 1024
"""Bytes of an answer, after decompression, that are read at most."""
_KEEP_ALIVE = 4.0
"""Seconds an idle connection is kept: below the 5 s after which common servers close theirs."""
_CONNECT = 10.0
_CHUNK = 64 * 1024
_LARGE = 512 * 1024
_LARGE_AT_ONCE = 2
"""Answers beyond `_LARGE` bytes that are read at the same time: the others wait on the wire, not in memory."""
_HEADERS = {"User-Agent": f"d3async/{__version__}", "Accept": "application/json"}


class _Body(BytesPayload):
    """A body that knows whether it left: aiohttp keeps the headers back, to write them with the body's first bytes.

    Its trace signals cost a fifth of a request; they are listened to until aiohttp was *seen* to write bodies this way.
    """

    def __init__(self, body: bytes, on_sent: Callable[[], None] | None) -> None:
        super().__init__(body, content_type="application/json")
        self.sent = False
        self.sent_at = 0.0
        self.status: int | None = None
        self.seen = False
        self._on_sent = on_sent

    def gone(self) -> None:
        if not self.sent:
            self.sent, self.sent_at = True, time.monotonic()
            if self._on_sent:
                self._on_sent()

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self.seen = True
        self.gone()
        await super().write_with_length(writer, content_length)


class Transport:
    """Sends requests over one `aiohttp.ClientSession`; never follows a redirect, never sends anything twice.

    A *session* passed in keeps its connections, cookies and headers and is not closed; its middlewares and its
    `raise_for_status` stay out, for a request must not be sent again, nor an answer be lost, behind our back.
    """

    def __init__(self, network: Network, *, session: aiohttp.ClientSession | None = None) -> None:
        self._network = network
        self._root = network.base_url.rstrip("/") + API_PATH
        self._within = _within(network.timeout)
        self._session = session
        self._proxy_headers: Mapping[str, str] = {}
        self._closing = AsyncExitStack()
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._trace: TraceConfig | None = _trace()

    async def __aenter__(self) -> Self:
        if self._session is None:
            proxy = await asyncio.to_thread(_proxy, self._network.base_url)
            self._proxy_headers = proxy[1]
            self._session = await self._closing.enter_async_context(self._open(*proxy))
        if self._trace:
            self._trace.freeze()
            self._session.trace_configs.append(self._trace)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop_listening()
        await self._closing.aclose()

    def _stop_listening(self) -> None:
        if self._trace and self._session and self._trace in self._session.trace_configs:
            self._session.trace_configs.remove(self._trace)
        self._trace = None

    def _open(self, proxy: URL | None, proxy_headers: Mapping[str, str]) -> aiohttp.ClientSession:
        connector = _Connector(
            limit=self._network.concurrency + 4,
            keepalive_timeout=_KEEP_ALIVE,
            ttl_dns_cache=60,
            ssl=tls(self._network) if self._root.startswith("https:") else True,
        )
        return aiohttp.ClientSession(
            connector=connector,
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
        if self._session is None:
            raise RuntimeError("use `async with` before sending")
        body = _Body(request.body, on_sent)
        try:
            return await self._exchange(
                self._session, self._root + request.command, headers, body, timeout or self._network.timeout
            )
        except (aiohttp.ClientError, TimeoutError, OSError, ssl.SSLError, ValueError) as error:
            return broken(error, sent=body.sent, status=body.status)
        finally:
            if body.seen:
                self._stop_listening()

    async def _exchange(
        self,
        session: aiohttp.ClientSession,
        url: str,
        headers: Mapping[str, str],
        body: _Body,
        seconds: float,
    ) -> ApiResponse | Broken:
        async with session.post(
            url,
            data=body,
            headers={"Content-Type": "application/json", **headers},
            allow_redirects=False,
            raise_for_status=False,
            middlewares=(),
            timeout=self._within if seconds == self._network.timeout else _within(seconds),
            proxy_headers=self._proxy_headers,
            trace_request_ctx=body,
        ) as response:
            body.status = response.status
            answer = await self._read(response)
            if isinstance(answer, Broken):
                return answer
            return ApiResponse(response.status, _lower(response.headers), answer, time.monotonic() - body.sent_at)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes | Broken:
        chunk = await response.content.readany()
        if response.content.at_eof():
            return chunk
        chunks = bytearray()
        async with AsyncExitStack() as turn:
            while chunk:
                if len(chunks) <= _LARGE < len(chunks) + len(chunk):
                    await turn.enter_async_context(self._large)
                chunks += chunk
                if len(chunks) > MAX_ANSWER:
                    response.close()
                    limit = MAX_ANSWER // 1024 // 1024
                    message = f"The answer is longer than {limit} MiB."
                    return Broken(sent=True, code="answer_too_large", message=message, status=response.status)
                chunk = await response.content.read(_CHUNK)
        return bytes(chunks)


def _lower(headers: MultiMapping[str]) -> dict[str, str]:
    """*headers* by their lower-case names, repeated ones joined (RFC 9110 section 5.2)."""
    found = {name.lower(): value for name, value in headers.items()}
    if len(found) == len(headers):
        return found
    return {name.lower(): ", ".join(headers.getall(name)) for name in headers}


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


def _trace() -> TraceConfig:
    async def headers_sent(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        if isinstance(context.trace_request_ctx, _Body):
            context.trace_request_ctx.gone()

    trace = TraceConfig()
    trace.on_request_headers_sent.append(headers_sent)
    return trace


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


def broken(error: Exception, *, sent: bool, status: int | None = None) -> Broken:
    """The failure *error*, in our words. The class of an exception only names it; *sent* decides what it means."""
    if sent:
        return replace(_lost(error), status=status)
    code, message = next(
        ((code, text) for kinds, code, text in _BEFORE if isinstance(error, kinds)),
        ("connect_failed", "The request could not be sent"),
    )
    if code == "connect_failed" and _errno(error) == errno.ECONNREFUSED:
        code, message = "refused", "Connection refused"
    return Broken(sent=False, code=code, message=_sentence(message, error))


_BEFORE: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str, str], ...] = (
    (aiohttp.ClientConnectorDNSError, "dns", "The name cannot be resolved"),
    (aiohttp.ClientSSLError, "tls", "No trusted TLS connection"),
    (aiohttp.ClientProxyConnectionError, "proxy", "The proxy cannot be reached"),
    (aiohttp.ClientHttpProxyError, "proxy", "The proxy refuses"),
    (TimeoutError, "connect_timeout", "No connection in time"),
    (aiohttp.InvalidURL, "bad_url", "The URL cannot be used"),
)


def _lost(error: Exception) -> Broken:
    if isinstance(error, TimeoutError):
        return Broken(sent=True, code="read_timeout", message="No whole answer came in time.")
    if isinstance(error, aiohttp.ClientPayloadError):
        return Broken(sent=True, code="cut_answer", message=_sentence("The answer was cut off", error))
    if isinstance(error, aiohttp.ClientResponseError | ValueError):
        return Broken(sent=True, code="bad_response", message=_sentence("The answer is not HTTP", error))
    return Broken(sent=True, code="connection_lost", message=_sentence("The connection was lost after sending", error))


def _errno(error: BaseException) -> int | None:
    """The operating system's number, also from behind several addresses tried at once."""
    inner = getattr(error, "os_error", error)
    if isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    return inner.errno if isinstance(inner, OSError) else None


def _sentence(what: str, error: Exception) -> str:
    detail = " ".join(str(error).split())[:200]
    return f"{what}: {detail}." if detail else f"{what}."
