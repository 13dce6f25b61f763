"""The rows of one profile in the journal of a run that goes to several D3s."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from d3async.journal.base import Event
    from d3async.journal.group import GroupJournal
    from d3async.sansio.call import Call


class Share:
    """`Journal` for the engine of one D3: the lanes of *profile*, *page* of them at a time; all else is the whole's."""

    def __init__(self, journal: GroupJournal, profile: str | None, *, page: int) -> None:
        self._journal = journal
        self._profile = profile
        self._page = page
        # not methods: each row passes through them several times
        self.take, self.claim, self.release = journal.take, journal.claim, journal.release
        self.settle, self.flush = journal.settle, journal.flush

    async def lanes(self, after: int, most: int) -> Sequence[tuple[int, Call | None]]:
        """See `Journal.lanes`."""
        return await self._journal.lanes(after, min(most, self._page), self._profile)

    def note(self, event: Event) -> None:
        """See `Journal.note`; the note begins with the profile."""
        note = f"{self._profile}: {event.note}" if self._profile is not None and event.note else event.note
        self._journal.note(replace(event, note=note))
