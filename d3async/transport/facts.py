"""What is known of one request."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp import ClientTimeout


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
