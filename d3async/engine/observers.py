"""What a run looks like from outside: hooks, a log, numbers. Never the text of a row, never a secret."""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from d3async.sansio.protocol import Reply, Throttled, Unauthorized

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from d3async.delivery import Attempt, Delivered, Delivery, Stopper
    from d3async.journal.base import Log
    from d3async.limiter import LimiterNumbers
    from d3async.sansio.call import Call
    from d3async.sansio.protocol import Answer

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


class Calling(Observer):
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


class Watch:
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
            _log(logging.DEBUG, said(attempt), seen, "command", "row", "items", "attempt", "status", "code", "elapsed")
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

    def carrier(self, delivery: Delivery) -> Delivery | Watched:
        """*delivery* with every call seen, or itself where nobody looks."""
        return Watched(delivery, self._observers) if self._observers else delivery


class Watched:
    """A carrier that tells of each call."""

    def __init__(self, delivery: Delivery, observers: Sequence[Observer]) -> None:
        self._delivery = delivery
        self._observers = observers

    async def deliver(self, call: Call, *, repeatable: bool, log: Log, stopper: Stopper) -> Delivered:
        """See `Delivery.deliver`."""
        seen = CallSeen(call.command, call.row, len(call.items))
        with ExitStack() as around:
            for observer in self._observers:
                with _guarded(observer):
                    around.enter_context(_forgiving(observer, seen))
            done = await self._delivery.deliver(call, repeatable=repeatable, log=log, stopper=stopper)
            status, code = meaning(done.answer)
            for observer in self._observers:
                with _guarded(observer):
                    observer.answered(seen, status=status, code=code, attempts=done.attempts)
        return done


def counted(outcomes: Iterable[str]) -> tuple[int, int, int]:
    """How many of *outcomes* are ok, failed and unknown."""
    found = Counter(outcomes)
    return found["ok"], found["failed"], found["unknown"]


def attempt_seen(attempt: Attempt, numbers: LimiterNumbers) -> AttemptSeen:
    """What may be told of *attempt*: everything but what it says."""
    call, answer = attempt.call, attempt.answer
    status, code = meaning(answer)
    wait = answer.retry_after if isinstance(answer, Throttled) else None
    items = len(call.items)
    return AttemptSeen(
        call.command, call.row, items, attempt.number, status, code, attempt.elapsed, attempt.at, wait, numbers
    )


def said(attempt: Attempt) -> str:
    """`row 12 CreateTask, attempt 2: 503 (http_503) after 0.113 s`: nothing of what the server wrote."""
    call, answer = attempt.call, attempt.answer
    status, code = meaning(answer)
    links = f" of {len(call.items)} links" if call.items else ""
    came = f"{status or 'no answer'}{f' ({code})' if code else ''}"
    pause = ""
    if isinstance(answer, Throttled) and answer.retry_after is not None:
        pause = f", asked to wait {answer.retry_after:g} s"
    name = _name(call.command, call.row)
    return f"{name}{links}, attempt {attempt.number}: {came} after {attempt.elapsed:.3f} s{pause}"


def meaning(answer: Answer | None) -> tuple[int | None, str]:
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
