"""How long answers are waited for: one timer for all, where a timer each would cost more than all else about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    import asyncio

    from aiohttp import StreamReader
    from aiohttp.client_proto import ResponseHandler


class Patience:
    """Whoever reads from *protocol*, and then from *content*, hears after *latest* (loop time) that it is over."""

    __slots__ = ("_protocol", "content", "latest")

    def __init__(self, protocol: ResponseHandler, latest: float) -> None:
        self._protocol = protocol
        self.latest = latest
        self.content: StreamReader | None = None

    def end(self) -> None:
        """Let the reader hear it."""
        error = aiohttp.SocketTimeoutError("no whole answer in time")
        self._protocol.set_exception(error)
        if self.content is not None:
            self.content.set_exception(error)


class Deadlines:
    """Ends each `Patience` in its time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._open: dict[Patience, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, patience: Patience) -> None:
        """End *patience* when it is time, unless it is `done` before."""
        self._open[patience] = None
        if self._timer is None or patience.latest < self._timer.when():
            self._wake_at(patience.latest)

    def done(self, patience: Patience) -> None:
        """Nobody waits for it any more."""
        self._open.pop(patience, None)

    def close(self) -> None:
        """End nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake_at(self, when: float) -> None:
        self.close()
        self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        for patience in [one for one in self._open if one.latest <= now]:
            self.done(patience)
            patience.end()
        self._timer = None
        if self._open:
            self._wake_at(min(one.latest for one in self._open))
