"""Tries a database as those who share a limit would use it, and leaves nothing there."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg

from d3async.sansio.reservation import BACK, WINDOW
from d3async.shared_limit import statements
from d3async.shared_limit.base import StoreError
from d3async.shared_limit.postgres import ANSWER, why

if TYPE_CHECKING:
    from collections.abc import Callable

    from d3async.limit_url import LimitUrl

_QUESTIONS = 5
_CONNECT = 2
"""Seconds; the driver knows no shorter time."""
_FORBIDDEN = {"42501": "forbidden", "25006": "read_only"}


@dataclass(frozen=True, slots=True)
class Trial:
    """A database that can share a limit. *made*: its tables are there.

    *round_trip* is what one reservation takes, *ahead* what its clock is ahead of ours, both in seconds.
    """

    made: bool
    round_trip: float
    ahead: float

    @property
    def too_slow(self) -> bool:
        """Whether it would count as lost."""
        return self.round_trip >= ANSWER


def tried(url: LimitUrl, *, clock: Callable[[], float] = time.time) -> Trial:
    """Make the tables if need be, reserve, and take all of it back. *clock* in seconds since 1970.

    Blocks. Raises `StoreError`; its *code* is `forbidden` where the role may not do that, `read_only` where nobody may.
    """
    try:
        with psycopg.connect(url.reveal(), connect_timeout=_CONNECT, application_name="d3async doctor") as db:
            found = _used(db, clock)
            db.rollback()
            return found
    except (psycopg.Error, OSError) as error:
        code = _FORBIDDEN.get(getattr(error, "sqlstate", None) or "", "error")
        raise StoreError(why(error), code=code) from None


def _used(db: psycopg.Connection[Any], clock: Callable[[], float]) -> Trial:
    params = {
        "key": f"doctor {uuid4().hex}", "name": "doctor", "promise": 0.0, "accepted": 0, "pause": 0.0,
        "news": False, "known": 0, "epoch": 0, "rate": 0.0, "lesson": "", "set_back": BACK, "window": WINDOW,
        "slots": 1, "every": 0.0, "late": 0.0, "within": 0.0,
    }  # fmt: skip
    there = db.execute(statements.THERE).fetchone() == (True,)
    for statement in () if there else statements.SCHEMA:
        db.execute(statement)
    db.execute(statements.NEW, params)
    db.execute(statements.BEAT, params)
    asked = sorted(_reserved(db, params, clock) for _ in range(_QUESTIONS))
    db.execute(statements.LEAVE, params)
    return Trial(there, *asked[_QUESTIONS // 2])


def _reserved(db: psycopg.Connection[Any], params: dict[str, Any], clock: Callable[[], float]) -> tuple[float, float]:
    left = clock()
    [(now, *_)] = db.execute(statements.RESERVE, params).fetchall()
    came = clock()
    return came - left, now - (left + came) / 2
