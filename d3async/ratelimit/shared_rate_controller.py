"""The rate controller of one process among several that share a limit: what one learns, all know."""

from dataclasses import dataclass
from typing import Literal

from d3async.ratelimit.rate_controller import RateController, RateRecovery, RecentEvents

JITTER = 0.010
"""As `rate.JITTER`; slots lie a whole pace apart, without the burst that a pacer of one process may catch up with."""

LONGEST_PAUSE = 300.0
"""Seconds that one process can make the others wait; after a longer pause each learns it from the server itself."""

Mode = Literal["open", "starting", "probing", "reopening", "regaining"]


@dataclass(frozen=True, slots=True)
class LearnedRate:
    """What is known of a limit by all who share it. Rates are requests a second.

    *epoch* counts the events: a cut, a block, its end. Within one the *rate* only rises, so of two the higher is
    newer. *plateau* is the rate that was refused, *before* the one to come back to after a block, *scale* how quickly.
    """

    epoch: int = 0
    rate: float = 0.0
    mode: Mode = "open"
    plateau: float | None = None
    before: float = 0.0
    scale: float = 0.0
    events: int = 0


class _Everywhere(RecentEvents):
    """Good answers of the last second, here and at the other processes."""

    def __init__(self) -> None:
        super().__init__()
        self.elsewhere = 0

    def count(self, now: float) -> int:
        return super().count(now) + self.elsewhere


class SharedRateController(RateController):
    """A `RateController` that can say what it learnt and take over what another did.

    *epoch* is the last event it knows of. While *news* is True it has had an event that the others do not know yet,
    while *raised* it has closed the gate for longer than they know.
    """

    def __init__(self, limit: float | None) -> None:
        super().__init__(limit)
        self.epoch = 0
        self.news = self.raised = False
        self._accepted = self._everywhere = _Everywhere()
        self.allow(jitter=JITTER)

    def throttled(self, sent_at: float, now: float, retry_after: float | None, jitter: float) -> None:
        """See `RateController.throttled`."""
        self.news = self.news or sent_at > self._event_at
        self.raised = True
        super().throttled(sent_at, now, retry_after, jitter)

    def accepted(self, sent_at: float, now: float) -> None:
        """See `RateController.accepted`."""
        probing = self.probing
        super().accepted(sent_at, now)
        self.news = self.news or (probing and not self.probing)

    def closed_for(self, now: float) -> float:
        """Seconds for which everybody has to pause; a probe on its way is this process's own."""
        return min(max(self._gate - now, 0.0), LONGEST_PAUSE)

    def accepted_lately(self, now: float) -> int:
        """Return this process's good answers of the last second."""
        return RecentEvents.count(self._everywhere, now)

    def others_accepted(self, answers: int) -> None:
        """Note the good answers of the last second at the other processes."""
        self._everywhere.elsewhere = answers

    def lesson(self) -> LearnedRate:
        """What this process knows, as the event after the last that all know."""
        return LearnedRate(
            self.epoch + 1, self.rate, self._mode(), self.learnt, self._before, self._scale, self._events
        )  # fmt: skip

    def learn(self, lesson: LearnedRate, gate: float, now: float) -> None:
        """Take over what is known to all: no request leaves before *gate*, and a new event here is the others' too."""
        if gate > max(self._gate, now):
            self._gate = min(gate, now + LONGEST_PAUSE)
            self._close()
        if lesson.epoch > self.epoch:
            self._adopt(lesson, now)
        elif lesson.epoch < self.epoch:
            # the store lost its last moments: what is known here is published again
            self.epoch, self.news = lesson.epoch, True
        elif not self.news and lesson.rate > self.rate:
            self._raise_to(lesson.rate)
            self._settle()

    def told(self) -> None:
        """Note that everything known here is being published."""
        self.news = self.raised = False

    def untold(self, lesson: LearnedRate | None) -> None:
        """Note that it was not published."""
        self.news = self.news or lesson is not None
        self.raised = True

    def hold(self, until: float) -> None:
        """Close the gate until *until*, here and elsewhere."""
        self._gate = max(self._gate, until)
        self.raised = True
        self._close()

    def _mode(self) -> Mode:
        if self.probing:
            return "probing"
        if self._starting or self._reopening:
            return "starting" if self._starting else "reopening"
        return "regaining" if self._regain else "open"

    def _adopt(self, lesson: LearnedRate, now: float) -> None:
        self.epoch, self.news = lesson.epoch, False
        self._event_at, self._events = now, lesson.events
        self._before, self._scale, self.learnt = lesson.before, lesson.scale, lesson.plateau
        self.probing, self._reopening = lesson.mode == "probing", lesson.mode == "reopening"
        self._starting, self._alone_for = lesson.mode == "starting", 0
        self.rate = min(max(lesson.rate, self._lowest), self.top)
        self._regain = None
        if lesson.mode == "regaining":
            self._regain = RateRecovery(lesson.plateau or self.rate, self.rate, now, self._scale)
        self._settle()

    def _settle(self) -> None:
        if self.rate == self.top:
            self._regain = self.learnt = None
