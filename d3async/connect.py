"""Puts the parts together; nobody else does."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from d3async.auth import Auth
from d3async.delivery import Delivery
from d3async.limiter import Limiter
from d3async.network import Network
from d3async.sansio.request import Account
from d3async.sansio.retry import Policy
from d3async.shared_limit.opening import host_share, library_share
from d3async.transport import Transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiohttp import ClientSession

    from d3async.delivery import Attempt
    from d3async.settings import Settings


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
    max_outages: int = 20,
    on_attempt: Callable[[Attempt], None] | None = None,
) -> Connection:
    """The parts for *settings*. A *session* or *limiter* passed in is shared, and the session is not closed.

    Without a *limiter* of the caller's the limit is shared where *settings* name a `limit_url`.
    *max_outages*: connection failures in a row after which D3 counts as gone; a few suffice while it was never reached.
    """
    auth = Auth(settings)
    transport = Transport(
        Network(
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
        on_attempt=on_attempt,
    )
    return Connection(transport, auth, limiter, delivery)


def host_limiter(settings: Settings, tell: Callable[[str], None]) -> Limiter:
    """A limiter for a program of this user, which shares the limit as *settings* say; *tell* hears how that goes."""
    share = host_share(settings, tell)
    return Limiter(rate=settings.rate, concurrency=settings.concurrency, share=share)
