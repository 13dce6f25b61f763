"""One or several D3s of a run at one moment, for whoever shows them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from d3async.limiter import LimiterNumbers

_NAMED = 2


class Sight(NamedTuple):
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


def why_not_faster(at: Sequence[Sight]) -> str:
    """`lost` of each server that has something to say, by its name where there are several."""
    said = [f"{server.name}: {why}" if server.name else why for server in at if (why := lost(server.numbers))]
    more = [f"and {len(said) - _NAMED} more"] if len(said) > _NAMED else []
    return "; ".join(said[:_NAMED] + more)


def lost(numbers: LimiterNumbers) -> str:
    """Why it is not faster, in a few words; empty when nothing holds it up."""
    if numbers.outages:
        return f"D3 does not answer, trying again in {max(0.0, numbers.opens_in):.0f} s"
    if numbers.opens_in >= 1:
        return f"D3 says wait: {numbers.opens_in:.0f} s"
    return f"429s {numbers.throttled:,}" if numbers.throttled else ""


def left_at(server: Sight) -> float:
    """Seconds until *server* is done, by its limit alone."""
    numbers = server.numbers
    return (server.rows - server.done) / numbers.rate + numbers.opens_in if numbers.rate > 0 else 0.0


def limits(numbers: LimiterNumbers) -> dict[str, object]:
    """What programs are told of a limiter."""
    return {
        "rate": round(numbers.rate, 2),
        "learnt": numbers.learnt,
        "throttled": numbers.throttled,
        "paused_s": round(numbers.paused_s, 3),
        "in_flight": numbers.in_flight,
    }


def seen(server: Sight) -> dict[str, object]:
    """What programs are told of one server of several."""
    return {"name": server.name, "done": server.done, "rows": server.rows, **limits(server.numbers)}
