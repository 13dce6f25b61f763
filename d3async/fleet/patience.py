"""procrastinate's connector, with patience: a database that is away is waited for, no worker ends over it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from procrastinate import PsycopgConnector
from procrastinate.exceptions import ConnectorException

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from typing import LiteralString

    from procrastinate.connector import Notify

log = logging.getLogger("d3async.fleet")
T = TypeVar("T")
_PAUSE = 0.5


def is_outage(error: BaseException | None) -> bool:
    """Whether *error*, or what caused it, says that the database cannot be reached, rather than that it said no."""
    while error is not None:
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | ConnectionError):
            return True
        error = error.__cause__
    return False


class PatientConnector(PsycopgConnector):
    """Asks again until the database is back. What may have been done by the first try is not an error in the second.

    *mask* takes secrets out of what is logged.
    """

    def __init__(self, *, mask: Callable[[str], str] = str, **pool: Any) -> None:
        super().__init__(**pool)
        self.patient = True
        """Off, an outage is raised: for the end of a worker whose database does not come back."""
        self.away_since: float | None = None
        """Loop time since which the database cannot be reached; None while it can."""
        self._mask = mask
        self._disowned: set[int] = set()

    def disown(self, job: int) -> None:
        """Let the next word about *job* go unsaid: it is somebody else's by now, who would lose it.

        What procrastinate stores about a job that ends does not ask whose it is.
        """
        self._disowned.add(job)

    async def execute_query_async(self, query: LiteralString, **arguments: Any) -> None:
        """See `BaseConnector`."""
        if arguments.get("job_id") in self._disowned:
            self._disowned.discard(arguments["job_id"])
            return
        asked = super().execute_query_async
        again = False
        while True:
            try:
                await asked(query, **arguments)
            except ConnectorException as error:
                if again and isinstance(error.__cause__, psycopg.errors.RaiseException):
                    break
                await self._bear(error)
                again = True
            else:
                break
        self.away_since = None

    async def execute_query_one_async(self, query: LiteralString, **arguments: Any) -> dict[str, Any]:
        """See `BaseConnector`. A job whose fetching was never heard of is found by the worker's `Reaper`."""
        return await self._until_back(super().execute_query_one_async, query, arguments)

    async def execute_query_all_async(self, query: LiteralString, **arguments: Any) -> list[dict[str, Any]]:
        """See `BaseConnector`."""
        return await self._until_back(super().execute_query_all_async, query, arguments)

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        """See `BaseConnector`."""
        channels = list(channels)
        while True:
            try:
                await super().listen_notify(on_notification, channels)
            except ConnectorException as error:
                await self._bear(error)

    async def _until_back(
        self, asked: Callable[..., Awaitable[T]], query: LiteralString, arguments: dict[str, Any]
    ) -> T:
        while True:
            try:
                found = await asked(query, **arguments)
            except ConnectorException as error:
                await self._bear(error)
            else:
                self.away_since = None
                return found

    async def _bear(self, error: ConnectorException) -> None:
        """Wait a moment, if *error* is an outage; else raise it."""
        if not self.patient or not is_outage(error.__cause__):
            raise error
        if self.away_since is None:
            self.away_since = asyncio.get_running_loop().time()
            reason = self._mask(str(error.__cause__)).splitlines()
            log.warning("the database is away (%s); waiting for it", reason[0] if reason else "no reason given")
        await asyncio.sleep(_PAUSE)
