"""What single calls are made of beside the delivery: typed answers, their errors, one source at a time."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

from pydantic import ValidationError

from d3async.commands.base import Command
from d3async.errors import NotSentError, RefusedError, SettingsError, UnknownOutcomeError
from d3async.sansio.call import fold
from d3async.sansio.protocol import Broken, Doubtful, ItemError, Refused, Reply

if TYPE_CHECKING:
    from d3async.delivery import Delivered, Stopper
    from d3async.engine import Carrier
    from d3async.errors import D3Error
    from d3async.journal.base import Log
    from d3async.sansio.call import Call

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


class Marks:
    """A `Log` that remembers whether an attempt may have reached D3, for a call whose time is up."""

    def __init__(self) -> None:
        self._doubtful = 0
        self._sent = 0

    async def claim(self, call: Call, at: float) -> None:  # noqa: ARG002 - the form of `Log`
        """See `Log.claim`."""
        self._doubtful += 1
        self._sent += 1

    def release(self, call: Call, *, sent: bool) -> None:  # noqa: ARG002 - as above
        """See `Log.release`."""
        self._doubtful -= 1
        self._sent -= not sent

    def too_late(self, seconds: float | None) -> D3Error:
        """The error of a call that took longer than *seconds*."""
        if self._doubtful:
            text = f"No answer within {seconds:g} s; it was sent and may have happened."
            return UnknownOutcomeError(text, code="timeout", attempts=self._sent, sent=True)
        text = f"Not done within {seconds:g} s; it did not happen."
        return NotSentError(text, code="timeout", attempts=self._sent)


class OneSourceAtATime:
    """A carrier that never has two calls about the links of one incident under way; locks live while they are held.

    *site* is the site of calls that name none.
    """

    def __init__(self, carrier: Carrier, *, site: str) -> None:
        self._carrier = carrier
        self._site = site
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def deliver(self, call: Call, *, repeatable: bool, log: Log, stopper: Stopper) -> Delivered:
        """See `Delivery.deliver`."""
        async with AsyncExitStack() as held:
            if call.items:
                lock = self._locks.setdefault((call.site or self._site, fold(call.label)), asyncio.Lock())
                with stopper.before_the_wire():
                    await held.enter_async_context(lock)
            return await self._carrier.deliver(call, repeatable=repeatable, log=log, stopper=stopper)


def joined(one: RemovedLinks, other: RemovedLinks) -> RemovedLinks:
    """What two requests about one source, one after the other, have done together."""
    gone = {fold(item) for item in other.removed}
    left = other.remaining if other.remaining is not None else one.remaining
    remaining = None if left is None else [item for item in left if fold(item) not in gone]
    return RemovedLinks(one.removed + other.removed, one.refused + other.refused, remaining)


def valid(kind: type[C], **fields: Any) -> C:
    """The command of *fields*. Raises `SettingsError` that names the wrong ones."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc'][:1]))} {p['msg']}" for p in error.errors())
        raise SettingsError(f"{kind.__name__}: {problems}", code="invalid") from error


def reply_of(done: Delivered) -> Reply:
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
