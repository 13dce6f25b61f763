"""Puts the parts together; nobody else does."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from d3async.auth import Auth
from d3async.delivery import Delivery
from d3async.limiter import Limiter
from d3async.sansio.request import Account
from d3async.sansio.retry import Policy
from d3async.transport import Network, Transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import ClientSession

    from d3async.delivery import Attempt
    from d3async.settings import Settings


@dataclass(frozen=True, slots=True)
class Connection:
    """One D3, ready to be talked to: the transport is still to be entered."""

    transport: Transport
    auth: Auth
    limiter: Limiter
    delivery: Delivery


def connect(
    settings: Settings,
    *,
    session: ClientSession | None = None,
    limiter: Limiter | None = None,
    max_outages: int = 20,
    on_attempt: Callable[[Attempt], None] | None = None,
) -> Connection:
    """The parts for *settings*. A *session* or *limiter* passed in is shared, and the session is not closed.

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
    limiter = limiter or Limiter(rate=settings.rate, concurrency=settings.concurrency)
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
