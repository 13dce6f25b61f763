"""A file whose rows say whom they are for: its jobs by profile, kept on disk until their runs are submitted."""

from __future__ import annotations

import pickle
import tempfile
from collections import Counter, defaultdict
from contextlib import ExitStack
from itertools import count
from typing import IO, TYPE_CHECKING, Self

from d3async.errors import SettingsError
from d3async.sansio.job import Invalid, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from d3async.commands.base import Command
    from d3async.sansio.job import Job
    from d3async.sansio.shape import Route
    from d3async.settings import Profiles

_IN_MEMORY = 1 << 16


class Split:
    """Takes jobs, gives those of one profile back, numbered from 1. A context manager: nothing of it stays."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self._open = ExitStack()
        self._spools: dict[str, IO[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add(self, entries: Iterable[Job | Invalid]) -> None:
        """Keep the jobs among *entries*; each names a profile."""
        by_profile: defaultdict[str, list[Job]] = defaultdict(list)
        for entry in entries:
            if not isinstance(entry, Invalid):
                by_profile[entry.profile or ""].append(entry)
        for profile, jobs in by_profile.items():
            self.rows[profile] += len(jobs)
            pickle.dump(jobs, self._spool(profile), pickle.HIGHEST_PROTOCOL)

    def _spool(self, profile: str) -> IO[bytes]:
        if profile not in self._spools:
            spool = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed with all others
            self._spools[profile] = self._open.enter_context(spool)
        return self._spools[profile]

    def jobs(self, profile: str) -> Iterator[Job]:
        """The jobs of *profile* in the order they came."""
        spool, numbers = self._spools[profile], count(1)
        spool.seek(0)
        while True:
            try:
                # what this very process has written
                jobs = pickle.load(spool)  # noqa: S301
            except EOFError:
                return
            for job in jobs:
                yield job._replace(row=next(numbers), profile=None)


def route(profiles: Profiles) -> Route:
    """What judges the profiles that rows name; a key is not asked for, workers have it."""
    known: dict[str, str | Problem] = {}

    def judged(profile: str, command: type[Command]) -> str | Problem:  # noqa: ARG001 - the signature of a route
        if profile not in known:
            known[profile] = _judged(profile, profiles)
        return known[profile]

    return judged


def _judged(profile: str, profiles: Profiles) -> str | Problem:
    if not profile:
        return Problem("profile", "", "", "is empty", "name the profile the row is for")
    if not profiles.has(profile):
        like = profiles.like(profile)
        return Problem(
            "profile", "", "", f"is no profile of {profiles.config.path}", f'is "{like}" meant?' if like else ""
        )
    try:
        return profiles.settings(profile).site
    except SettingsError as error:
        return Problem("profile", "", "", f"cannot be used: {error.message}")
