"""One call to its final answer: slot, token, `sent` in the journal, wire, and again if `policy.retry` says so.

`connect` puts transport, limiter, auth and delivery of one D3 together.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Self

from d3async.d3 import response as d3_response
from d3async.d3.call import Account, request_for
from d3async.d3.response import AmbiguousAnswer, Throttled, TransportFailure
from d3async.engine.d3_presence import PROBE, D3Presence
from d3async.policy.halt_and_exit_codes import Stop
from d3async.policy.retry import FINAL, Budget, Final, Policy, Retry, decide, retry_after
from d3async.ratelimit.choose_store import host_share, library_share
from d3async.ratelimit.limiter import Limiter
from d3async.transport.auth import Auth
from d3async.transport.http import HttpSettings, Transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiohttp import ClientSession

    from d3async.config.settings import Settings
    from d3async.d3.call import Call
    from d3async.d3.response import Answer, ApiResponse
    from d3async.journal.protocols import AttemptLog


class Interruptible(AbstractContextManager[None]):
    """A block that `end` lets its task leave, if it waits there; what follows the block goes on.

    As `asyncio.timeout` does it, at a tenth of what a cancel scope of anyio costs. *waits* holds the blocks that can
    be ended; *over* ends this one as soon as it waits.
    """

    __slots__ = ("_before", "_cancelled", "_ending", "_over", "_task", "_waits")

    def __init__(self, waits: set[Interruptible], *, over: bool) -> None:
        self._waits = waits
        self._over = over
        self._ending: asyncio.Handle | None = None
        self._cancelled = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("there is no task whose waiting could be ended")
        self._task, self._before = task, task.cancelling()
        self._waits.add(self)
        if self._over:
            self.end()

    def end(self) -> None:
        """End the block, if it waits by then: a task that runs would be cancelled after it."""
        if self._ending is None:
            self._ending = asyncio.get_running_loop().call_soon(self._cancel)

    def _cancel(self) -> None:
        self._cancelled = True
        self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        self._waits.discard(self)
        if self._ending is not None:
            self._ending.cancel()
        if not self._cancelled:
            return False
        return self._task.uncancel() <= self._before and kind is asyncio.CancelledError


_UNTIL_REACHED = 6
"""Failed connections in a row, half a minute of them, that are borne while D3 was never reached: a slip in the URL."""
STALE_AFTER = 0.05
"""Seconds between token and wire after which the token is stale: a stalled disk must not let a burst go."""
_CANCELLED = TransportFailure(sent=True, code="cancelled", message="Stopped while waiting for the answer.")


class NoAttemptLog:
    """A `Log` for calls that are never resumed: writes nothing."""

    async def claim(self, call: Call, at: float) -> None:
        """See `Log.claim`."""

    def release(self, call: Call, *, sent: bool) -> None:
        """See `Log.release`."""


class Stopper:
    """Says when to start no new work, and wakes calls that wait before the wire.

    *admit* is asked just before a call is sent, and keeps it back with False.
    """

    def __init__(
        self, on_stop: Callable[[Stop], None] | None = None, *, admit: Callable[[Call], bool] = lambda _: True
    ) -> None:
        self.reason: Stop | None = None
        self.admit = admit
        self._on_stop = on_stop or (lambda _: None)
        self._waits: set[Interruptible] = set()

    def stop(self, reason: Stop) -> None:
        """Start nothing new from now on; the first reason is kept."""
        if self.reason is None:
            self.reason = reason
            for wait in self._waits:
                wait.end()
            self._on_stop(reason)

    def before_the_wire(self) -> AbstractContextManager[None]:
        """A block whose waiting ends when the run stops: the block is left, what follows it goes on."""
        return Interruptible(self._waits, over=self.reason is not None)


class Attempt(NamedTuple):
    """One request that left us, for observers: *number* counts from 1 within its call; *elapsed* in seconds."""

    call: Call
    number: int
    answer: Answer
    at: float
    elapsed: float


class Delivered(NamedTuple):
    """The final answer to a call; None when it was not sent, or provably did not happen, before a stop.

    *kept_back*: `Stopper.admit` said no; it is to be delivered later.
    """

    call: Call
    answer: Answer | None
    attempts: int
    response: ApiResponse | None = None
    kept_back: bool = False


class Delivery:
    """Carries calls over one transport under one limiter. *wall* tells seconds since 1970."""

    def __init__(
        self,
        *,
        transport: Transport,
        limiter: Limiter,
        auth: Auth,
        account: Account,
        policy: Policy,
        random: Callable[[], float],
        max_outages: int | None = None,
        max_outage: float = 900.0,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        on_attempt: Callable[[Attempt], None] | None = None,
        tell: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.limiter = limiter
        self.policy = policy
        self._transport = transport
        self._auth = auth
        self._account = account
        self._random = random
        self._max_outages = max_outages
        self._max_outage = max_outage
        self._reached = False
        self._away_since: float | None = None
        self._clock = clock
        self._wall = wall
        self._on_attempt = on_attempt
        self._budget = Budget()
        self._presence = D3Presence(
            self._probe, max_outage=max_outage, clock=clock, wall=wall, random=random, tell=tell
        )

    async def deliver(self, call: Call, *, repeatable: bool, log: AttemptLog, stopper: Stopper) -> Delivered:
        """Send *call* until its final answer. Raises `FencedError` and `JournalError` from *log*, `SettingsError`."""
        if not (self.limiter.slot_now() or await self._slot(stopper)):
            return Delivered(call, None, 0)
        try:
            if stopper.reason is not None:
                return Delivered(call, None, 0)
            return await self._attempts(call, repeatable=repeatable, log=log, stopper=stopper)
        finally:
            self.limiter.leave_slot()

    async def _slot(self, stopper: Stopper) -> bool:
        """Wait for a place in flight; False when the run stopped meanwhile."""
        with stopper.before_the_wire():
            await self.limiter.take_slot()
            return True
        return False

    async def _attempts(self, call: Call, *, repeatable: bool, log: AttemptLog, stopper: Stopper) -> Delivered:
        charged, left, first = 1, 0, True
        known = Delivered(call, None, 0)
        while True:
            async with self._presence.alone(stopper):
                granted = await self._turn(call, log, stopper, head=not first)
                if granted is None:
                    return known._replace(kept_back=stopper.reason is None)
                answer, response = await self._attempt(call, granted, log, left + 1)
                left, first = left + _left(answer), False
                if response is not None and (wrong := self._presence.heard(response)):
                    stopper.stop(wrong)
                    return Delivered(call, answer, left, response)
            decision = self._decide(answer, repeatable=repeatable, attempt=charged)
            if isinstance(decision, Final):
                return Delivered(call, answer, left, response)
            if isinstance(decision, Retry) and decision.happened:
                call = call.after_doubt()
                known = Delivered(call, answer, left, response)
                self._budget = self._budget.spent()
            else:
                log.release(call, sent=_left(answer))
                known = known._replace(attempts=left)
            if isinstance(decision, Stop):
                stopper.stop(decision)
                return known
            charged += decision.counts
            with stopper.before_the_wire():
                await asyncio.sleep(decision.delay)

    async def _turn(self, call: Call, log: AttemptLog, stopper: Stopper, *, head: bool) -> float | None:
        """Token, then the durable mark; None when the call may not be sent now: then neither is left behind."""
        granted = await self._token(stopper, head=head)
        if granted is None:
            return None
        if not stopper.admit(call):
            self.limiter.unused(granted)
            return None
        try:
            await log.claim(call, self._wall())
        except BaseException:
            self.limiter.unused(granted)
            raise
        if stopper.reason is None and self._clock() - granted <= STALE_AFTER:
            return granted
        fresh: float | None = None
        try:
            fresh = await self._fresh(granted, stopper)
        finally:
            if fresh is None:
                log.release(call, sent=False)
        return fresh

    async def _fresh(self, granted: float, stopper: Stopper) -> float | None:
        """*granted*, or a new token where the mark took too long; None when the run stopped meanwhile."""
        token: float | None = granted
        while token is not None and self._clock() - token > STALE_AFTER:
            self.limiter.unused(token)
            token = await self._token(stopper, head=True)
        return self._unless_stopped(token, stopper)

    async def _token(self, stopper: Stopper, *, head: bool) -> float | None:
        if stopper.reason is None and (free := await self.limiter.free_token()) is not None:
            return free
        granted: float | None = None
        with stopper.before_the_wire():
            granted = await self.limiter.token(head=head)
        return self._unless_stopped(granted, stopper)

    def _unless_stopped(self, granted: float | None, stopper: Stopper) -> float | None:
        if granted is None or stopper.reason is None:
            return granted
        self.limiter.unused(granted)
        return None

    async def _attempt(
        self, call: Call, granted: float, log: AttemptLog, number: int
    ) -> tuple[Answer, ApiResponse | None]:
        wire = _Wire(self.limiter, granted, self._clock)
        at = self._wall()
        try:
            who = self._account.speaking_for(call)
            request = request_for(call, **who)
            headers = self._auth.headers(call.command, **who)
            response = await self._transport.send(request, headers, on_sent=wire.left)
        except BaseException:
            if wire.sent:
                self.limiter.strained(granted)
                self._tell(Attempt(call, number, _CANCELLED, at, self._clock() - granted))
            else:
                self.limiter.unused(granted)
                log.release(call, sent=False)
            raise
        response = self._masked(response)
        answer = response if isinstance(response, TransportFailure) else self._read(response)
        self._report(answer, granted)
        self._tell(Attempt(call, number, answer, at, self._clock() - granted))
        return answer, None if isinstance(response, TransportFailure) else response

    def _tell(self, attempt: Attempt) -> None:
        if self._on_attempt and _left(attempt.answer):
            self._on_attempt(attempt)

    def _read(self, response: ApiResponse) -> Answer:
        if response.status != 429:  # noqa: PLR2004 - RFC 6585; of nothing else is the wait asked for
            return d3_response.read(response)
        return d3_response.read(response, retry_after=retry_after(response.headers, now=self._wall()))

    def _masked(self, response: ApiResponse | TransportFailure) -> ApiResponse | TransportFailure:
        """A server or proxy may say our key back to us: it goes no further."""
        if isinstance(response, TransportFailure):
            return replace(response, message=self._auth.mask(response.message))
        text = response.body.decode("utf-8", "surrogateescape")
        masked = self._auth.mask(text)
        return response if masked == text else response._replace(body=masked.encode("utf-8", "surrogateescape"))

    def _report(self, answer: Answer, granted: float) -> None:
        if not _left(answer):
            self.limiter.unreachable(granted)
            if self._away_since is None:
                self._away_since = self._clock()
            return
        self._reached, self._away_since = True, None
        if isinstance(answer, Throttled):
            self.limiter.throttled(granted, answer.retry_after)
        elif isinstance(answer, (TransportFailure, AmbiguousAnswer)):
            self.limiter.strained(granted)
        else:
            self._budget = self._budget.earned()
            self.limiter.accepted(granted)

    def _away_too_long(self) -> bool:
        """Whether connections have failed for too long: *max_outages* times in a row, or for *max_outage* seconds."""
        most = self._max_outages if self._reached else min(_UNTIL_REACHED, self._max_outages or _UNTIL_REACHED)
        if most is not None and self.limiter.outages >= most:
            return True
        return self._away_since is not None and self._clock() - self._away_since >= self._max_outage

    async def _probe(self) -> ApiResponse | TransportFailure | None:
        """The answer to a request that does nothing; None where there is no key for it."""
        if not self._auth.can(PROBE.command):
            return None
        granted = await self.limiter.token(head=True)
        who = {"username": self._account.username, "site": self._account.site}
        headers = self._auth.headers(PROBE.command, **who)
        response = await self._transport.send(PROBE, headers, on_sent=_Wire(self.limiter, granted, self._clock).left)
        response = self._masked(response)
        self._report(response if isinstance(response, TransportFailure) else self._read(response), granted)
        return response

    def _decide(self, answer: Answer, *, repeatable: bool, attempt: int) -> Final | Retry | Stop:
        dice, budget = self._random(), self._budget.left
        decision = decide(answer, repeatable=repeatable, attempt=attempt, policy=self.policy, dice=dice, budget=budget)
        if decision is FINAL:
            return decision
        if isinstance(answer, TransportFailure) and not answer.sent and self._away_too_long():
            return Stop("unreachable", f"D3 cannot be reached, {self.limiter.outages} times in a row: {answer.message}")
        if isinstance(answer, Throttled) and self.limiter.blocked_for > self.policy.max_wait:
            return Stop("throttled", "D3 has answered nothing but 429 for longer than --max-wait", answer.retry_after)
        return decision


class _Wire:
    """Notes when a request's headers left, and tells the limiter how long after its token."""

    def __init__(self, limiter: Limiter, granted: float, clock: Callable[[], float]) -> None:
        self.sent = False
        self._limiter = limiter
        self._granted = granted
        self._clock = clock

    def left(self) -> None:
        self.sent = True
        self._limiter.settle_jitter(self._clock() - self._granted)


def _left(answer: Answer) -> bool:
    """Whether a request left us at all."""
    return not isinstance(answer, TransportFailure) or answer.sent


@dataclass(frozen=True, slots=True)
class Connection:
    """One D3, to be opened and talked to."""

    transport: Transport
    auth: Auth
    limiter: Limiter
    delivery: Delivery

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Self]:
        """The connection, ready: the transport, and the share of the limit if there is one, open for the block."""
        async with self.limiter.shared(), self.transport:
            yield self


def connect(
    settings: Settings,
    *,
    session: ClientSession | None = None,
    limiter: Limiter | None = None,
    max_outages: int | None = None,
    max_outage: float | None = None,
    on_attempt: Callable[[Attempt], None] | None = None,
    tell: Callable[[str], object] = lambda _: None,
) -> Connection:
    """The parts for *settings*. A *session* or *limiter* passed in is shared, and the session is not closed.

    Without a *limiter* of the caller's the limit is shared where *settings* name a `limit_url`.
    D3 counts as gone after *max_outage* seconds (default: that of *settings*) in which no connection could be made or
    something else answered, or after *max_outages* connection failures in a row; a few suffice while it was never
    reached. *tell* gets a line when something else answers for D3, and when D3 is back.
    """
    auth = Auth(settings)
    transport = Transport(
        HttpSettings(
            base_url=settings.base_url,
            timeout=settings.timeout,
            concurrency=settings.concurrency,
            ca_bundle=settings.ca_bundle,
            client_cert=settings.client_cert,
            client_key=settings.client_key,
        ),
        session=session,
    )
    if limiter is None:
        limiter = Limiter(rate=settings.rate, concurrency=settings.concurrency, share=library_share(settings))
    delivery = Delivery(
        transport=transport,
        limiter=limiter,
        auth=auth,
        account=Account(settings.username, settings.site),
        policy=Policy(settings.max_attempts, settings.max_wait),
        random=random.random,
        max_outages=max_outages,
        max_outage=settings.max_outage if max_outage is None else max_outage,
        on_attempt=on_attempt,
        tell=tell,
    )
    return Connection(transport, auth, limiter, delivery)


def host_limiter(settings: Settings, tell: Callable[[str], None]) -> Limiter:
    """A limiter for a program of this user, which shares the limit as *settings* say; *tell* hears how that goes."""
    share = host_share(settings, tell)
    return Limiter(rate=settings.rate, concurrency=settings.concurrency, share=share)
