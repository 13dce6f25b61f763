"""Several processes, a store and a server on a clock of their own: nothing sleeps, everything can go wrong.

The processes run the real `Limiter` with a real `Share`; the store decides by the functions the real ones decide by.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Self

from d3async.engine.delivery import STALE_AFTER
from d3async.ratelimit.limiter import Limiter
from d3async.ratelimit.shared_limiter import SharedLimit
from d3async.ratelimit.shared_rate_controller import LearnedRate
from d3async.ratelimit.store_protocol import (
    Bucket,
    HeartbeatAnswer,
    Member,
    Reserved,
    StoreError,
    closed,
    members,
    reserve,
)
from tests.ratelimit.test_limiter import VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from d3async.ratelimit.store_protocol import Heartbeat, SlotRequest


@dataclass
class Kept:
    """What the store keeps of one limit."""

    bucket: Bucket
    lesson: LearnedRate = field(default_factory=LearnedRate)
    counted: tuple[int, int] = (1, 0)
    members: dict[str, Member] = field(default_factory=dict)


class World:
    """*skew* is by how much the store's clock is ahead; while *down* it gives no answer."""

    def __init__(self, loop: VirtualLoop, seed: int = 0, *, latency: float = 0.002, limit: float = math.inf) -> None:
        self.loop, self.dice, self.latency, self.limit = loop, Random(seed), latency, limit
        self.skew, self.down, self.since = 1e9, False, -math.inf
        self.kept: Kept | None = None
        self.processes: list[Process] = []
        self.arrivals: list[float] = []
        self.refused: list[float] = []

    @property
    def store_now(self) -> float:
        return self.loop.time() + self.skew

    def start(self, **options: Any) -> Process:
        process = Process(self, f"p{len(self.processes)}", **options)
        self.processes.append(process)
        return process

    def arrive(self) -> bool:
        """A request reaches the server; whether it is let in."""
        now = self.loop.time()
        recent = sum(at > now - 1.0 for at in self.arrivals[-100:]) - sum(at > now - 1.0 for at in self.refused[-100:])
        self.arrivals.append(now)
        if recent >= self.limit:
            self.refused.append(now)
            return False
        return True

    def rate(self, since: float, until: float) -> float:
        return sum(since <= at < until for at in self.arrivals) / (until - since)

    async def end(self) -> None:
        for process in self.processes:
            await process.kill()


class Process:
    """One process: its store connection, its limiter, and *callers* who never stop sending."""

    def __init__(self, world: World, name: str, *, rate: float | None = 20.0, callers: int = 6) -> None:
        self.world, self.name = world, name
        self.cut_off = self.dead = False
        self.sent = 0
        self.told: list[str] = []
        self._awake = asyncio.Event()
        self._awake.set()
        clock = world.loop.time
        self.share = SharedLimit(
            self, "limit", clock=clock, sleep=self.sleep, random=world.dice.random, tell=self.told.append
        )  # fmt: skip
        self.share.name = name
        self.limiter = Limiter(rate=rate, clock=clock, sleep=self.sleep, random=world.dice.random, share=self.share)
        self._life = asyncio.create_task(self._live(callers))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._awake.wait()

    def freeze(self) -> None:
        self._awake.clear()

    def thaw(self) -> None:
        self._awake.set()

    async def kill(self) -> None:
        """End without a word."""
        self.dead = True
        self._life.cancel()
        with suppress(asyncio.CancelledError):
            await self._life

    async def _live(self, callers: int) -> None:
        async with self.share, asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(self._call())

    async def _call(self) -> None:
        while True:
            granted = await self.limiter.token()
            await self._awake.wait()
            late = self.world.loop.time() - granted
            if late > STALE_AFTER:
                self.limiter.unused(granted)
                continue
            self.limiter.settle_jitter(late)
            self.sent += 1
            let_in = self.world.arrive()
            await self.sleep(0.05 + 0.05 * self.world.dice.random())
            if let_in:
                self.limiter.accepted(granted)
            else:
                self.limiter.throttled(granted, None)

    # what follows is the store, as this process reaches it

    @property
    def place(self) -> str:
        return "the store"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def reserve(self, key: str, wish: SlotRequest) -> Reserved:
        await self._way()
        kept = self._kept()
        now = self.world.store_now
        kept.bucket, first, granted = reserve(kept.bucket, now, wish)
        if wish.epoch == kept.lesson.epoch and wish.rate > kept.lesson.rate:
            kept.lesson = _with_rate(kept.lesson, wish.rate)
        answer = Reserved(now, first, granted, kept.bucket.gate, kept.lesson, *kept.counted)
        await self._way(back=True)
        return answer

    async def beat(self, key: str, name: str, beat: Heartbeat) -> HeartbeatAnswer:
        await self._way()
        kept = self._kept()
        now = self.world.store_now
        kept.bucket = closed(kept.bucket, now, beat.pause)
        if beat.lesson is not None and beat.known == kept.lesson.epoch:
            kept.lesson = beat.lesson
        kept.members[name] = Member(name, now + beat.promise, beat.accepted)
        found = members(self._others(kept.members.values()), name, now, since=self.world.since)
        kept.counted = (found.members, found.silent)
        answer = HeartbeatAnswer(now, kept.bucket.gate, kept.lesson, found)
        await self._way(back=True)
        return answer

    async def leave(self, key: str, name: str) -> None:
        await self._way()
        self._kept().members.pop(name, None)

    def _others(self, members: Iterable[Member]) -> Iterable[Member]:
        connected = {process.name for process in self.world.processes if not process.dead}
        for member in members:
            if member.name != self.name:
                yield Member(member.name, member.due, member.accepted, member.name in connected)

    def _kept(self) -> Kept:
        now = self.world.store_now
        self.world.kept = self.world.kept or Kept(Bucket(now, now, now))
        return self.world.kept

    async def _way(self, *, back: bool = False) -> None:
        if self.dead or self.cut_off or self.world.down:
            await self.sleep(0.0 if self.dead else 0.02)
            raise StoreError("it does not answer", sent=back)
        await self.sleep(self.world.latency * (0.5 + self.world.dice.random()) / 2)


def _with_rate(lesson: LearnedRate, rate: float) -> LearnedRate:
    return LearnedRate(lesson.epoch, rate, lesson.mode, lesson.plateau, lesson.before, lesson.scale, lesson.events)


def run(test: Callable[[World], Coroutine[Any, Any, None]], **options: Any) -> World:
    """Run *test* in a world of its own to its end; return that world."""
    loop = VirtualLoop()

    async def whole() -> World:
        world = World(loop, **options)
        try:
            await test(world)
        finally:
            await world.end()
        return world

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(whole())
