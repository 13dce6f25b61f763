"""Times as files tell them: UTC, ISO 8601, milliseconds."""

from __future__ import annotations

from functools import lru_cache
from time import gmtime, strftime
from typing import TYPE_CHECKING

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
