"""The server: limit, key, request, fault, effect, answer, in this order, each noted in the ledger."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http import HTTPStatus

from aiohttp import web

from d3async.sandbox import answers, wire
from d3async.sandbox.answers import Answer
from d3async.sandbox.auth import Access
from d3async.sandbox.commands import Ask, BadRequest, Look, canonical, perform, read_ask
from d3async.sandbox.faults import Fault, Faults
from d3async.sandbox.hostile import spoil
from d3async.sandbox.ledger import Entry, Ledger, pieces
from d3async.sandbox.limits import Limit, RetryAfter, retry_after
from d3async.sandbox.state import World

_MARK = "/api/command/"


@dataclass(slots=True)
class Backend:
    """One sandbox; *latency* returns the seconds that the next request takes, *limit* None lets everything in."""

    world: World
    access: Access
    faults: Faults
    ledger: Ledger
    limit: Limit | None = None
    retry_after: RetryAfter = "none"
    look: Look = field(default_factory=Look)
    pace: wire.Pace = field(default_factory=wire.Pace)
    latency: Callable[[], float] | None = None
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
            return wire.drop(request)
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
        return wire.send(answers.page(405 if _MARK in path and canonical(path.rpartition(_MARK)[2]) else 404))

    async def _show_ledger(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "DELETE":
            self.world.reset()
            self.ledger.reset()
            return web.Response(status=204)
        if request.query.get("summary") == "1":
            return wire.send(answers.success(self.ledger.summary()))
        since = request.query.get("since", "0")
        return await wire.stream(request, pieces(self.ledger, self.world, since=int(since) if since.isdecimal() else 0))

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
        if wait:
            return self._throttled(wait)
        if not allowed:
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
        self.ledger.start(entry, lambda: wire.connected(request))
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
        return await wire.fail(fault, request, answers.success(body), self.pace, self.stopping)

    def _settle(self, entry: Entry, answer: Answer) -> web.Response:
        entry.status = answer.status
        self.ledger.count(entry)
        return wire.send(answer)


def _parse(sent: bytes) -> object:
    try:
        return json.loads(sent.decode())
    except (ValueError, RecursionError):
        return None
