"""Numbers, times and durations in the words a reader expects."""

from __future__ import annotations

import json
from functools import lru_cache
from time import gmtime, strftime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def instants() -> Callable[[float | None], str]:
    """A function from seconds since 1970 to `2026-12-01T17:00:00.123Z`, and from None to nothing.

    It remembers the seconds it met: rows come in nearly the order of time.
    """
    thousandth = [f".{number:03d}Z" for number in range(1000)]

    @lru_cache(maxsize=1024)
    def second(at: int) -> str:
        return strftime("%Y-%m-%dT%H:%M:%S", gmtime(at))

    def instant(at: float | None) -> str:
        if at is None:
            return ""
        whole, thousandths = divmod(int(at * 1000 + 0.5), 1000)
        return second(whole) + thousandth[thousandths]

    return instant


def instant(at: float | str | None) -> str | None:
    """*at* as files tell times; a text is one already."""
    return at if isinstance(at, str) else instants()(at) or None


_MINUTE = 60
_LEAST = 0.1
_LONGEST = 2000


def number(value: float) -> str:
    """With separators for thousands: `3,114`; at most one decimal."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}".removesuffix(".0")


def share(count: int, total: int) -> str:
    """As per cent; never 0 % of something or 100 % of not everything."""
    if not total or count in {0, total}:
        return "100 %" if count else "0 %"
    percent = 100 * count / total
    if percent < _LEAST:
        return "< 0.1 %"
    return "> 99.9 %" if percent > 100 - _LEAST else f"{percent:.1f} %"


def moment(at: float | str | None) -> str:
    """`2026-12-01 17:00:05`, UTC."""
    text = instant(at) or ""
    return f"{text[:10]} {text[11:19]}".strip()


def clock(at: float) -> str:
    """`17:00:05`, UTC."""
    return (instant(at) or "")[11:19]


def lasting(seconds: float) -> str:
    """`0.2 s`, `1 min 5 s`, `3 h 20 min`."""
    if seconds < _MINUTE:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), _MINUTE)
    hours, minutes = divmod(minutes, _MINUTE)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def fact(value: Any, key: str) -> str:
    """A fact of a run, by its *key* among the facts."""
    if key.endswith("_at"):
        return moment(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return short(value)
    if key.endswith("_s"):
        return lasting(value)
    return f"{number(value)} requests/s" if key == "rate" else number(value)


def short(value: Any) -> str:
    """*value* as text that does not fill a page."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def duration(seconds: float) -> str:
    """`65 s`, `12 min`, `3 h 20 min`."""
    whole = max(1, round(seconds))
    if whole < 120:  # noqa: PLR2004 - two minutes read better in seconds
        return f"{whole} s"
    minutes = round(whole / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"  # noqa: PLR2004 - as above
