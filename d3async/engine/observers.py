"""Observers of calls and runs: hooks, log, numbers, limiter events. Never the text of a row, never a secret."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from d3async.d3.response import Reply, Throttled, Unauthorized
from d3async.journal.model import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from d3async.d3.call import Call
    from d3async.d3.response import Answer
    from d3async.engine.delivery import Attempt, Delivered, Delivery, Stopper
    from d3async.journal.protocols import AttemptLog
    from d3async.ratelimit.limiter import LimiterNumbers

log = logging.getLogger("d3async")


@dataclass(frozen=True, slots=True)
class CallSeen:
    """One call, which may take several attempts. *row* is its first row, None outside a run; *items* counts links."""

    command: str
    row: int | None
    items: int


@dataclass(frozen=True, slots=True)
class AttemptSeen:
    """One request that left us. *attempt* counts from 1, *elapsed* is in seconds, *at* in seconds since 1970.

    *status* is the HTTP status, None when no answer began; *code* is "" for an answer that was understood, else the
    `_code` a row would get; *retry_after* the seconds a 429 asked for. *limiter* tells the limiter's state.
    """

    command: str
    row: int | None
    items: int
    attempt: int
    status: int | None
    code: str
    elapsed: float
    at: float
    retry_after: float | None
    limiter: LimiterNumbers


@dataclass(frozen=True, slots=True)
class OutcomeSeen:
    """What became of one row, or of one call outside a run; *items* counts links: (ok, failed, unknown)."""

    command: str
    row: int | None
    outcome: str
    code: str
    items: tuple[int, int, int] = (0, 0, 0)


class Observer:
    """Override what you want to hear of. Everything is called on the event loop: be quick, do not block.

    An observer that raises is logged and changes nothing.
    """

    def call(self, seen: CallSeen) -> AbstractContextManager[object]:  # noqa: ARG002 - for those who override it
        """A context around the whole of one call: the waiting, every attempt, the last answer."""
        return nullcontext()

    def attempt(self, seen: AttemptSeen) -> None:
        """One request has left, and its answer, if any, is here. Called inside the context of its call."""

    def answered(self, seen: CallSeen, *, status: int | None, code: str, attempts: int) -> None:
        """A call has had its last answer; *code* is "" for one that was understood. Inside the call's context."""

    def outcome(self, seen: OutcomeSeen) -> None:
        """A row has its outcome, or a call outside a run."""


class CallbackObserver(Observer):
    """Plain functions as an observer."""

    def __init__(
        self,
        on_attempt: Callable[[AttemptSeen], None] | None = None,
        on_outcome: Callable[[OutcomeSeen], None] | None = None,
    ) -> None:
        self._on_attempt = on_attempt
        self._on_outcome = on_outcome

    def attempt(self, seen: AttemptSeen) -> None:
        """See `Observer.attempt`."""
        if self._on_attempt:
            self._on_attempt(seen)

    def outcome(self, seen: OutcomeSeen) -> None:
        """See `Observer.outcome`."""
        if self._on_outcome:
            self._on_outcome(seen)


class ObserverHub:
    """Tells *observers*, and the logger `d3async`: attempts at DEBUG, outcomes at INFO, with structured `extra`."""

    def __init__(self, observers: Sequence[Observer], numbers: Callable[[], LimiterNumbers]) -> None:
        self.noting: list[Callable[[Attempt], None]] = []
        """Journals of runs that are going on."""
        self._observers = tuple(observers)
        self._numbers = numbers

    def attempt(self, attempt: Attempt) -> None:
        """For `Delivery.on_attempt`."""
        for note in self.noting:
            note(attempt)
        logged = log.isEnabledFor(logging.DEBUG)
        if not self._observers and not logged:
            return
        seen = attempt_seen(attempt, self._numbers())
        if logged:
            _log(
                logging.DEBUG,
                log_line(attempt),
                seen,
                "command",
                "row",
                "items",
                "attempt",
                "status",
                "code",
                "elapsed",
            )
        for observer in self._observers:
            with _guarded(observer):
                observer.attempt(seen)

    def outcome(self, seen: OutcomeSeen) -> None:
        """Tell everybody."""
        if log.isEnabledFor(logging.INFO):
            text = f"{_name(seen.command, seen.row)}: {seen.outcome}{f' ({seen.code})' if seen.code else ''}"
            _log(logging.INFO, text, seen, "command", "row", "outcome", "code")
        for observer in self._observers:
            with _guarded(observer):
                observer.outcome(seen)

    def carrier(self, delivery: Delivery) -> Delivery | ObservedSender:
        """*delivery* with every call seen, or itself where there is no observer."""
        return ObservedSender(delivery, self._observers) if self._observers else delivery


class ObservedSender:
    """A carrier that reports each call."""

    def __init__(self, delivery: Delivery, observers: Sequence[Observer]) -> None:
        self._delivery = delivery
        self._observers = observers

    async def deliver(self, call: Call, *, repeatable: bool, log: AttemptLog, stopper: Stopper) -> Delivered:
        """See `Delivery.deliver`."""
        seen = CallSeen(call.command, call.row, len(call.items))
        with ExitStack() as around:
            for observer in self._observers:
                with _guarded(observer):
                    around.enter_context(_forgiving(observer, seen))
            done = await self._delivery.deliver(call, repeatable=repeatable, log=log, stopper=stopper)
            status, code = status_and_code(done.answer)
            for observer in self._observers:
                with _guarded(observer):
                    observer.answered(seen, status=status, code=code, attempts=done.attempts)
        return done


def counted(outcomes: Iterable[str]) -> tuple[int, int, int]:
    """How many of *outcomes* are ok, failed and unknown."""
    found = Counter(outcomes)
    return found["ok"], found["failed"], found["unknown"]


def attempt_seen(attempt: Attempt, numbers: LimiterNumbers) -> AttemptSeen:
    """What may be reported of *attempt*: everything but its text."""
    call, answer = attempt.call, attempt.answer
    status, code = status_and_code(answer)
    wait = answer.retry_after if isinstance(answer, Throttled) else None
    items = len(call.items)
    return AttemptSeen(
        call.command, call.row, items, attempt.number, status, code, attempt.elapsed, attempt.at, wait, numbers
    )


def log_line(attempt: Attempt) -> str:
    """`row 12 CreateTask, attempt 2: 503 (http_503) after 0.113 s`: nothing of what the server wrote."""
    call, answer = attempt.call, attempt.answer
    status, code = status_and_code(answer)
    links = f" of {len(call.items)} links" if call.items else ""
    came = f"{status or 'no answer'}{f' ({code})' if code else ''}"
    pause = ""
    if isinstance(answer, Throttled) and answer.retry_after is not None:
        pause = f", asked to wait {answer.retry_after:g} s"
    name = _name(call.command, call.row)
    return f"{name}{links}, attempt {attempt.number}: {came} after {attempt.elapsed:.3f} s{pause}"


def status_and_code(answer: Answer | None) -> tuple[int | None, str]:
    """HTTP status and code of *answer*; "" for one that was understood."""
    match answer:
        case None:
            return None, "not_sent"
        case Reply():
            return 200, "" if answer.status == "ok" else answer.status
        case Throttled():
            return 429, "throttled"
        case Unauthorized():
            return 401, "unauthorized"
        case _:
            return answer.status, answer.code


def _name(command: str, row: int | None) -> str:
    return f"row {row} {command}" if row else command


def _log(level: int, text: str, seen: AttemptSeen | OutcomeSeen, *names: str) -> None:
    extra: dict[str, Any] = {name: getattr(seen, name) for name in names}
    log.log(level, "%s", text, extra=extra)


@contextmanager
def _guarded(observer: Observer) -> Iterator[None]:
    try:
        yield
    except Exception:
        log.exception("%s failed; the run goes on without it", type(observer).__name__)


@contextmanager
def _forgiving(observer: Observer, seen: CallSeen) -> Iterator[None]:
    """The observer's context; what fails in opening or closing it is logged, what fails inside is not its business."""
    opened = ExitStack()
    with _guarded(observer):
        opened.enter_context(observer.call(seen))
    try:
        yield
    except BaseException as error:
        with _guarded(observer):
            opened.__exit__(type(error), error, error.__traceback__)
        raise
    with _guarded(observer):
        opened.close()


TICK = 0.25
"""Seconds between two looks at the limiter; also the shortest pause that is noted."""


class EventLog(Protocol):
    """What is needed of a journal."""

    def note(self, event: Event) -> None:
        """Record *event*."""
        ...


class EventRecorder:
    """Notes each 429 when it comes, and pauses, outages and rates when `look` finds them.

    *numbers* are those of a limiter that was there before the run; *wall* tells seconds since 1970.
    """

    def __init__(
        self, journal: EventLog, numbers: LimiterNumbers | None = None, wall: Callable[[], float] = time.time
    ) -> None:
        self._journal = journal
        self._wall = wall
        self._paused = numbers.paused_s if numbers else 0.0
        self._learnt = numbers.learnt if numbers else None
        self._outages = numbers.outages if numbers else 0

    def attempt(self, attempt: Attempt) -> None:
        """A request has left and was answered, or was not."""
        if isinstance(attempt.answer, Throttled):
            self._journal.note(Event(attempt.at, "throttled", attempt.answer.retry_after, attempt.answer.message))

    def look(self, numbers: LimiterNumbers) -> None:
        """Compare the limiter's *numbers* with those of the last look."""
        if numbers.paused_s - self._paused >= TICK:
            self._journal.note(Event(self._wall(), "pause", numbers.paused_s - self._paused))
            self._paused = numbers.paused_s
        if numbers.learnt is not None and numbers.learnt != self._learnt:
            self._journal.note(Event(self._wall(), "rate", numbers.learnt))
        self._learnt = numbers.learnt
        if numbers.outages > self._outages:
            self._journal.note(Event(self._wall(), "outage", numbers.opens_in))
        self._outages = numbers.outages


async def call_every(seconds: float, tick: Callable[[], None]) -> None:
    """Call *tick* at once and then every so many *seconds*, until cancelled."""
    while True:
        tick()
        await asyncio.sleep(seconds)


_NAMED = 2


class ServerProgress(NamedTuple):
    """One D3 that is worked on, at one moment: rows done of those it is to be sent. *name* is "" for the only one."""

    name: str
    rows: int
    done: int
    numbers: LimiterNumbers


def together(numbers: Sequence[LimiterNumbers]) -> LimiterNumbers | None:
    """The numbers of several limiters as one: what they did and may do in all, the longest pause. None of none."""
    if len(numbers) <= 1:
        return numbers[0] if numbers else None
    ceilings = [one.ceiling for one in numbers if one.ceiling is not None]
    return replace(
        numbers[0],
        rate=sum(one.rate for one in numbers),
        ceiling=sum(ceilings) if len(ceilings) == len(numbers) else None,
        granted=sum(one.granted for one in numbers),
        throttled=sum(one.throttled for one in numbers),
        paused_s=max(one.paused_s for one in numbers),
        in_flight=sum(one.in_flight for one in numbers),
        in_flight_cap=sum(one.in_flight_cap for one in numbers),
        waiting=sum(one.waiting for one in numbers),
        opens_in=min(one.opens_in for one in numbers),
        outages=max(one.outages for one in numbers),
        learnt=None,
    )
