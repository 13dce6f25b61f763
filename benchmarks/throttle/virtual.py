"""A discrete-event simulation: clients, a network with jitter, a limiter; hours of traffic in seconds."""

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.throttle.clients import Client
from benchmarks.throttle.servers import Server

WORKERS = 64
ONE_WAY = 0.020
SPIKE_SHARE, SPIKE = 0.005, 0.060
SERVICE_MEDIAN, SERVICE_SIGMA = 0.120, 0.4
REFUSAL_SERVICE = 0.002
JOURNAL = 0.004


@dataclass(frozen=True, slots=True)
class World:
    """What happens around the clients; times in seconds."""

    server: Callable[[random.Random], Server]
    seconds: float
    jitter: float = 0.003
    limit_at: Callable[[float], float] | None = None
    blocks: tuple[tuple[float, float], ...] = ()
    freezes: tuple[tuple[float, float], ...] = ()
    lag: tuple[float, float] | None = None
    """A loop that is busy for the first of every so many seconds: (busy, period)."""
    retry_after: str = "none"
    joins: tuple[float, ...] = (0.0,)


@dataclass(slots=True)
class Trace:
    """What the wire and the server saw."""

    arrivals: list[tuple[float, bool, int]] = field(default_factory=list)
    """(time at the server, admitted, client)"""
    sent: list[list[float]] = field(default_factory=list)
    """Wire times of each client."""
    early: int = 0
    """Requests granted before a wait ended that their client had been told."""


class Simulation:
    def __init__(self, world: World, make: Callable[[random.Random], Client], seed: int) -> None:
        self.world = world
        self.dice = random.Random(seed)
        self.server = world.server(self.dice)
        self.trace = Trace(sent=[[] for _ in world.joins])
        self.clients = [make(random.Random(f"{seed}/{place}")) for place in range(len(world.joins))]
        self.waiting = [0] * len(world.joins)
        self.retries: list[deque[int]] = [deque() for _ in world.joins]
        self.told = [-math.inf] * len(world.joins)
        self.pump_at = [math.inf] * len(world.joins)
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def run(self) -> Trace:
        for place, joins in enumerate(self.world.joins):
            self._at(joins, self._join, place)
        while self._events and self._events[0][0] <= self.world.seconds:
            now, _, act, arguments = heapq.heappop(self._events)
            act(now, *arguments)
        return self.trace

    def _at(self, time: float, act: Callable[..., None], *arguments: Any) -> None:
        self._count += 1
        heapq.heappush(self._events, (time, self._count, act, arguments))

    def _join(self, now: float, place: int) -> None:
        self.waiting[place] = WORKERS
        self._pump(now, place)

    def _awake(self, time: float) -> float:
        """Return when a client's loop gets to what was due at *time*."""
        for start, end in self.world.freezes:
            if start <= time < end:
                return end
        if self.world.lag:
            busy, period = self.world.lag
            into = time % period
            if into < busy:
                return time - into + busy
        return time

    def _pump(self, now: float, place: int) -> None:
        client = self.clients[place]
        if self.pump_at[place] <= now:
            self.pump_at[place] = math.inf
        while self.waiting[place]:
            at = client.ready_at(now)
            if at > now:
                break
            self._send(now, place)
        else:
            return
        if at < self.pump_at[place]:
            timer = self._awake(at + self.dice.random() * 0.001)
            self.pump_at[place] = timer
            self._at(timer, self._pump, place)

    def _send(self, now: float, place: int) -> None:
        self.waiting[place] -= 1
        attempt = self.retries[place].popleft() if self.retries[place] else 0
        self.clients[place].sent(now)
        self.trace.early += now < self.told[place]
        wire = now + self.dice.random() * JOURNAL
        self.trace.sent[place].append(wire)
        self._at(wire + self._travel(), self._arrive, place, now, attempt)

    def _travel(self) -> float:
        jitter = self.world.jitter
        if not jitter:
            return ONE_WAY
        spike = self.dice.expovariate(1 / SPIKE) if self.dice.random() < SPIKE_SHARE else 0.0
        return ONE_WAY + self.dice.expovariate(1 / jitter) + spike

    def _arrive(self, now: float, place: int, sent_at: float, attempt: int) -> None:
        if self.world.limit_at:
            self.server.limit = self.world.limit_at(now)
        block = next((end for start, end in self.world.blocks if start <= now < end), None)
        admitted = block is None and self.server.admit(now)
        self.trace.arrivals.append((now, admitted, place))
        wait = None if admitted else self._stated(now, block)
        service = SERVICE_MEDIAN * math.exp(self.dice.gauss(0, SERVICE_SIGMA)) if admitted else REFUSAL_SERVICE
        back = now + service + self._travel()
        self._at(self._awake(back), self._answer, place, sent_at, attempt, wait)

    def _stated(self, now: float, block: float | None) -> float:
        """Say the wait as whole seconds or as a date, both rounded up as servers do; nan where none is stated."""
        exact = (block or now + 1 / self.server.limit) - now
        match self.world.retry_after:
            case "seconds":
                return math.ceil(exact)
            case "date":
                return math.ceil(now + exact) - math.floor(now)
            case _:
                return math.nan

    def _answer(self, now: float, place: int, sent_at: float, attempt: int, wait: float | None) -> None:
        """Take an answer: *wait* is None for a good one, else the wait a refusal states, or nan."""
        client = self.clients[place]
        if wait is None:
            client.accepted(sent_at, now)
            self._again(now, place, 0)
            return
        stated = None if math.isnan(wait) else wait
        client.refused(sent_at, now, stated)
        if stated is not None:
            self.told[place] = max(self.told[place], now + stated)
        if client.backs_off_alone:
            own = self.dice.random() * min(2.0**attempt, 20.0)
            self._at(self._awake(now + (own if stated is None else stated)), self._again, place, attempt + 1)
        else:
            self._again(now, place, attempt + 1)

    def _again(self, now: float, place: int, attempt: int) -> None:
        self.waiting[place] += 1
        if attempt:
            self.retries[place].append(attempt)
        self._pump(now, place)
