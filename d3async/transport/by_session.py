"""One POST through an `aiohttp.ClientSession`, and the moment at which its headers leave."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from aiohttp import BytesPayload, TraceConfig

from d3async.sansio.protocol import ApiResponse, Broken
from d3async.transport.reading import BodyReader, LowerCase, too_large

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import SimpleNamespace

    from aiohttp import ClientSession
    from aiohttp.abc import AbstractStreamWriter

    from d3async.transport.facts import Facts, Post


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

    async def exchange(self, post: Post, facts: Facts) -> ApiResponse | Broken:
        """POST once; raises what aiohttp raises."""
        body = _Body(post.body, facts)
        try:
            return await self._exchange(post, body, facts)
        finally:
            if body.seen:
                self._stop_listening()

    async def _exchange(self, post: Post, body: _Body, facts: Facts) -> ApiResponse | Broken:
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
