"""What a worker keeps of each tenant: one connection, one limiter, made when first needed."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from d3async.connect import connect

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from d3async.connect import Connection
    from d3async.delivery import Attempt
    from d3async.limiter import Limiter
    from d3async.settings import Settings

    SettingsOf = Callable[[str], Settings]
    LimiterOf = Callable[[Settings], AbstractAsyncContextManager[Limiter]]
    Heard = Callable[[str, Attempt], None]


@dataclass(frozen=True, slots=True)
class Tenant:
    """One D3 this worker speaks to."""

    name: str
    settings: Settings
    connection: Connection


class Tenants:
    """Connections by tenant. *settings_of* may raise `SettingsError`; *heard* is told of every attempt."""

    def __init__(self, settings_of: SettingsOf, limiter_of: LimiterOf, heard: Heard) -> None:
        self._settings_of = settings_of
        self._limiter_of = limiter_of
        self._heard = heard
        self._kept: dict[str, tuple[Tenant, AsyncExitStack]] = {}

    async def get(self, name: str) -> Tenant:
        """The tenant *name*, as it was the last time or, after `forget`, with its settings read anew."""
        if name not in self._kept:
            self._kept[name] = await self._made(name)
        return self._kept[name][0]

    async def _made(self, name: str) -> tuple[Tenant, AsyncExitStack]:
        settings = self._settings_of(name)
        async with AsyncExitStack() as stack:
            limiter = await stack.enter_async_context(self._limiter_of(settings))
            parts = connect(settings, limiter=limiter, on_attempt=lambda attempt: self._heard(name, attempt))
            await stack.enter_async_context(parts.transport)
            return Tenant(name, settings, parts), stack.pop_all()

    async def forget(self, name: str) -> None:
        """Close the connection of *name*: a key that was changed is found the next time."""
        if name in self._kept:
            _, stack = self._kept.pop(name)
            await stack.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        for name in list(self._kept):
            await self.forget(name)

    def known(self) -> list[Tenant]:
        """Those there is a connection to."""
        return [tenant for tenant, _ in self._kept.values()]
