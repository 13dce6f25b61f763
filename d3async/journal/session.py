"""A journal that one process may change, by statements with one text for both databases."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from d3async.errors import JournalError
from d3async.journal.dialect import NAMES
from d3async.journal.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from d3async.journal.sqlite import RunFolder


class Statements(Protocol):
    """A journal, for statements that have one text for both databases: see `journal.dialect`."""

    @property
    def salt(self) -> str:
        """What makes the marks of this journal's rows other than those of the same rows elsewhere."""
        ...

    def all(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        """The rows that *statement* finds. Raises `JournalError`."""
        ...

    def run(self, statement: str, **values: object) -> None:
        """Execute *statement*. Raises `JournalError`."""
        ...

    def run_many(self, statement: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Execute *statement* with the values of each of *rows*. Raises `JournalError`."""
        ...

    @property
    def uid(self) -> str:
        """What tells this journal from all others; row marks are made of it."""
        ...

    def escape(self, text: str) -> str:
        """*text* as the database can store it."""
        ...

    def unescape(self, text: str) -> str:
        """The text that `escape` made *text* of."""
        ...


class Session(Statements, Protocol):
    """A journal that this process may change."""

    def changing(self) -> AbstractContextManager[None]:
        """A transaction in which nothing else changes the journal: all of it or nothing.

        Raises `FencedError` or `FolderHeldError` when another process owns the journal, `JournalError`.
        """
        ...


class SqliteSession:
    """`Session` over a SQLite database, whose owner is that of *epoch*."""

    def __init__(self, db: sqlite3.Connection, *, epoch: int = 0) -> None:
        self._db = db
        self._store = Store(db, epoch=epoch)
        self._values = {"epoch": epoch}

    @property
    def salt(self) -> str:
        """See `Session.salt`."""
        found = self._db.execute("select value from meta where key = 'created_at'").fetchone()
        return str(found[0]) if found else ""

    @property
    def uid(self) -> str:
        """See `Statements.uid`."""
        return str(self._db.execute("select value from meta where key = 'uid'").fetchone()[0])

    def all(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        """See `Session.all`."""
        with _as_journal_error():
            return self._db.execute(statement.format_map(NAMES), {**self._values, **values}).fetchall()

    def run(self, statement: str, **values: object) -> None:
        """See `Session.run`."""
        with _as_journal_error():
            self._db.execute(statement.format_map(NAMES), {**self._values, **values})

    def run_many(self, statement: str, rows: Sequence[Mapping[str, object]]) -> None:
        """See `Session.run_many`."""
        with _as_journal_error():
            self._db.executemany(statement.format_map(NAMES), rows)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """See `Session.changing`."""
        try:
            with _as_journal_error():
                self._db.execute("begin immediate")
                self._store.guard()
            yield
            with _as_journal_error():
                self._db.execute("commit")
        finally:
            if self._db.in_transaction:
                self._db.execute("rollback")

    def escape(self, text: str) -> str:
        """SQLite stores any text."""
        return text

    def unescape(self, text: str) -> str:
        """See `escape`."""
        return text


class FolderSession(SqliteSession):
    """`Session` over a run folder that this process holds."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(folder.db, epoch=folder.epoch)


@contextmanager
def _as_journal_error() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise JournalError(f"The journal cannot be written: {error}.", code="journal") from error
