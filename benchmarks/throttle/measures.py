"""Figures from a trace: goodput, refusals, windows, recovery, fairness."""

from bisect import bisect_left
from collections.abc import Callable, Sequence

from benchmarks.throttle.virtual import Trace

STEP = 0.02


def goodput(trace: Trace, limit_at: Callable[[float], float], start: float, end: float) -> float:
    """Return accepted requests over what the limit allowed, between *start* and *end*."""
    accepted = sum(admitted and start <= at < end for at, admitted, _ in trace.arrivals)
    steps = round((end - start) / STEP)
    return accepted / (sum(limit_at(start + (step + 0.5) * STEP) for step in range(steps)) * STEP)


def refused_share(trace: Trace, start: float = 0.0, end: float = float("inf")) -> float:
    """Return refusals over attempts."""
    seen = [admitted for at, admitted, _ in trace.arrivals if start <= at < end]
    return seen.count(False) / len(seen) if seen else 0.0


def refusals(trace: Trace, start: float, end: float) -> int:
    return sum(not admitted and start <= at < end for at, admitted, _ in trace.arrivals)


def most_in_a_second(times: Sequence[float]) -> int:
    ordered = sorted(times)
    first = most = 0
    for last, at in enumerate(ordered):
        while at - ordered[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def settled_after(trace: Trace, at: float, *, window: float = 3.0, share: float = 0.05) -> float:
    """Return the seconds after *at* from which on a whole *window* sees at most *share* refusals."""
    return _first(lambda t: refused_share(trace, t, t + window) <= share, at)


def back_after(trace: Trace, at: float, limit: float, *, window: float = 2.0) -> float:
    """Return the seconds after *at* from which on a whole *window* has 90 % of *limit* accepted."""
    times = sorted(t for t, admitted, _ in trace.arrivals if admitted)
    return _first(lambda t: bisect_left(times, t + window) - bisect_left(times, t) >= 0.9 * limit * window, at)


def jain(trace: Trace, clients: int, start: float, end: float) -> float:
    counts = [0] * clients
    for at, admitted, client in trace.arrivals:
        counts[client] += admitted and start <= at < end
    return sum(counts) ** 2 / (clients * sum(count**2 for count in counts))


def _first(holds: Callable[[float], bool], at: float, patience: float = 60.0) -> float:
    after = 0.0
    while after < patience and not holds(at + after):
        after += STEP
    return after
