"""One request at a time while it is in doubt whether D3 answers, and a harmless one to find out."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING

from d3async.d3.call import ApiRequest
from d3async.d3.response import TransportFailure, foreign_page
from d3async.policy.foreign_answers import ForeignAnswers
from d3async.policy.retry import retry_after

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from d3async.d3.response import ApiResponse
    from d3async.engine.delivery import Stopper
    from d3async.policy.halt_and_exit_codes import Stop

PROBE = ApiRequest("CreateTask", b'{"Username":')
"""Malformed JSON, which does nothing: D3 answers 400 in its own JSON (D3's page of CreateTask)."""


class D3Presence:
    """Whether it is D3 that answers, for all calls of one `Delivery`.

    *probe* sends `PROBE` and returns the answer; None where there is no key for it. *max_outage* in seconds. *tell*
    gets a line when D3 is waited for, and when it is back.
    """

    def __init__(
        self,
        probe: Callable[[], Awaitable[ApiResponse | TransportFailure | None]],
        *,
        max_outage: float,
        clock: Callable[[], float],
        wall: Callable[[], float],
        random: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        tell: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._answers = ForeignAnswers()
        self._probe = probe
        self._max_outage = max_outage
        self._clock, self._wall, self._random, self._sleep = clock, wall, random, sleep
        self._tell = tell
        self._lock = asyncio.Lock()

    def heard(self, response: ApiResponse | TransportFailure) -> Stop | None:
        """Note the answer to a row; why the run stops, where it was not D3's and D3 has never answered."""
        if isinstance(response, TransportFailure):
            return None
        page = foreign_page(response)
        if not page:
            if self._answers.waiting:
                self._tell("D3 answers again")
            self._answers = self._answers.by_d3()
            return None
        self._foreign(page, retry_after(response.headers, now=self._wall()))
        return self._answers.stop_at_first()

    def alone(self, stopper: Stopper) -> AbstractAsyncContextManager[object]:
        """A block for one request: no other one is in flight while it is in doubt whether D3 answers.

        While something else answers, D3 is waited for; the run stops once that takes longer than *max_outage*.
        """
        return nullcontext() if self._answers.settled else self._in_turn(stopper)

    @asynccontextmanager
    async def _in_turn(self, stopper: Stopper) -> AsyncIterator[None]:
        held = False
        with stopper.before_the_wire():
            held = await self._lock.acquire()
        if not held:
            yield
            return
        try:
            with stopper.before_the_wire():
                await self._until_it_answers(stopper)
            if self._answers.settled:
                self._lock.release()
                held = False
            yield
        finally:
            if held:
                self._lock.release()

    async def _until_it_answers(self, stopper: Stopper) -> None:
        while self._answers.waiting and stopper.reason is None:
            if stop := self._answers.stop_waiting(self._clock(), self._max_outage):
                stopper.stop(stop)
                return
            await self._sleep(max(0.0, self._answers.opens_at - self._clock()))
            response = await self._probe()
            if response is None:
                return
            if isinstance(response, TransportFailure):
                self._foreign(response.message, None)
            else:
                self.heard(response)

    def _foreign(self, page: str, wait: float | None) -> None:
        before = self._answers.waiting
        self._answers = self._answers.foreign(page, now=self._clock(), retry_after=wait, dice=self._random())
        if self._answers.waiting and not before and self._answers.d3_answered:
            self._tell(f"not D3: {page}; no row is sent until D3 answers, for at most {self._max_outage:.0f} s")
