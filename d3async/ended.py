"""Why a call or a run ended early: as the error an app catches, and as the stop of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from d3async.errors import (
    D3Error,
    FencedError,
    FolderGoneError,
    JournalError,
    NotSentError,
    ThrottledError,
    UnauthorizedError,
)
from d3async.sansio.next_step import GONE
from d3async.sansio.retry import Stop

if TYPE_CHECKING:
    from typing import Final

GRACE: Final = 0.4
"""Seconds for which answers are waited for once the run folder is gone."""
_KINDS: dict[str, tuple[type[D3Error], int | None, bool]] = {
    "unauthorized": (UnauthorizedError, 401, True),
    "throttled": (ThrottledError, 429, True),
    "journal": (JournalError, None, False),
    GONE: (FolderGoneError, None, False),
    "fenced": (FencedError, None, False),
}


def stop_of(error: JournalError) -> Stop:
    """The stop of a run whose journal raised *error*."""
    return Stop(GONE if isinstance(error, FolderGoneError) else "journal", error.message)


def error_of(stop: Stop, *, attempts: int = 0) -> D3Error:
    """The error *stop* stands for; *attempts* counts requests that left."""
    kind, status, sent = _KINDS.get(stop.code, (NotSentError, None, False))
    return kind(stop.message, code=stop.code, status=status, retry_after=stop.retry_after, attempts=attempts, sent=sent)
