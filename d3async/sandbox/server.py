"""Starts and stops a sandbox."""

import random
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from d3async.sandbox.app import Backend
from d3async.sandbox.auth import ANY, DEFAULT_KEYS, DEFAULT_SECRETS, Access
from d3async.sandbox.commands import Look
from d3async.sandbox.faults import Faults, Plan
from d3async.sandbox.ledger import Ledger, whole
from d3async.sandbox.limits import Kind, Limit, RetryAfter, make_limit
from d3async.sandbox.state import MISSING, UNKNOWN_ASSIGNEES, World
from d3async.sandbox.wire import Pace

SITE_PATH = "/ce_site/VSOC"


class Sandbox(str):  # noqa: SLOT000 - a str cannot have slots with content
    """A running sandbox; the text itself is its base URL, ready to be a `D3_BASE_URL`."""

    backend: Backend

    @classmethod
    def at(cls, url: str, backend: Backend) -> "Sandbox":
        """Bind a base URL to what answers there."""
        sandbox = cls(url)
        sandbox.backend = backend
        return sandbox

    @property
    def ledger_url(self) -> str:
        """Where the ledger is to be had over HTTP."""
        return f"{self.removesuffix(SITE_PATH)}/ledger"

    @property
    def state(self) -> World:
        """The tasks and links as they are now."""
        return self.backend.world

    @property
    def keys(self) -> Mapping[str, str]:
        """The key of each command; `*` is the key for all of them."""
        return self.backend.access.keys

    @property
    def secrets(self) -> Mapping[str, str]:
        """The secret of each command for signed tokens; `*` is the one for all of them."""
        return self.backend.access.secrets

    @property
    def env(self) -> dict[str, str]:
        """The environment that leads d3async here."""
        found = {"D3_BASE_URL": str(self), "D3_USERNAME": "Admin", "D3_SITE": "Security Operations"}
        if ANY in self.keys:
            found["D3_API_KEY"] = self.keys[ANY]
        return found | {f"D3_API_KEY_{_shout(name)}": key for name, key in self.keys.items() if name != ANY}

    def ledger(self, *, since: int = 0) -> dict[str, Any]:
        """Give what `GET /ledger` gives."""
        return whole(self.backend.ledger, self.backend.world, since=since)

    def reset(self) -> None:
        """Do what `DELETE /ledger` does."""
        self.backend.world.reset()
        self.backend.ledger.reset()

    def set_limit(self, limit: Limit | None) -> None:
        """Put another limit in force from the next request on."""
        self.backend.limit = limit

    def set_faults(self, plan: Plan | None, *, seed: int = 0) -> None:
        """Put another plan of faults in force from the next request on."""
        self.backend.faults = Faults(plan, random.Random(seed).random)  # noqa: S311 - faults, not secrets


@asynccontextmanager
async def serve(
    *,
    host: str = "127.0.0.1", port: int = 0,
    keys: Mapping[str, str] | None = None, secrets: Mapping[str, str] | None = None, key_header: str = "d3key",
    rate: float = 50, limiter: Kind = "sliding", burst: float | None = None, retry_after: RetryAfter = "none",
    latency: float = 0.0, jitter: float = 0.0, faults: Plan | None = None, seed: int = 0,
    hang_for: float = 3600.0, drip: float = 0.2,
    links: Iterable[tuple[str, str]] = (), symmetric: bool = True, strict: bool = False,
    incidents: Collection[str] = (), missing: Collection[str] = MISSING,
    assignees: Collection[str] | None = None, unknown_assignees: Collection[str] = UNKNOWN_ASSIGNEES,
    zone_label: str = "China Standard Time", log_shape: int = 1, keep: bool = True,
) -> AsyncIterator[Sandbox]:  # fmt: skip
    """Run a D3 look-alike on this event loop; yields its base URL.

    *keys* and *secrets* go by command name, `*` stands for all. *rate* is in requests a second, 0 for no limit;
    times are in seconds. *faults*: shares by name (`{"drop-after": 0.05}`), or one name or None for each request
    in turn, or a function of the request. With *keep* off, requests and tasks are counted but not kept.
    The rest is explained at `World`, `Look` and `Pace`. Raises OSError when the port is taken, ValueError for a
    plan of faults that cannot be.
    """
    dice = random.Random(seed)  # noqa: S311 - faults, not secrets
    backend = Backend(
        world=World(
            links, symmetric=symmetric, strict=strict, incidents=incidents, missing=missing,
            assignees=assignees, unknown_assignees=unknown_assignees, keep_tasks=keep,
        ),
        access=_access(keys, secrets, key_header),
        faults=Faults(faults, dice.random),
        ledger=Ledger(keep=keep),
        limit=make_limit(limiter, rate, burst) if rate else None,
        retry_after=retry_after,
        look=Look(zone_label, log_shape),
        pace=Pace(hang_for, drip),
        latency=_uneven(latency, jitter, dice) if latency or jitter else None,
    )  # fmt: skip
    async with _listening(backend, host, port) as url:
        yield Sandbox.at(url, backend)


def _access(keys: Mapping[str, str] | None, secrets: Mapping[str, str] | None, header: str) -> Access:
    return Access(DEFAULT_KEYS if keys is None else keys, DEFAULT_SECRETS if secrets is None else secrets, header)


def _uneven(latency: float, jitter: float, dice: random.Random) -> Callable[[], float]:
    return lambda: max(0.0, dice.uniform(latency - jitter, latency + jitter))


@asynccontextmanager
async def _listening(backend: Backend, host: str, port: int) -> AsyncIterator[str]:
    runner = web.ServerRunner(web.Server(backend.handle, access_log=None), shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=1024).start()
        bound = runner.addresses[0][1]
        yield f"http://{f'[{host}]' if ':' in host else host}:{bound}{SITE_PATH}"
    finally:
        backend.stopping.set()
        await runner.cleanup()


def _shout(name: str) -> str:
    return "".join(f"_{letter}" if letter.isupper() and i else letter for i, letter in enumerate(name)).upper()
