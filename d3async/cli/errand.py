"""One D3's share of a run: its own connection, limiter, workers and halt rules, over the journal of all."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from d3async.cli.sight import Sight
from d3async.connect import connect, host_limiter
from d3async.ended import stop_of
from d3async.engine import Engine
from d3async.errors import D3Error, JournalError
from d3async.noted import Noted
from d3async.observe import said
from d3async.sansio.retry import Stop
from d3async.shared_limit.opening import limit_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from d3async.cli.servers import Server
    from d3async.delivery import Attempt
    from d3async.journal.base import Journal, RowOutcome
    from d3async.limiter import Limiter, LimiterNumbers
    from d3async.sansio.halt import Halt


@dataclass(frozen=True, slots=True)
class Orders:
    """How a run is to go; *drain* in seconds."""

    halts: Sequence[Halt]
    links_per_call: int
    drain: float
    serial: bool
    verbose: bool = False
    verify: bool = False


@dataclass(frozen=True, slots=True)
class ServerRan:
    """How it went at one D3. *requests* counts those that really left, *left* the rows without an outcome.

    *elapsed* is in seconds; *numbers* are None where nothing was begun.
    """

    server: Server
    stop: Stop | None
    requests: int
    left: int
    elapsed: float
    numbers: LimiterNumbers | None


class Errand:
    """Brings one D3 what it is to be sent. *tell* says something to the user; nothing is opened before `run`.

    The *only* one of a run raises what goes wrong with its D3; one of several keeps it to itself. *limiters* are those
    of the run by `limit_key`: one D3 and one key have one limit, by whatever profiles they are called.
    """

    def __init__(
        self,
        server: Server,
        journal: Journal,
        orders: Orders,
        *,
        workers: int,
        only: bool,
        limiters: dict[str, Limiter],
        on_row: Callable[[RowOutcome], None],
        tell: Callable[[str], None],
    ) -> None:
        self.server = server
        self.limiter: Limiter | None = None
        self.stop_reason: Stop | None = None
        self._requests = 0
        self._elapsed = 0.0
        self._journal = journal
        self._orders = orders
        self._only = only
        self._limiters = limiters
        self._on_row = on_row
        self._tell = tell
        self._noted = Noted(journal)
        self._workers = workers
        self._engine: Engine | None = None
        self._over = False

    async def run(self) -> None:
        """Send the rows. Raises what is no word of D3's."""
        if self.stop_reason is not None:
            return
        settings, key = self.server.settings, limit_key(self.server.settings)
        self.limiter = self._limiters[key] = self._limiters.get(key) or host_limiter(settings, self._say)
        parts = connect(settings, limiter=self.limiter, on_attempt=self._attempt)
        engine = self._engine = Engine(
            carrier=parts.delivery,
            journal=self._journal,
            rows=self.server.rows,
            workers=self._workers,
            halts=self._orders.halts,
            links_per_call=self._orders.links_per_call,
            drain=self._orders.drain,
            on_row=self._on_row,
        )
        started = time.monotonic()
        try:
            async with parts.open():
                self.stop_reason = await engine.run()
        except JournalError as error:
            self.stop_reason = stop_of(error)
        except D3Error as error:
            if self._only:
                raise
            self.stop_reason = Stop(error.code, error.message)
        finally:
            self._over = True
            self._elapsed = time.monotonic() - started
            self.look()

    def stop(self, reason: Stop) -> None:
        """Start nothing new; what is in flight may finish."""
        if self._engine is not None:
            self._engine.stop(reason)
        else:
            self.stop_reason = self.stop_reason or reason

    def cancel(self) -> None:
        """Drop what is in flight."""
        if self._engine is not None:
            self._engine.cancel()

    def look(self) -> None:
        """Note what the limiter goes through."""
        if self.limiter is not None:
            self._noted.look(self.limiter.numbers)

    @property
    def begun(self) -> bool:
        """Whether its turn has come."""
        return self._engine is not None

    @property
    def over(self) -> bool:
        """Whether nothing more is sent, and nothing is in flight."""
        return self._over or self.stop_reason is not None

    @property
    def stopping(self) -> bool:
        """Whether nothing new is begun."""
        return self.over or (self._engine is not None and self._engine.stopper.reason is not None)

    def sight(self) -> Sight | None:
        """This D3 at this moment; None before it is begun and after it is over."""
        if self.limiter is None or self._engine is None or self.over:
            return None
        name = "" if self._only else self.server.name
        return Sight(name, self.server.rows, self._engine.counts.total(), self.limiter.numbers)

    def ended(self) -> ServerRan:
        """How it went."""
        done = self._engine.counts.total() if self._engine else 0
        numbers = self.limiter.numbers if self.limiter else None
        left = self.server.rows - done
        return ServerRan(self.server, self.stop_reason, self._requests, left, self._elapsed, numbers)

    def _attempt(self, attempt: Attempt) -> None:
        self._requests += 1
        if self._orders.verbose:
            self._say(said(attempt))
        self._noted.attempt(attempt)

    def _say(self, text: str) -> None:
        self._tell(text if self._only else f"{self.server.name}: {text}")
