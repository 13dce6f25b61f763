"""Whether a call is sent again, from what is known about the attempt, and how long a server asks to wait."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from d3async.d3.response import AmbiguousAnswer, Throttled, TransportFailure
from d3async.policy.halt_and_exit_codes import Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from d3async.d3.response import Answer

_FIRST_DELAY = 0.5
_LONGEST_DELAY = 20.0
_FULL = 100.0


@dataclass(frozen=True, slots=True)
class Policy:
    """*max_attempts* counts the first try; *max_wait* is the longest pause, in seconds, a server may ask for."""

    max_attempts: int = 4
    max_wait: float = 300.0


@dataclass(frozen=True, slots=True)
class Final:
    """The last word: no further attempt."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Send it again after *delay* seconds, through the limiter.

    *happened* is False when this attempt provably changed nothing at D3; *counts* is False when it is not charged
    to the request's attempts.
    """

    delay: float
    happened: bool
    counts: bool


Decision = Final | Retry | Stop
FINAL = Final()


def decide(
    answer: Answer, *, repeatable: bool, attempt: int, policy: Policy, dice: float, budget: bool = True
) -> Decision:
    """What to do after *attempt* (from 1) ended in *answer*. *dice* is a random number in [0, 1).

    *budget* is False when the retry budget is spent. The table is in the README ("What is sent again"):

    - never left us: again; a 429: again, through the shared gate; neither is charged.
    - any other refusal, and any proper answer: settled; what a 401 means, `policy.refused_access` finds out.
    - doubt (5xx, time-out after sending, cut or unreadable answer): again if doing it twice is the same as once.
    """
    if isinstance(answer, TransportFailure) and not answer.sent:
        return Retry(0.0, happened=False, counts=False)
    if isinstance(answer, Throttled):
        if answer.retry_after is not None and answer.retry_after > policy.max_wait:
            message = f"D3 asks for a pause of {answer.retry_after:.0f} s; --max-wait allows {policy.max_wait:.0f} s"
            return Stop("throttled", message, answer.retry_after)
        return Retry(0.0, happened=False, counts=False)
    if (
        isinstance(answer, (AmbiguousAnswer, TransportFailure))
        and repeatable
        and attempt < policy.max_attempts
        and budget
    ):
        return Retry(backoff(attempt, dice), happened=True, counts=True)
    return FINAL


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


# RFC 9110 §10.2.3 knows whole seconds and HTTP dates; decimals and signs are seen in the wild.
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?|[+-]?\.[0-9]+")
# A comma inside "Wed, 21 Oct" or "Sunday, 06-Nov" belongs to the date; any other one separates list members.
_LIST_COMMA = re.compile(r",(?!\s*[0-9]{1,2}[ -][A-Za-z]{3})")
_PARAMETER = re.compile(r"(?:^|[;,])\s*(r|t|remaining|reset)\s*=\s*([0-9]+(?:\.[0-9]+)?)\s*(?=$|[;,])", re.IGNORECASE)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')

_EPOCH_SECONDS_FROM = 1e9
_EPOCH_MILLISECONDS_FROM = 1e11


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Read the wait a response states, in seconds (>= 0), or None where it states none that can be read.

    *headers* have lower-case names; *now* is unix time in seconds and used only where the response has no `Date`
    of its own. `Retry-After` (RFC 9110 §10.2.3) wins over `retry-after-ms` and `x-ms-retry-after-ms`, then comes
    `RateLimit` (draft-ietf-httpapi-ratelimit-headers), then `RateLimit-Reset` and `X-RateLimit-Reset`.
    Of a list the longest member counts. An absurdly long wait is returned as it is: the caller knows its maximum.
    """
    server_now = _unix_time(headers.get("date", ""))
    base = now if server_now is None else server_now
    readings: tuple[tuple[str, Callable[[str], float | None]], ...] = (
        ("retry-after", lambda text: _longest(text, lambda member: _seconds_or_date(member, base))),
        ("retry-after-ms", lambda text: _longest(text, _milliseconds)),
        ("x-ms-retry-after-ms", lambda text: _longest(text, _milliseconds)),
        ("ratelimit", _ratelimit),
        ("ratelimit-reset", lambda text: _longest(text, lambda member: _reset(member, base))),
        ("x-ratelimit-reset", lambda text: _longest(text, lambda member: _reset(member, base))),
    )
    for name, read in readings:
        wait = read(headers.get(name, ""))
        if wait is not None:
            return max(wait, 0.0)
    return None


def _longest(text: str, read: Callable[[str], float | None]) -> float | None:
    waits = [wait for member in _LIST_COMMA.split(text) if (wait := read(member.strip())) is not None]
    return max(waits, default=None)


def _number(text: str) -> float | None:
    if _NUMBER.fullmatch(text) is None:
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def _milliseconds(text: str) -> float | None:
    value = _number(text)
    return None if value is None else value / 1000


def _seconds_or_date(text: str, base: float) -> float | None:
    seconds = _number(text)
    if seconds is not None:
        return seconds
    at = _unix_time(text)
    return None if at is None else at - base


def _reset(text: str, base: float) -> float | None:
    value = _number(text)
    if value is None or value <= _EPOCH_SECONDS_FROM:
        return _seconds_or_date(text, base)
    return (value / 1000 if value > _EPOCH_MILLISECONDS_FROM else value) - base


def _unix_time(text: str) -> float | None:
    try:
        at = parsedate_to_datetime(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _ratelimit(text: str) -> float | None:
    """Read `"minute";r=0;t=12` and the older `limit=10, remaining=0, reset=12`: the longest policy that is used up."""
    policies = list(_policies(_QUOTED.sub("", text)))
    used_up = [wait for remaining, wait in policies if not remaining]
    # No policy admits to the refusal: the first to be renewed is the best guess, the longest may be a day's quota.
    return max(used_up) if used_up else min((wait for _, wait in policies), default=None)


def _policies(text: str) -> Iterator[tuple[float | None, float]]:
    old_form = re.search(r"\breset\s*=", text, re.IGNORECASE) is not None
    for member in [text] if old_form else text.split(","):
        found = {name.lower()[:3]: float(value) for name, value in _PARAMETER.findall(member)}
        wait = found.get("res", found.get("t"))
        if wait is not None and math.isfinite(wait):
            yield found.get("rem", found.get("r")), wait
