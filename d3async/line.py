"""Lanes that were loaded and wait for a worker."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from d3async.sansio.call import Call

    Lane = tuple[int, Call | None]


class Line:
    """First come, first served; one feeder, many workers. A stream would switch tasks for every lane, this does not."""

    def __init__(self) -> None:
        self._lanes: deque[Lane] = deque()
        self._under_way = 0
        self._over = False
        self._came = asyncio.Event()
        self._went = asyncio.Event()

    def add(self, lane: Lane) -> None:
        """Let *lane* be taken."""
        self._lanes.append(lane)
        self._under_way += 1
        self._came.set()

    async def take(self) -> Lane | None:
        """The next lane; None when there will be none any more."""
        while not self._lanes:
            if self._over:
                return None
            if self._came.is_set():
                self._came = asyncio.Event()
            await self._came.wait()
        lane = self._lanes.popleft()
        self._went.set()
        return lane

    def carried(self) -> None:
        """Note that a lane that was taken is done."""
        self._under_way -= 1
        self._went.set()

    async def nearly_taken(self, left: int) -> None:
        """Wait until at most *left* lanes are still to be taken."""
        while len(self._lanes) > left:
            self._went = asyncio.Event()
            await self._went.wait()

    async def all_carried(self) -> None:
        """Wait until every lane that was added is done."""
        while self._under_way:
            self._went = asyncio.Event()
            await self._went.wait()

    def close(self) -> None:
        """No lane comes any more."""
        self._over = True
        self._came.set()
