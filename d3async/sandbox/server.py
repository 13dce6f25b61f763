"""A sandbox: started, stopped; each request through limit, key, fault, effect, answer, wire, noted in the ledger."""

from __future__ import annotations

import asyncio
import json
import random
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import jwt
from aiohttp import web

from d3async.sandbox import answers, limits_and_faults
from d3async.sandbox.answers import JSON, Answer
from d3async.sandbox.commands import Ask, BadRequest, Look, canonical, perform, read_ask
from d3async.sandbox.limits_and_faults import (
    Fault,
    Faults,
    Limit,
    LimitKind,
    Plan,
    RetryAfter,
    make_limit,
    retry_after,
    spoil,
)
from d3async.sandbox.state import MISSING, UNKNOWN_ASSIGNEES, Entry, Ledger, World, pieces, whole

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping

ANY = "*"
"""In a mapping of keys: this key opens every command."""

DEFAULT_KEYS = {
    ANY: "sandbox-key",
    "CreateTask": "sandbox-key-create-task",
    "RemoveLinkedIncidents": "sandbox-key-remove-linked-incidents",
    "GetIncidents": "sandbox-key-get-incidents",
    "GetLinkedIncidentsOfAnIncident": "sandbox-key-get-linked-incidents",
    "GetIncidentCommandCenterLogs": "sandbox-key-get-logs",
}
DEFAULT_SECRETS = {ANY: "sandbox-secret-of-at-least-32-bytes"}
JWT_HEADER = "d3jwt"


@dataclass(frozen=True, slots=True)
class Access:
    """Keys and HS256 secrets, each by command name or `*`; *header* carries the key."""

    keys: Mapping[str, str] = field(default_factory=DEFAULT_KEYS.copy, repr=False)
    secrets: Mapping[str, str] = field(default_factory=DEFAULT_SECRETS.copy, repr=False)
    header: str = "d3key"

    def allows(self, command: str, headers: Mapping[str, str], body: object) -> bool:
        """Tell whether the request may run *command*; a token's claims must equal the body's values."""
        key = headers.get(self.header)
        if key is not None:
            return key in _of(self.keys, command)
        token = headers.get(JWT_HEADER)
        return token is not None and any(_holds(token, secret, body) for secret in _of(self.secrets, command))


def _of(named: Mapping[str, str], command: str) -> list[str]:
    return [named[name] for name in (command, ANY) if name in named]


def _holds(token: str, secret: str, body: object) -> bool:
    try:
        claims = jwt.decode(token, secret, algorithms=["HS256"])
    except jwt.InvalidTokenError:
        return False
    if not isinstance(body, dict):
        return False
    return all(isinstance(body.get(name), str) and claims.get(name) == body[name] for name in ("Username", "Site"))


_STILL_THERE = 0.5


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: *hang_for* until a hanging request is answered after all, *drip* between the bytes of a slow answer."""

    hang_for: float = 3600.0
    drip: float = 0.2


def send(answer: Answer) -> web.Response:
    """Answer the way a server should."""
    headers = {"Content-Type": answer.content_type}
    headers.update(answer.headers)
    return web.Response(status=answer.status, body=answer.body, headers=headers)


async def fail(
    fault: Fault, request: web.BaseRequest, answer: Answer, pace: Pace, stopping: asyncio.Event
) -> web.StreamResponse:
    """Let *fault* happen to the sending of *answer*."""
    match fault.kind:
        case "cut":
            return cut(request, answer)
        case "hang":
            return await hang(request, stopping, answer, pace)
        case "drip":
            return await drip(request, stopping, answer, pace)
        case "huge":
            return await stream(request, limits_and_faults.huge_body())
        case "bomb":
            return await stream(request, limits_and_faults.gzip_bomb(), encoding="gzip")
        case _:
            return drop(request)


def drop(request: web.BaseRequest) -> web.Response:
    """Close the connection without a word."""
    if request.transport is not None:
        request.transport.close()
    return web.Response()


def cut(request: web.BaseRequest, answer: Answer) -> web.Response:
    """Promise the whole body, send half of it and close."""
    head = f"HTTP/1.1 {answer.status} OK\r\nContent-Type: {JSON}\r\nContent-Length: {len(answer.body)}\r\n\r\n"
    if request.transport is not None:
        request.transport.write(head.encode() + answer.body[: len(answer.body) // 2])
    return drop(request)


async def hang(request: web.BaseRequest, stopping: asyncio.Event, answer: Answer, pace: Pace) -> web.Response:
    """Keep the caller waiting until he has gone, the server stops, or *pace* has run out."""
    if await _wait(request, stopping, pace.hang_for):
        return send(answer)
    return drop(request)


async def drip(request: web.BaseRequest, stopping: asyncio.Event, answer: Answer, pace: Pace) -> web.StreamResponse:
    """Send the body byte by byte."""
    response = web.StreamResponse(headers={"Content-Type": JSON, "Content-Length": str(len(answer.body))})
    try:
        await response.prepare(request)
        for byte in answer.body:
            if not await _wait(request, stopping, pace.drip):
                return drop(request)
            await response.write(bytes((byte,)))
    except ConnectionError:
        return drop(request)
    return response


async def stream(request: web.BaseRequest, pieces: Iterable[bytes], *, encoding: str = "") -> web.StreamResponse:
    """Send *pieces* as one answer, until the caller has had enough."""
    response = web.StreamResponse(headers={"Content-Type": JSON} | ({"Content-Encoding": encoding} if encoding else {}))
    try:
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0)
    except ConnectionError:
        return drop(request)
    return response


def connected(request: web.BaseRequest) -> bool:
    """Tell whether the caller is still there to hear the answer."""
    transport = request.transport
    return transport is not None and not transport.is_closing()


async def _wait(request: web.BaseRequest, stopping: asyncio.Event, seconds: float) -> bool:
    """Wait; False when the caller went away or the server stops first."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while (left := end - loop.time()) > 0:
        try:
            async with asyncio.timeout(min(left, _STILL_THERE)):
                await stopping.wait()
        except TimeoutError:
            pass
        if stopping.is_set() or not connected(request):
            return False
    return True


_MARK = "/api/command/"


@dataclass(slots=True)
class Backend:
    """One sandbox; *latency* returns the seconds that the next request takes, *limit* None lets everything in.

    Requests number *window* (the first and the last) meet a sign-in page; *forbidden* incidents answer 401.
    """

    world: World
    access: Access
    faults: Faults
    ledger: Ledger
    limit: Limit | None = None
    retry_after: RetryAfter = "none"
    look: Look = field(default_factory=Look)
    pace: Pace = field(default_factory=Pace)
    latency: Callable[[], float] | None = None
    window: tuple[int, int] = (0, 0)
    forbidden: Collection[str] = ()
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        path = request.raw_path.partition("?")[0].rstrip("/").lower()
        command = canonical(path.rpartition(_MARK)[2]) if _MARK in path else None
        if command is None or request.method != "POST":
            return await self._handle_other(request, path)
        entry = self.ledger.arrive(time.monotonic(), command)
        wait = self.limit.ask(entry.at) if self.limit else 0.0
        if "Cookie" in request.headers:
            self.ledger.count_stray("cookies")
        try:
            sent = await request.content.read()
        except (OSError, web.RequestPayloadError):
            self.ledger.count(entry)
            return drop(request)
        found = self._understand(entry, request, sent, wait)
        if isinstance(found, Answer):
            return self._settle(entry, found)
        return await self._carry_out(entry, request, found)

    async def _handle_other(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        if path.endswith("/ledger") and request.method in {"GET", "DELETE"}:
            return await self._show_ledger(request)
        self.ledger.count_stray("strays")
        if self.access.header in request.headers or "d3jwt" in request.headers:
            self.ledger.count_stray("strays_with_key")
        return send(answers.page(405 if _MARK in path and canonical(path.rpartition(_MARK)[2]) else 404))

    async def _show_ledger(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "DELETE":
            self.world.reset()
            self.ledger.reset()
            return web.Response(status=204)
        if request.query.get("summary") == "1":
            return send(answers.success(self.ledger.summary()))
        since = request.query.get("since", "0")
        return await stream(request, pieces(self.ledger, self.world, since=int(since) if since.isdecimal() else 0))

    def _understand(self, entry: Entry, request: web.BaseRequest, sent: bytes, wait: float) -> Ask | Answer:
        body = _parse(sent)
        allowed = self.access.allows(entry.command, request.headers, body)
        try:
            ask: Ask | None = read_ask(entry.n, entry.command, body)
            problem = ""
        except BadRequest as bad:
            ask, problem = None, str(bad)
        if ask:
            entry.incident, entry.items = ask.incident, ask.items
        if self.window[0] <= entry.n <= self.window[1]:
            return answers.page(200)
        if wait:
            return self._throttled(wait)
        if not allowed or (ask and ask.incident in self.forbidden):
            return answers.error(401)
        if not ask:
            return answers.error(400, problem)
        if self.faults.max_list and len(ask.items) > self.faults.max_list:
            return answers.error(400, f"At most {self.faults.max_list} incident numbers can be given.")
        return ask

    def _throttled(self, wait: float) -> Answer:
        header = retry_after(self.retry_after, wait, time.time())
        return replace(answers.error(429), headers=(("Retry-After", header),) if header else ())

    async def _carry_out(self, entry: Entry, request: web.BaseRequest, ask: Ask) -> web.StreamResponse:
        fault = self.faults.pick(ask)
        entry.fault = fault.name if fault else None
        self.ledger.start(entry, lambda: connected(request))
        try:
            if self.latency:
                await asyncio.sleep(self.latency())
            if fault:
                return await self._go_wrong(entry, request, ask, fault)
            return self._settle(entry, answers.success(self._effect(entry, ask)))
        finally:
            self.ledger.finish(entry)

    def _effect(self, entry: Entry, ask: Ask) -> answers.Json:
        done = perform(self.world, ask, self.look)
        entry.effect = done.effect
        if done.effect:
            self.ledger.count_effect(done.task, done.removed)
        return done.body

    async def _go_wrong(self, entry: Entry, request: web.BaseRequest, ask: Ask, fault: Fault) -> web.StreamResponse:
        ask = replace(ask, skip_first=fault.name == "still-linked")
        body = self._effect(entry, ask) if fault.effect else answers.refused("The request was given up.")
        if fault.status == HTTPStatus.TOO_MANY_REQUESTS:
            return self._settle(entry, self._throttled(1.0))
        spoilt = spoil(fault, body, elsewhere=f"http://localhost:{request.url.port}/elsewhere")
        if spoilt:
            return self._settle(entry, spoilt)
        self.ledger.count(entry)
        return await fail(fault, request, answers.success(body), self.pace, self.stopping)

    def _settle(self, entry: Entry, answer: Answer) -> web.Response:
        entry.status = answer.status
        self.ledger.count(entry)
        return send(answer)


def _parse(sent: bytes) -> object:
    try:
        return json.loads(sent.decode())
    except (ValueError, RecursionError):
        return None


SITE_PATH = "/ce_site/VSOC"


class Sandbox(str):  # noqa: SLOT000 - a str cannot have slots with content
    """A running sandbox; the text itself is its base URL, ready to be a `D3_BASE_URL`."""

    backend: Backend

    @classmethod
    def at(cls, url: str, backend: Backend) -> Sandbox:
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
    rate: float = 50, limiter: LimitKind = "sliding", burst: float | None = None, retry_after: RetryAfter = "none",
    latency: float = 0.0, jitter: float = 0.0, faults: Plan | None = None, seed: int = 0,
    hang_for: float = 3600.0, drip: float = 0.2,
    links: Iterable[tuple[str, str]] = (), symmetric: bool = True, strict: bool = False,
    incidents: Collection[str] = (), missing: Collection[str] = MISSING,
    assignees: Collection[str] | None = None, unknown_assignees: Collection[str] = UNKNOWN_ASSIGNEES,
    zone_label: str = "China Standard Time", log_shape: int = 1, keep: bool = True,
    window: tuple[int, int] = (0, 0), forbidden: Collection[str] = (),
) -> AsyncIterator[Sandbox]:  # fmt: skip
    """Run a D3 look-alike on this event loop; yields its base URL.

    *keys* and *secrets* go by command name, `*` means all. *rate* is in requests a second, 0 for no limit;
    times are in seconds. *faults*: shares by name (`{"drop-after": 0.05}`), or one name or None for each request
    in turn, or a function of the request. With *keep* off, requests and tasks are counted but not kept.
    The rest is explained at `Backend`, `World`, `Look` and `Pace`. Raises OSError when the port is taken, ValueError
    for a plan of faults that cannot be.
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
        window=window,
        forbidden=frozenset(forbidden),
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
