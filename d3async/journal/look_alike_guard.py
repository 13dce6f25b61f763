"""Before the first request of a run: no row is sent that looks like one sent before, unless the user means it."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from d3async.errors import JournalError
from d3async.journal.sent_index import SentIndex, index_file, jobs_sent
from d3async.journal.similar_rows import NOTHING_SIMILAR, Similar, SimilarRows
from d3async.sansio.look_alikes import Lines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from d3async.journal.sqlite import RunFolder

    Tell = Callable[[str], object]

T = TypeVar("T")
_INDEX = "index"
_WITHOUT = "rows that were sent from other run folders are not looked for"


class LookAlikeGuard:
    """Looks up the rows that the held *folder* is to send; `commit` takes the folder's word and the index's together.

    *servers* are the D3s of its rows by base URL, each with its profiles ("" for rows without one). *again* is the uid
    of a journal whose rows the user wants to send again, "" for none. An index that cannot be used is said once, to
    *tell*. Without *change* the index stays as it is.
    """

    def __init__(
        self,
        folder: RunFolder,
        servers: Mapping[str, Sequence[str]],
        *,
        tell: Tell,
        again: str = "",
        change: bool = True,
    ) -> None:
        self._folder = folder
        self._tell = tell
        self._uid = folder.meta_of("uid") or ""
        self._place = folder.folder.resolve()
        self._again = again
        self._newest = 0
        index = opened_index(tell)
        self._rows = SimilarRows(folder.db, index, self._uid, servers)
        if index is not None and change and not folder.new:
            self._indexed(lambda: index.correct(self._uid, self._place, partial(jobs_sent, folder.db)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rows.index is not None:
            self._rows.index.close()

    def find(self, allowed: Lines = Lines()) -> Similar:  # noqa: B008 - it is frozen
        """What the rows to be sent look like, but for those on *allowed* lines, which are meant from now on."""
        if self._again:
            self._looked_up(partial(self._rows.allow_rows_of, self._again))
        if allowed:
            self._looked_up(partial(self._rows.allow, allowed))
        if (index := self._rows.index) is not None:
            self._newest = self._indexed(index.newest) or 0
        if self._idle():
            return NOTHING_SIMILAR
        return self._looked_up(self._rows.find)

    def allow(self) -> None:
        """The rows that `find` found are meant."""
        self._rows.allow_found()

    def commit(self) -> None:
        """Commit the folder, once the rows to be sent are entered. Raises `LookAlikeError`, `JournalError`.

        Look-alikes that another process has entered since `find` are found here.
        """
        index = self._rows.index
        if index is None or self._idle():
            self._folder.commit()
            return
        committed = False
        try:
            with index.alone():
                if index.newest() != self._newest and (since := self._rows.find()).count:
                    raise since.error()
                self._folder.commit()
                committed = True
                self._rows.enter(self._place)
        except JournalError as error:
            if not committed and error.code != _INDEX:
                raise
            self._lost(error)
            if not committed:
                self._folder.commit()

    def _idle(self) -> bool:
        """Whether no row is to be sent that must not be sent twice."""
        asked = "select not exists(select 1 from job where todo = 1 and similar is not null)"
        return bool(self._folder.db.execute(asked).fetchone()[0])

    def _looked_up(self, work: Callable[[], T]) -> T:
        """What *work* gives, without the index where that cannot be used (any more)."""
        try:
            return work()
        except JournalError as error:
            self._lost(error)
            return work()

    def _indexed(self, work: Callable[[], T]) -> T | None:
        """What *work* gives; None when the index cannot be used (any more)."""
        try:
            return work()
        except JournalError as error:
            self._lost(error)
            return None

    def _lost(self, error: JournalError) -> None:
        index, self._rows.index = self._rows.index, None
        if index is not None:
            index.close()
        self._tell(f"{error.message}: {_WITHOUT}")


def opened_index(tell: Tell) -> SentIndex | None:
    """This user's index; None when it cannot be used, and then *tell* hears why."""
    try:
        return SentIndex(index_file())
    except JournalError as error:
        tell(f"{error.message}: {_WITHOUT}")
        return None


def knows_any(tell: Tell) -> bool:
    """Whether this user's index knows any row."""
    if not index_file().is_file() or (index := opened_index(tell)) is None:
        return False
    with index:
        return index.newest() > 0


def correct_index(folder: RunFolder, tell: Tell) -> None:
    """Take out of the index what the run of *folder*, which has ended, entered and did not send."""
    if (index := opened_index(tell)) is not None:
        with index:
            try:
                index.correct(folder.meta_of("uid") or "", folder.folder.resolve(), partial(jobs_sent, folder.db))
            except JournalError as error:
                tell(f"{error.message}: it takes rows for sent that were not, until the next run over this folder")


def folder_moved(uid: str, place: Path) -> None:
    """Tell the index where the run folder of the journal *uid* is now, if it can be told."""
    with suppress(JournalError), SentIndex(index_file()) as index:
        index.moved(uid, place.resolve())
