"""A job file into the fleet's journal: COPY, duplicates, re-run or new, lanes, chunks; one transaction a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from psycopg import Connection

    from d3async.journal.adopt import Changes
    from d3async.journal.sqlite import Selection
    from d3async.sansio.job import Invalid, Job

CHUNK_ROWS = 500


@dataclass(frozen=True, slots=True)
class Begun:
    """What a submission is to send: *rows*, in *chunks* (their numbers, from 0; each holds about as many rows)."""

    run: int
    round: int
    rows: int
    chunks: range


class Submission:
    """One run being submitted over *connection*, which is in no transaction. Until `commit` nothing of it holds.

    Blocking, as reading a file is: made for one process of several that each read a file. The order is
    `add`*, `duplicates`, `adopt`, `begin`, `mark_tasks` where asked for, `commit`; or `abandon` at any time.
    """

    id: int
    name: str
    new: bool
    """Whether the run was not known before."""
    jobs: int
    invalid: int

    @property
    def rows(self) -> int:
        """Rows read, valid or not."""
        raise NotImplementedError

    def meta(self) -> dict[str, str]:
        """What the journal says of the run; empty for a new one."""
        raise NotImplementedError

    def add(self, entries: Iterable[Job | Invalid]) -> None:
        """Store *entries*, reading them as they come. Rows are to be numbered from 1 without a gap."""
        raise NotImplementedError

    def duplicates(self, *, allow: bool) -> Iterator[Invalid]:
        """See `Stage.duplicates`: rows that repeat an earlier one, each as the `Invalid` it becomes."""
        raise NotImplementedError

    def facets(self) -> dict[str, int]:
        """See `Stage.facets`; reads every row, so only for a plan that tells it."""
        raise NotImplementedError

    def adopt(self, facts: Mapping[str, str]) -> Changes:
        """Bring the rows in; *facts* are stored as meta (`RunFolder.adopt` says which). See `adopt.Changes`."""
        raise NotImplementedError

    def begin(
        self, selection: Selection, *, now: float, facts: Mapping[str, Any], chunk_rows: int = CHUNK_ROWS
    ) -> Begun:
        """Mark what is to be sent, put it into lanes and these into chunks; *facts* are those of the round."""
        raise NotImplementedError

    def mark_tasks(self, *, on: bool) -> None:
        """See `journal.marking.mark_tasks`."""
        raise NotImplementedError

    def commit(self) -> None:
        """Make it hold. Whatever else belongs to the submission (queued chunks) may be in the same transaction."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Undo everything."""
        raise NotImplementedError


def submission(
    connection: Connection[Any], name: str, tenant: str, *, now: float, take_over: bool = False
) -> Submission:
    """Begin to submit the run *name* for *tenant*, in a transaction that locks the name.

    Raises `JournalError`: `journal_missing` and `journal_newer` (see `schema.check`), `other_tenant` when the run
    belongs to another one; `FolderHeldError` when somebody submits it at this moment, or when a worker has a chunk of
    it open. With *take_over* such a worker is fenced instead: what it has in flight becomes `unknown`.
    """
    raise NotImplementedError
