"""One POST through aiohttp's session: TLS, proxy, body, limits of size; failures as `Broken`."""

from __future__ import annotations

import asyncio
import errno
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Self

import aiohttp
from aiohttp import BytesPayload, ClientTimeout, TCPConnector, TraceConfig
from aiohttp.helpers import get_env_proxy_for_url
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from d3async import __version__
from d3async.d3.call import API_PATH, ApiRequest
from d3async.d3.response import ApiResponse, TransportFailure
from d3async.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import SimpleNamespace

    from aiohttp import ClientSession, StreamReader
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace
    from multidict import MultiMapping


class Post(NamedTuple):
    """One POST: *headers* hold the credentials; *within* is the time it may take, in aiohttp's terms."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    within: ClientTimeout


class Facts:
    """*sent*, once its headers leave; *sent_at*, on the monotonic clock; *status*, once an answer has begun."""

    __slots__ = ("_on_sent", "sent", "sent_at", "status")

    def __init__(self, on_sent: Callable[[], None] | None) -> None:
        self.sent = False
        self.sent_at = 0.0
        self.status: int | None = None
        self._on_sent = on_sent

    def gone(self) -> None:
        """Note that the headers leave; only the first time counts."""
        if not self.sent:
            self.sent, self.sent_at = True, time.monotonic()
            if self._on_sent:
                self._on_sent()


MAX_ANSWER = 16 * 1024 * 1024
"""Bytes of an answer, after decompression, that are read at most."""
_CHUNK = 64 * 1024
_LARGE = 512 * 1024
_LARGE_AT_ONCE = 2
"""Answers beyond `_LARGE` bytes that are read at the same time: the others wait on the wire, not in memory."""


class BodyReader:
    """Reads the bodies of one transport's answers."""

    def __init__(self) -> None:
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)

    async def read(self, content: StreamReader) -> bytes | None:
        """The whole body; None when there is more of it than `MAX_ANSWER`, and the rest is still to come."""
        chunk = await content.readany()
        if content.at_eof():
            return chunk
        chunks = bytearray()
        async with AsyncExitStack() as turn:
            while chunk:
                if len(chunks) <= _LARGE < len(chunks) + len(chunk):
                    await turn.enter_async_context(self._large)
                chunks += chunk
                if len(chunks) > MAX_ANSWER:
                    return None
                chunk = await content.read(_CHUNK)
        return bytes(chunks)


def too_large(status: int) -> TransportFailure:
    """The result of an answer beyond `MAX_ANSWER`."""
    message = f"The answer is longer than {MAX_ANSWER // 1024 // 1024} MiB."
    return TransportFailure(sent=True, code="answer_too_large", message=message, status=status)


class LowerCase(Mapping[str, str]):
    """*headers* by their lower-case names, repeated ones joined (RFC 9110 section 5.2): most are never needed."""

    __slots__ = ("_headers",)

    def __init__(self, headers: MultiMapping[str]) -> None:
        self._headers = headers

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._headers.getall(name))

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(map(str.lower, self._headers)))

    def __len__(self) -> int:
        return len(set(map(str.lower, self._headers)))


class _Body(BytesPayload):
    """A body that knows when it leaves: aiohttp keeps the headers back, to write them with the body's first bytes.

    Its trace signals cost a fifth of a request; they are listened to until aiohttp was *seen* to write bodies this way.
    """

    def __init__(self, body: bytes, facts: Facts) -> None:
        super().__init__(body, content_type="application/json")
        self.facts = facts
        self.seen = False

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self.seen = True
        self.facts.gone()
        await super().write_with_length(writer, content_length)


class BySession:
    """Sends over *session*; its middlewares and its `raise_for_status` stay out.

    For a request must not be sent again, nor an answer be lost, behind our back.
    """

    def __init__(self, session: ClientSession, proxy_headers: Mapping[str, str] | None = None) -> None:
        self._session = session
        self._proxy_headers = proxy_headers
        self._bodies = BodyReader()
        self._trace: TraceConfig | None = _trace()

    def __enter__(self) -> Self:
        if self._trace:
            self._trace.freeze()
            self._session.trace_configs.append(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_listening()

    def _stop_listening(self) -> None:
        if self._trace and self._trace in self._session.trace_configs:
            self._session.trace_configs.remove(self._trace)
        self._trace = None

    async def exchange(self, post: Post, facts: Facts) -> ApiResponse | TransportFailure:
        """POST once; raises what aiohttp raises."""
        body = _Body(post.body, facts)
        try:
            return await self._exchange(post, body, facts)
        finally:
            if body.seen:
                self._stop_listening()

    async def _exchange(self, post: Post, body: _Body, facts: Facts) -> ApiResponse | TransportFailure:
        async with self._session.post(
            post.url,
            data=body,
            headers={"Content-Type": "application/json", **post.headers},
            allow_redirects=False,
            raise_for_status=False,
            middlewares=(),
            timeout=post.within,
            proxy_headers=self._proxy_headers,
            trace_request_ctx=body,
        ) as response:
            facts.status = response.status
            answer = await self._bodies.read(response.content)
            if answer is None:
                response.close()
                return too_large(response.status)
            return ApiResponse(response.status, LowerCase(response.headers), answer, time.monotonic() - facts.sent_at)


def _trace() -> TraceConfig:
    async def headers_sent(_: ClientSession, context: SimpleNamespace, __: object) -> None:
        if isinstance(context.trace_request_ctx, _Body):
            context.trace_request_ctx.facts.gone()

    trace = TraceConfig()
    trace.on_request_headers_sent.append(headers_sent)
    return trace


WIRE_ERRORS = (aiohttp.ClientError, HttpProcessingError, TimeoutError, OSError, ssl.SSLError, ValueError)
"""What a server or a network can make of a request."""


def broken(error: Exception, *, sent: bool, status: int | None = None) -> TransportFailure:
    """The failure *error*, in our words. *status* is the one an answer began with."""
    if sent:
        return replace(_lost(error), status=status)
    code, message = next(
        ((code, text) for kinds, code, text in _BEFORE if isinstance(error, kinds)),
        ("connect_failed", "The request could not be sent"),
    )
    if code == "connect_failed" and _errno(error) == errno.ECONNREFUSED:
        code, message = "refused", "Connection refused"
    return TransportFailure(sent=False, code=code, message=_sentence(message, error))


_BEFORE: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str, str], ...] = (
    (aiohttp.ClientConnectorDNSError, "dns", "The name cannot be resolved"),
    (aiohttp.ClientSSLError, "tls", "No trusted TLS connection"),
    (aiohttp.ClientProxyConnectionError, "proxy", "The proxy cannot be reached"),
    (aiohttp.ClientHttpProxyError, "proxy", "The proxy refuses"),
    (TimeoutError, "connect_timeout", "No connection in time"),
    (aiohttp.InvalidURL, "bad_url", "The URL cannot be used"),
)


def _lost(error: Exception) -> TransportFailure:
    if isinstance(error, TimeoutError):
        return TransportFailure(sent=True, code="read_timeout", message="No whole answer came in time.")
    if isinstance(error, aiohttp.ClientPayloadError):
        return TransportFailure(sent=True, code="cut_answer", message=_sentence("The answer was cut off", error))
    if isinstance(error, aiohttp.ClientResponseError | HttpProcessingError | ValueError):
        return TransportFailure(sent=True, code="bad_response", message=_sentence("The answer is not HTTP", error))
    return TransportFailure(
        sent=True, code="connection_lost", message=_sentence("The connection was lost after sending", error)
    )


def _errno(error: BaseException) -> int | None:
    """The operating system's number, also from behind several addresses tried at once."""
    inner = getattr(error, "os_error", error)
    if isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    return inner.errno if isinstance(inner, OSError) else None


def _sentence(what: str, error: Exception) -> str:
    detail = " ".join(str(error).split())[:200]
    return f"{what}: {detail}." if detail else f"{what}."


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """How D3 is reached. Times in seconds; *ca_bundle* is trusted beside the system's authorities."""

    base_url: str
    timeout: float = 60.0
    concurrency: int = 32
    ca_bundle: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None


def tls(network: HttpSettings) -> ssl.SSLContext:
    """TLS 1.2 or newer, the system's authorities and the given ones, the client's certificate if there is one.

    Raises `SettingsError` when a file cannot be used.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if network.ca_bundle:
            context.load_verify_locations(cafile=network.ca_bundle)
        if network.client_cert:
            context.load_cert_chain(network.client_cert, network.client_key)
    except (OSError, ssl.SSLError) as error:
        message = f"D3_CA_BUNDLE, D3_CLIENT_CERT or D3_CLIENT_KEY cannot be used: {error}"
        raise SettingsError(message, code="tls_files") from error
    return context


_KEEP_ALIVE = 4.0
"""Seconds an idle connection is kept: below the 5 s after which common servers close theirs."""
_CONNECT = 10.0
_HEADERS = {"User-Agent": f"d3async/{__version__}", "Accept": "application/json"}


class Transport:
    """Sends requests through an aiohttp session; never follows a redirect, never sends anything twice.

    A *session* passed in keeps its connections, cookies and headers and is not closed. Without one, the transport
    opens a session of its own.
    """

    def __init__(self, network: HttpSettings, *, session: aiohttp.ClientSession | None = None) -> None:
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
    ) -> ApiResponse | TransportFailure:
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
    """Never re-uses a connection on which something came without a request: the next request would take it.

    aiohttp asks `should_close` when a connection goes back to the pool, not when it is taken out again.
    """

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        connection = await super()._get(key, traces)
        while connection is not None and (connection.protocol is None or connection.protocol.should_close):
            connection.close()
            connection = await super()._get(key, traces)
        return connection
