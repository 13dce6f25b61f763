"""What is known about an attempt decides whether it is sent again; nothing else does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from d3async.sansio.protocol import Broken, Doubtful, Throttled, Unauthorized

if TYPE_CHECKING:
    from d3async.sansio.protocol import Answer

_FIRST_DELAY = 0.5
_LONGEST_DELAY = 20.0
_FULL = 100.0


@dataclass(frozen=True, slots=True)
class Policy:
    """*max_attempts* counts the first try; *max_wait* is the longest pause, in seconds, a server may ask for."""

    max_attempts: int = 4
    max_wait: float = 300.0


@dataclass(frozen=True, slots=True)
class Settled:
    """The last word: no further attempt."""


@dataclass(frozen=True, slots=True)
class Again:
    """Send it again after *delay* seconds, through the limiter.

    *happened* is False when this attempt provably changed nothing at D3; *counts* is False when it is not charged
    to the request's attempts.
    """

    delay: float
    happened: bool
    counts: bool


@dataclass(frozen=True, slots=True)
class Stop:
    """Start no new work: every further request would meet the same. The call itself did not happen."""

    code: str
    message: str
    retry_after: float | None = None


Decision = Settled | Again | Stop
SETTLED = Settled()


def decide(
    answer: Answer, *, repeatable: bool, attempt: int, policy: Policy, dice: float, budget: bool = True
) -> Decision:
    """What to do after *attempt* (from 1) ended in *answer*. *dice* is a random number in [0, 1).

    *budget* is False when the retry budget is spent. The table stands in the README ("What is sent again"):

    - never left us: again; a 429: again, through the shared gate; neither is charged.
    - 401: stop. Any other refusal, and any proper answer: settled.
    - doubt (5xx, time-out after sending, cut or unreadable answer): again if doing it twice is the same as once.
    """
    if isinstance(answer, Broken) and not answer.sent:
        return Again(0.0, happened=False, counts=False)
    if isinstance(answer, Throttled):
        if answer.retry_after is not None and answer.retry_after > policy.max_wait:
            message = f"D3 asks for a pause of {answer.retry_after:.0f} s; --max-wait allows {policy.max_wait:.0f} s"
            return Stop("throttled", message, answer.retry_after)
        return Again(0.0, happened=False, counts=False)
    if isinstance(answer, Unauthorized):
        return Stop("unauthorized", answer.message)
    if isinstance(answer, (Doubtful, Broken)) and repeatable and attempt < policy.max_attempts and budget:
        return Again(backoff(attempt, dice), happened=True, counts=True)
    return SETTLED


def backoff(attempt: int, dice: float) -> float:
    """Full jitter: anywhere from 0 to 0.5 s doubled with each attempt, at most 20 s."""
    return float(dice * min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** (attempt - 1)))


@dataclass(frozen=True, slots=True)
class Budget:
    """Retries that failures may cost (gRPC A6): a retry takes 1, a success gives back a tenth, at most 100."""

    tokens: float = _FULL

    @property
    def left(self) -> bool:
        """Whether one more retry may be afforded."""
        return self.tokens >= 1

    def spent(self) -> Budget:
        """After a retry."""
        return Budget(max(0.0, self.tokens - 1))

    def earned(self) -> Budget:
        """After a success."""
        return self if self.tokens >= _FULL else Budget(min(_FULL, self.tokens + 0.1))
