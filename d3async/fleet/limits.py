"""Limiters that share a tenant's limit with everybody who sends to it: other workers, and runs beside the fleet."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Self

from d3async.limiter import Limiter
from d3async.shared_limit import limit_database, shared_limit
from d3async.shared_limit.opening import limit_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from d3async.credentials import Secret
    from d3async.settings import Settings
    from d3async.shared_limit.base import Store

log = logging.getLogger("d3async.fleet")


class Limits:
    """Shares limits through the database that a tenant's settings name, else through *url*, the fleet's.

    A context manager; one connection for each database, however many tenants there are.
    """

    def __init__(self, url: Secret) -> None:
        self._url = url
        self._stores: dict[str, Store] = {}
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    @asynccontextmanager
    async def limiter(self, settings: Settings) -> AsyncIterator[Limiter]:
        """The limiter of the tenant with *settings*."""
        store = await self._store(settings.limit_url or self._url)
        async with shared_limit(store, limit_key(settings), tell=log.warning) as share:
            yield Limiter(rate=settings.rate, concurrency=settings.concurrency, share=share)

    async def _store(self, url: Secret) -> Store:
        text = url.reveal()
        if text not in self._stores:
            self._stores[text] = await self._open.enter_async_context(limit_database(url))
        return self._stores[text]
