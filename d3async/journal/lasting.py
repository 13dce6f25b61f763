"""What makes a commit last: in WAL mode (https://sqlite.org/wal.html) it does once its log is on disk."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_CHECKPOINT = 128
"""Groups after which the log is worked into the database: as long as SQLite's own 1,000 pages, or a little longer."""
_QUICK = 0.001
"""Seconds below which waiting for the disk costs less than having a thread do it."""
_on_disk = getattr(os, "fdatasync", os.fsync)


class Log:
    """The log of one connection, brought to disk in one call, not in the commit: that goes from thread to thread.

    `synchronous = full` does the same within each commit, and a commit takes hold of the interpreter several times.
    """

    def __init__(self, db: sqlite3.Connection, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._db = db
        self._clock = clock
        file = next((file for _, name, file in db.execute("pragma database_list") if name == "main"), "")
        wal = db.execute("pragma journal_mode").fetchone()[0] == "wal"
        self._path = f"{file}-wal" if file and wal else None
        self._file: int | None = None
        self._synced = 0
        self._took = _QUICK
        self.in_commit = bool(file) and not wal
        """Whether each commit must wait for the disk: where the file system knows no shared memory."""
        if self._path:
            db.execute("pragma synchronous = normal")
            db.execute("pragma wal_autocheckpoint = 0")
            # at once: later the folder may have been moved
            with suppress(FileNotFoundError):
                self._file = self._opened(self._path)

    @property
    def quick(self) -> bool:
        """Whether the next `sync` will hardly take time, going by the last."""
        return self._took < _QUICK and (self._synced + 1) % _CHECKPOINT != 0

    def sync(self) -> None:
        """Wait until everything that is committed is on disk. Raises OSError."""
        if self._path is None:
            return
        if self._file is None:
            self._file = self._opened(self._path)
        began = self._clock()
        _on_disk(self._file)
        self._took = self._clock() - began
        self._synced += 1
        if self._synced % _CHECKPOINT == 0:
            # the log holds everything: that it grows does no harm
            with suppress(sqlite3.Error):
                self._db.execute("pragma wal_checkpoint(passive)")

    @staticmethod
    def _opened(path: str) -> int:
        return os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
