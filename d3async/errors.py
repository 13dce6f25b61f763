"""Every error d3async raises, in one tree; each carries what is known as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class D3Error(Exception):
    """The root: catch this to catch everything d3async raises on purpose.

    *status* is the last HTTP status (None when no answer came), *retry_after* seconds the server asked to wait,
    *attempts* the number of requests that really left, *sent* whether D3 may have seen the request,
    *code* a stable machine word (the `_code` of a results file).
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "error",
        status: int | None = None,
        retry_after: float | None = None,
        attempts: int = 0,
        sent: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status
        self.retry_after = retry_after
        self.attempts = attempts
        self.sent = sent


class NotSentError(D3Error):
    """The request provably never left: DNS, refused, TLS, connect time-out. It did not happen."""


class RefusedError(D3Error):
    """D3 said no: a 4xx, a 200 with `error`, or "Failed". It did not happen."""


class UnauthorizedError(RefusedError):
    """401: the key is wrong, or its user may not do this (D3's pages do not tell the two apart)."""


class ThrottledError(D3Error):
    """D3 asks for a longer pause than the caller allows; *retry_after* says how long. It did not happen."""


class UnknownOutcomeError(D3Error):
    """It left us and no trustworthy answer came: it may have happened. Never sent again by itself."""


class SettingsError(D3Error):
    """A setting is missing or cannot be used; the message names the variable and the option that set it."""


@dataclass(frozen=True, slots=True)
class SimilarPair:
    """A row that is new, and a row sent before, or about to be, that it looks like.

    *line* is the row's line in the job file, or the number of the job an app gave. *new* and *sent* are the fields by
    name; *sent* is None where the run folder it was sent from is not there, and then *sent_due* is all that is known.
    *outcome* is `ok`, `partial`, `unknown`, or `unsent` where another run is about to send the row. *sent_at* is in
    seconds since 1970, *folder* where the journal of the other row is.
    """

    line: int
    new: Mapping[str, str]
    sent: Mapping[str, str] | None
    outcome: str
    sent_at: float | None = None
    sent_due: str = ""
    folder: str = ""

    @property
    def differs(self) -> tuple[str, ...]:
        """Names of the fields that are not the same in both rows."""
        sent = self.sent
        if sent is None:
            return ()
        return tuple(name for name in {**self.new, **sent} if self.new.get(name) != sent.get(name))


class LookAlikeError(D3Error):
    """New rows look like rows that were sent before; nothing was sent. The user has to say whether they are meant.

    *count* is how many, *pairs* the first hundred of them.
    """

    def __init__(self, message: str, *, pairs: Sequence[SimilarPair], count: int) -> None:
        super().__init__(message, code="similar")
        self.pairs = tuple(pairs)
        self.count = count


class JobFileError(D3Error):
    """The job file cannot be read as a whole (missing, binary, no header …); rows have their own problems."""


class JournalError(D3Error):
    """The run folder cannot be read or written."""


class FolderHeldError(JournalError):
    """Another process holds the run folder; the message says who, where and since when."""


GONE: Final = "journal_gone"
"""Why a run stopped whose run folder was deleted or replaced."""


class FolderGoneError(JournalError):
    """The run folder was deleted or replaced while rows were being sent: nothing more is sent."""


class FencedError(JournalError):
    """Another process has taken the run folder over: this one must not send any more."""


class ConservationError(D3Error):
    """Rows or items do not add up: a defect in d3async. Nothing is overwritten."""


def first_failure(error: BaseException) -> BaseException:
    """The first failure of a group: once it happened, everything else was cancelled."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
