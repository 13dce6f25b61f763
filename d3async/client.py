"""D3Client: one command, typed, awaited; what D3 refuses or nobody can know is raised."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pydantic import ValidationError

from d3async.commands import find
from d3async.commands.base import Command
from d3async.commands.create_task import CreateTask
from d3async.commands.remove_linked_incidents import RemoveLinkedIncidents
from d3async.connect import connect
from d3async.delivery import NoLog, Stopper
from d3async.errors import (
    D3Error,
    NotSentError,
    RefusedError,
    SettingsError,
    ThrottledError,
    UnauthorizedError,
    UnknownOutcomeError,
)
from d3async.sansio import protocol
from d3async.sansio.call import Call, fold
from d3async.sansio.outcome import judge
from d3async.sansio.protocol import Broken, Doubtful, ItemError, Refused, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from aiohttp import ClientSession

    from d3async.delivery import Attempt, Delivered
    from d3async.limiter import Limiter, LimiterNumbers
    from d3async.settings import Settings

_LINKS_PER_CALL = 50
C = TypeVar("C", bound=Command)


@dataclass(frozen=True, slots=True)
class CreatedTask:
    """D3's echo of a created task. It names no id. *due* ends in the time zone D3 read the due date in."""

    incident: str
    name: str
    due: str
    answer: Any


@dataclass(frozen=True, slots=True)
class RemovedLinks:
    """What became of the links: *removed* are gone, *refused* says why not, *remaining* is what D3 lists as left.

    *remaining* is None when D3's answer has no such list.
    """

    removed: list[str]
    refused: list[ItemError]
    remaining: list[str] | None


class D3Client:
    """One D3. All callers of one client share its limiter, so none of them needs to think of the limit.

    A *session* passed in is used and not closed. *on_attempt* hears of every request that left. Use as
    `async with`; one client belongs to one event loop. Every call may raise a `D3Error`:

    `RefusedError` (D3 said no), `UnauthorizedError` (401), `NotSentError` (it never left), `ThrottledError` (a longer
    pause than `max_wait` was asked for) and `UnknownOutcomeError` (it left, and nobody knows).
    """

    def __init__(
        self,
        settings: Settings,
        *,
        session: ClientSession | None = None,
        limiter: Limiter | None = None,
        on_attempt: Callable[[Attempt], None] | None = None,
    ) -> None:
        self._settings = settings
        self._parts = connect(
            settings, session=session, limiter=limiter, max_outages=settings.max_attempts, on_attempt=on_attempt
        )
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._parts.transport)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def limiter(self) -> LimiterNumbers:
        """The limiter's numbers at this moment: rate, refusals, time lost to the limit."""
        return self._parts.limiter.numbers

    async def create_task(
        self,
        *,
        incident: str,
        name: str,
        description: str,
        assignee: str,
        due: datetime | str,
        type: str = "Default",  # noqa: A002 - the name of the column and of D3's parameter
        required: bool | str = False,
        username: str | None = None,
        site: str | None = None,
    ) -> CreatedTask:
        """Create a task in *incident*. *due* has no zone: D3 reads it in one of its own, which its answer names.

        https://docs.d3security.com/api-docs/Working-version/create-task
        """
        command = _valid(
            CreateTask,
            incident=incident,
            name=name,
            type=type,
            description=description,
            assignee=assignee,
            due=due,
            required=required,
        )
        answer = await self.execute(command, username=username, site=site)
        echo = answer.get("rawData") if isinstance(answer, dict) else None
        due_echo = echo.get("Due Date", "") if isinstance(echo, dict) else ""
        return CreatedTask(incident=command.incident, name=command.name, due=due_echo, answer=answer)

    async def remove_linked_incidents(
        self, source: str, linked: Iterable[str], *, username: str | None = None, site: str | None = None
    ) -> RemovedLinks:
        """Remove the links from *source* to each of *linked*. Refused ones come back, they are not raised.

        https://docs.d3security.com/api-docs/Working-version/remove-linked-incidents
        """
        command = _valid(RemoveLinkedIncidents, source=source, linked=list(linked))
        total = RemovedLinks([], [], None)
        for start in range(0, len(command.linked), _LINKS_PER_CALL):
            items = command.linked[start : start + _LINKS_PER_CALL]
            total = _joined(total, await self._remove(command.source, items, username, site))
        return total

    async def _remove(
        self, source: str, items: tuple[str, ...], username: str | None, site: str | None
    ) -> RemovedLinks:
        params = {RemoveLinkedIncidents.parameter("source"): source}
        call = Call(RemoveLinkedIncidents.__name__, params, username, site or "", 0, source, items=items)
        done = await self._deliver(call, repeatable=True)
        reply = _reply(done)
        verdict = judge(done.call, reply)
        if any(item.outcome == "unknown" for item in verdict.items):
            raise UnknownOutcomeError(verdict.message, code=verdict.code, status=200, attempts=done.attempts, sent=True)
        return RemovedLinks(
            [item.item for item in verdict.items if item.outcome == "ok"],
            [ItemError(item.item, item.message) for item in verdict.items if item.outcome == "failed"],
            None if reply.remaining is None else list(reply.remaining),
        )

    async def execute(self, command: Command, *, username: str | None = None, site: str | None = None) -> Any:
        """Any command of `d3async.commands` without items; D3's whole answer as JSON."""
        kind = type(command)
        call = Call(kind.__name__, command.params(), username, site or "", 0, "")
        done = await self._deliver(call, repeatable=kind.repeatable)
        reply = _reply(done)
        verdict = judge(done.call, reply)
        if verdict.outcome == "failed":
            raise RefusedError(verdict.message, code=verdict.code, status=200, attempts=done.attempts, sent=True)
        if verdict.outcome != "ok":
            raise UnknownOutcomeError(verdict.message, code=verdict.code, status=200, attempts=done.attempts, sent=True)
        return reply.data

    async def call(
        self,
        name: str,
        params: Mapping[str, Any],
        *,
        username: str | None = None,
        site: str | None = None,
        repeatable: bool | None = None,
    ) -> Any:
        """Any D3 command by *name*; the answer as JSON.

        *repeatable* says whether it may be sent again when nobody knows whether it happened; by default commands that
        only read (`Get…`, `Search…`) may. An answer with an `error` text raises `RefusedError`.
        """
        if repeatable is None:
            known = find(name)
            repeatable = known.repeatable if known else name.lower().startswith(("get", "search"))
        done = await self._deliver(Call(name, params, username, site or "", 0, ""), repeatable=repeatable)
        if done.response is None or isinstance(done.answer, Broken | Refused) or done.response.status != 200:  # noqa: PLR2004 - D3 knows no other success
            _reply(done)
        answer = protocol.returned(done.response) if done.response else None
        if not isinstance(answer, dict):
            _reply(done)
        return answer

    async def _deliver(self, call: Call, *, repeatable: bool) -> Delivered:
        stopper = Stopper()
        done = await self._parts.delivery.deliver(call, repeatable=repeatable, log=NoLog(), stopper=stopper)
        if stopper.reason is not None and done.answer is None:
            raise _stopped(stopper, done)
        return done


def _joined(one: RemovedLinks, other: RemovedLinks) -> RemovedLinks:
    gone = {fold(item) for item in other.removed}
    left = other.remaining if other.remaining is not None else one.remaining
    remaining = None if left is None else [item for item in left if fold(item) not in gone]
    return RemovedLinks(one.removed + other.removed, one.refused + other.refused, remaining)


def _valid(kind: type[C], **fields: Any) -> C:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc'][:1]))} {p['msg']}" for p in error.errors())
        raise SettingsError(f"{kind.__name__}: {problems}", code="invalid") from error


def _stopped(stopper: Stopper, done: Delivered) -> D3Error:
    reason = stopper.reason
    if reason is None:
        raise RuntimeError("a call without an answer has a reason")
    kinds: dict[str, tuple[type[D3Error], int | None, bool]] = {
        "unauthorized": (UnauthorizedError, 401, True),
        "throttled": (ThrottledError, 429, True),
    }
    kind, status, sent = kinds.get(reason.code, (NotSentError, None, False))
    return kind(
        reason.message,
        code=reason.code,
        status=status,
        retry_after=reason.retry_after,
        attempts=done.attempts,
        sent=sent,
    )


def _reply(done: Delivered) -> Reply:
    """The reply, or the error the answer stands for."""
    answer = done.answer
    if isinstance(answer, Reply):
        return answer
    if isinstance(answer, Refused):
        raise RefusedError(answer.message, code=answer.code, status=answer.status, attempts=done.attempts, sent=True)
    if isinstance(answer, Doubtful | Broken):
        raise UnknownOutcomeError(
            answer.message, code=answer.code, status=answer.status, attempts=done.attempts, sent=True
        )
    raise RuntimeError(f"{answer!r} is no last word")
