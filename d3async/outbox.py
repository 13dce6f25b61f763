"""Where finished things wait for the one who takes them, and makers wait for room."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Outbox(Generic[T]):
    """One takes, several put. *most* is when makers are to wait; what is under way then may still be put."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._ready: deque[T] = deque()
        self._filled = asyncio.Event()
        self._roomy = asyncio.Event()
        self._roomy.set()
        self._dropped = self._closed = False

    def put(self, thing: T) -> None:
        """Hand *thing* over; never waits."""
        if self._dropped:
            return
        self._ready.append(thing)
        self._filled.set()
        if len(self._ready) >= self._most:
            self._roomy.clear()

    async def room(self) -> None:
        """Wait until fewer than *most* things wait to be taken."""
        await self._roomy.wait()

    async def take(self) -> T | None:
        """The next thing; None once the outbox is closed and empty."""
        while not self._ready:
            if self._closed:
                return None
            self._filled.clear()
            await self._filled.wait()
        thing = self._ready.popleft()
        if len(self._ready) < self._most:
            self._roomy.set()
        return thing

    def drop(self) -> None:
        """Nobody takes any more: forget what waits, and let nobody wait for room."""
        self._dropped = True
        self._ready.clear()
        self._roomy.set()

    def close(self) -> None:
        """Nothing more comes."""
        self._closed = True
        self._filled.set()
