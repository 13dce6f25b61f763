"""What `check` counts about jobs, and which rows may repeat another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from d3async.files.distinct import Distinct
from d3async.sansio.identity import composed
from d3async.sansio.job import Invalid, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

_MANY = 50_000


class Tally:
    """Counts subjects, people and items of jobs. A context manager, as `Distinct` is."""

    def __init__(self) -> None:
        self.subjects = Distinct()
        self.people = Distinct()
        self.items = 0
        self._meanings = Distinct(repeats=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for distinct in (self.subjects, self.people, self._meanings):
            distinct.__exit__()

    def add(self, entries: Sequence[Job | Invalid]) -> None:
        """Count *entries*; many at a time are faster than one by one."""
        self._meanings.add(filter(None, map(_meaning, entries)))
        asked = [entry.asked for entry in entries if isinstance(entry, Job)]
        self.subjects.add([one.subject for one in asked])
        self.people.add([one.person for one in asked if one.person is not None])
        self.items += sum([len(one.items) for one in asked])

    def suspect(self) -> Callable[[Job | Invalid], bool] | None:
        """Whether an entry may mean the same as another one; None when none does."""
        found: set[int] = set()
        for number in self._meanings.repeated():
            found.add(number)
            if len(found) > _MANY:
                return lambda entry: True  # noqa: ARG005 - all of them: a set of so many would fill the memory
        if not found:
            return None
        return lambda entry: (meaning := _meaning(entry)) is not None and hash(meaning) in found


def _meaning(entry: Job | Invalid) -> Hashable:
    """What makes `Stage` take two entries for the same: equal there is equal here. None where nothing does."""
    if isinstance(entry, Invalid):
        return None if entry.key is None else ("key", entry.key)
    site = composed(entry.site)
    where = site if entry.profile is None else (entry.profile, site)
    if entry.key is not None:
        return ("key", entry.key) if entry.profile is None else ("key", entry.profile, entry.key)
    asked = entry.asked
    params = composed(asked.params)
    return (where, params, tuple(map(composed, asked.items))) if asked.items else (where, params)
