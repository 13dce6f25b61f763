"""D3Client: one command or a whole run, typed, awaited; what D3 refuses and what cannot be known is raised."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar
from weakref import WeakSet, WeakValueDictionary

import anyio
from pydantic import ValidationError

from d3async.batch import JobRun
from d3async.batch_journal import BatchJournal, BatchOptions
from d3async.d3 import response
from d3async.d3.call import Call, normalize_number
from d3async.d3.commands import Command, find
from d3async.d3.commands.create_task import CreateTask
from d3async.d3.commands.remove_linked_incidents import RemoveLinkedIncidents
from d3async.d3.response import AmbiguousAnswer, ItemError, Refused, Reply, TransportFailure, Unauthorized
from d3async.engine.delivery import Stopper, connect
from d3async.engine.observers import CallbackObserver, ObserverHub, OutcomeSeen, counted
from d3async.errors import NotSentError, RefusedError, SettingsError, UnauthorizedError, UnknownOutcomeError
from d3async.policy.halt_and_exit_codes import error_for_stop, parse
from d3async.policy.outcome import judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from aiohttp import ClientSession

    from d3async.batch_journal import Jobs
    from d3async.config.settings import Settings
    from d3async.engine.delivery import Delivered
    from d3async.engine.engine import CallSender
    from d3async.engine.observers import AttemptSeen, Observer
    from d3async.errors import D3Error
    from d3async.journal.protocols import AttemptLog
    from d3async.policy.outcome import Verdict
    from d3async.ratelimit.limiter import Limiter, LimiterNumbers

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


class MemoryAttemptLog:
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

    def __init__(self, carrier: CallSender, *, site: str) -> None:
        self._carrier = carrier
        self._site = site
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def deliver(self, call: Call, *, repeatable: bool, log: AttemptLog, stopper: Stopper) -> Delivered:
        """See `Delivery.deliver`."""
        async with AsyncExitStack() as held:
            if call.items:
                lock = self._locks.setdefault((call.site or self._site, normalize_number(call.label)), asyncio.Lock())
                with stopper.before_the_wire():
                    await held.enter_async_context(lock)
            return await self._carrier.deliver(call, repeatable=repeatable, log=log, stopper=stopper)


def joined(one: RemovedLinks, other: RemovedLinks) -> RemovedLinks:
    """What two requests about one source, one after the other, have done together."""
    gone = {normalize_number(item) for item in other.removed}
    left = other.remaining if other.remaining is not None else one.remaining
    remaining = None if left is None else [item for item in left if normalize_number(item) not in gone]
    return RemovedLinks(one.removed + other.removed, one.refused + other.refused, remaining)


def valid(kind: type[C], **fields: Any) -> C:
    """The command of *fields*. Raises `SettingsError` that names the wrong ones."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc'][:1]))} {p['msg']}" for p in error.errors())
        raise SettingsError(f"{kind.__name__}: {problems}", code="invalid") from error


def reply_of(done: Delivered) -> Reply:
    """The reply, or the error that the answer means."""
    answer = done.answer
    if isinstance(answer, Reply):
        return answer
    if isinstance(answer, Refused):
        raise RefusedError(answer.message, code=answer.code, status=answer.status, attempts=done.attempts, sent=True)
    if isinstance(answer, AmbiguousAnswer | TransportFailure):
        raise UnknownOutcomeError(
            answer.message, code=answer.code, status=answer.status, attempts=done.attempts, sent=True
        )
    raise RuntimeError(f"{answer!r} is no last word")


_LINKS_PER_CALL = 50


class D3Client:
    """One D3. All callers of one client share its limiter, so none of them needs to think of the limit.

    A *session* passed in is used and not closed. *on_attempt* hears of every request that left, *on_outcome* of every
    outcome, *observers* of both and more (`d3async.engine.observers`, `d3async.otel`). Use as `async with`, once; one
    client belongs to the event loop it was entered in, and any number of its tasks may use it at the same time.

    Every call may raise a `D3Error`: `RefusedError` (D3 said no), `UnauthorizedError` (401), `NotSentError` (it never
    left), `ThrottledError` (a longer pause than `max_wait` was asked for) and `UnknownOutcomeError` (it left, and
    nobody knows). A *timeout* is in seconds and covers a whole call: waiting for its turn, every attempt, every pause.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        session: ClientSession | None = None,
        limiter: Limiter | None = None,
        on_attempt: Callable[[AttemptSeen], None] | None = None,
        on_outcome: Callable[[OutcomeSeen], None] | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        if on_attempt or on_outcome:
            observers = (*observers, CallbackObserver(on_attempt, on_outcome))
        self._settings = settings
        self._watch = ObserverHub(observers, lambda: self.limiter)
        self._parts = connect(
            settings,
            session=session,
            limiter=limiter,
            max_outages=settings.max_attempts,
            on_attempt=self._watch.attempt,
        )
        self._carrier = OneSourceAtATime(self._watch.carrier(self._parts.delivery), site=settings.site)
        self._stack = AsyncExitStack()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._runs: WeakSet[JobRun] = WeakSet()

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise RuntimeError("this D3Client has been entered already: share the one that is open, or make another")
        self._loop = asyncio.get_running_loop()
        await self._stack.enter_async_context(self._parts.open())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        self._stack.push_async_callback(self._end_runs)
        await self._stack.aclose()

    async def _end_runs(self) -> None:
        for run in tuple(self._runs):
            await run.aclose()

    def _check_open(self) -> None:
        if self._loop is None:
            raise RuntimeError("this D3Client is not open: use `async with D3Client(settings) as d3:`")
        if self._closed:
            raise RuntimeError("this D3Client is closed: `async with` is over; make another")
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError("this D3Client belongs to another event loop: make one in each loop")

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
        timeout: float | None = None,  # noqa: ASYNC109 - a timeout that knows whether the request had left
    ) -> CreatedTask:
        """Create a task in *incident*. *due* has no zone: D3 reads it in one of its own, which its answer names.

        https://docs.d3security.com/api-docs/Working-version/create-task
        """
        command = valid(
            CreateTask,
            incident=incident,
            name=name,
            type=type,
            description=description,
            assignee=assignee,
            due=due,
            required=required,
        )
        answer = await self.execute(command, username=username, site=site, timeout=timeout)
        echo = answer.get("rawData") if isinstance(answer, dict) else None
        due_echo = echo.get("Due Date", "") if isinstance(echo, dict) else ""
        return CreatedTask(incident=command.incident, name=command.name, due=due_echo, answer=answer)

    async def remove_linked_incidents(
        self,
        source: str,
        linked: Iterable[str],
        *,
        username: str | None = None,
        site: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
    ) -> RemovedLinks:
        """Remove the links from *source* to each of *linked*. Refused ones come back, they are not raised.

        Two tasks never ask about one source at the same time: the second waits. More than 50 links take several
        requests; an error then speaks of the request it came from. *timeout* is for each request.
        https://docs.d3security.com/api-docs/Working-version/remove-linked-incidents
        """
        command = valid(RemoveLinkedIncidents, source=source, linked=list(linked))
        params = {RemoveLinkedIncidents.parameter("source"): command.source}
        whole = Call(RemoveLinkedIncidents.__name__, params, username, site or "", 0, command.source)
        total = RemovedLinks([], [], None)
        for start in range(0, len(command.linked), _LINKS_PER_CALL):
            call = whole._replace(items=command.linked[start : start + _LINKS_PER_CALL])
            total = joined(total, await self._remove(call, timeout))
        return total

    async def _remove(self, call: Call, seconds: float | None) -> RemovedLinks:
        done = await self._deliver(call, repeatable=True, seconds=seconds)
        verdict = self._judged(done)
        reply = reply_of(done)
        if any(item.outcome == "unknown" for item in verdict.items):
            raise UnknownOutcomeError(verdict.message, code=verdict.code, status=200, attempts=done.attempts, sent=True)
        return RemovedLinks(
            [item.item for item in verdict.items if item.outcome == "ok"],
            [ItemError(item.item, item.message) for item in verdict.items if item.outcome == "failed"],
            None if reply.remaining is None else list(reply.remaining),
        )

    async def execute(
        self,
        command: Command,
        *,
        username: str | None = None,
        site: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
    ) -> Any:
        """Any command of `d3async.d3.commands` without items; D3's whole answer as JSON."""
        kind = type(command)
        call = Call(kind.__name__, command.params(), username, site or "", 0, "")
        done = await self._deliver(call, repeatable=kind.repeatable, seconds=timeout)
        verdict = self._judged(done)
        reply = reply_of(done)
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
        timeout: float | None = None,  # noqa: ASYNC109 - as above
    ) -> Any:
        """Any D3 command by *name*; the answer as JSON.

        *repeatable* says whether it may be sent again when it may have happened; by default commands that
        only read (`Get…`, `Search…`) may. An answer with an `error` text raises `RefusedError`.
        """
        if repeatable is None:
            known = find(name)
            repeatable = known.repeatable if known else name.lower().startswith(("get", "search"))
        call = Call(name, params, username, site or "", 0, "")
        done = await self._deliver(call, repeatable=repeatable, seconds=timeout)
        if done.response is None or isinstance(done.answer, TransportFailure | Refused) or done.response.status != 200:  # noqa: PLR2004 - D3 knows no other success
            self._judged(done)
            reply_of(done)
        answer = response.returned(done.response) if done.response else None
        if not isinstance(answer, dict):
            self._judged(done)
            reply_of(done)
        self._watch.outcome(OutcomeSeen(name, None, "ok", ""))
        return answer

    def run(
        self,
        jobs: Jobs,
        *,
        journal: Path | str | None = None,
        retry_unknown: bool = False,
        allow_duplicates: bool = False,
        allow_similar: bool = False,
        mark_tasks: bool = False,
        max_links_per_call: int = 50,
        halts: Iterable[str] = (),
        drain: float = 30.0,
    ) -> JobRun:
        """Bring D3 to what *jobs* say, as `d3async run` does: `async for outcome in d3.run(jobs, journal="nightly")`.

        *jobs* are commands, (command, username, site), or what `jobs.row_to_job.RowReader` gives; an iterable or an
        async iterable, read to its end before the first request leaves. *journal* is a run folder: given again with the
        same jobs, only what is known not to have happened is sent; `d3async status`, `results` and `reconcile` work on
        it. Without one, nothing is known after this run. Each job gets one `JobOutcome`; identical CreateTask jobs are
        `invalid` unless *allow_duplicates*; *mark_tasks* adds to each description what reconcile finds it by. *halts*
        are rules like "failed=3%"; *drain* is how long, in seconds, what is in flight may take once the loop is left.

        With a *journal*, jobs that are new and look like jobs done before (same incident and name, due less than a day
        apart; over this journal or from another run folder of this user) raise `LookAlikeError` before anything is
        sent; *allow_similar* says that they are meant. Without one nothing is looked up and nothing is remembered.

        Iterating raises `JournalError` (`FolderHeldError` while another run holds the folder), `SettingsError`, and
        after the last outcome what ended the run early: `UnauthorizedError`, `ThrottledError`, `NotSentError`.
        """
        self._check_open()
        terms = BatchOptions(
            journal=None if journal is None else Path(journal),
            retry_unknown=retry_unknown,
            allow_duplicates=allow_duplicates,
            allow_similar=allow_similar,
            mark_tasks=mark_tasks,
            links_per_call=max_links_per_call,
            halts=tuple(map(parse, halts)),
            drain=drain,
            workers=self._settings.concurrency,
        )
        book = BatchJournal(terms, self._settings, self._parts.auth)
        run = JobRun(jobs, terms, book, carrier=self._carrier, watch=self._watch, numbers=lambda: self.limiter)
        self._runs.add(run)
        return run

    def _judged(self, done: Delivered) -> Verdict:
        if done.answer is None:
            raise RuntimeError("a call without an answer has no verdict")
        verdict = judge(done.call, done.answer)
        items = counted(item.outcome for item in verdict.items)
        self._watch.outcome(OutcomeSeen(done.call.command, None, verdict.outcome, verdict.code, items))
        return verdict

    async def _deliver(self, call: Call, *, repeatable: bool, seconds: float | None) -> Delivered:
        self._check_open()
        stopper, marks = Stopper(), MemoryAttemptLog()
        done: Delivered | None = None
        with anyio.move_on_after(seconds):
            done = await self._carrier.deliver(call, repeatable=repeatable, log=marks, stopper=stopper)
        if done is None:
            raise self._told(call, marks.too_late(seconds))
        if stopper.reason is not None and done.answer is None:
            raise self._told(call, error_for_stop(stopper.reason, attempts=done.attempts))
        if isinstance(done.answer, Unauthorized):
            kind = UnknownOutcomeError if done.call.maybe else UnauthorizedError
            error = kind(done.answer.message, code="unauthorized", status=401, attempts=done.attempts, sent=True)
            raise self._told(call, error)
        return done

    def _told(self, call: Call, error: D3Error) -> D3Error:
        """*error* of a call that got no last answer, once everybody has heard of it."""
        doubtful = isinstance(error, UnknownOutcomeError)
        self._watch.outcome(OutcomeSeen(call.command, None, "unknown" if doubtful else "unsent", error.code))
        return error
