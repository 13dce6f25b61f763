"""Who holds a run folder: one process at a time; where the folder is now: in place, moved, gone."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from d3async.errors import FolderHeldError, JournalError
from d3async.journal.sqlite.schema import check_parts

if TYPE_CHECKING:
    from typing import BinaryIO

JOURNAL = "journal.sqlite"
_LOCK = ".lock"
_MOMENT = 0.5
"""Seconds for which a run that starts waits for the lock."""


def take(folder: Path) -> tuple[bool, FileLock]:
    """Make *folder* where it is missing and lock it; whether it was made, and the lock.

    Raises `FolderHeldError` when another process holds it, `JournalError` when it cannot be made or locked.
    """
    created = _make(folder)
    # a lock of the kernel's, which dies with its process; the soft kind outlives a kill
    lock = FileLock(folder / _LOCK, mode=0o600, fallback_to_soft=False)
    try:
        # `is_held` may have it for a moment
        lock.acquire(timeout=_MOMENT, poll_interval=_MOMENT / 20)
    except Timeout:
        raise FolderHeldError(_held(folder), code="held") from None
    except OSError as error:
        message = f"{folder} cannot be locked for writing: {error.strerror}. Give another folder with -o."
        raise JournalError(message, code="journal") from error
    return created, lock


def is_held(folder: Path) -> bool | None:
    """Whether a process holds *folder*, on whatever host or in whatever container; None where that can't be seen.

    It is found out by the lock, which is taken for a moment; a run that starts meanwhile waits for it. Nothing is
    made or changed.
    """
    try:
        with (folder / _LOCK).open("rb") as file:
            return not _lockable(file)
    except FileNotFoundError:
        return False
    except OSError:
        return None


def _lockable(file: BinaryIO) -> bool:
    """Whether the lock *file* could be locked; it no longer is. Raises OSError where files cannot be locked."""
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415 - there alone

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
        else:
            import fcntl  # noqa: PLC0415 - not on Windows

            # shared: it needs no right to write, and two that ask do not see each other
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EAGAIN, errno.EACCES, errno.EDEADLK}:
            return False
        raise
    return True


def let_go(folder: Path, lock: FileLock, *, created: bool) -> None:
    """Give the lock back; a folder that was *created* for nothing goes too."""
    # its file goes while the lock is still held: later it may belong to another process
    with suppress(OSError):
        (folder / _LOCK).unlink(missing_ok=True)
    lock.release()
    if created:
        with suppress(OSError):
            folder.rmdir()


def _make(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        if folder.is_dir():
            return False
        message = f"{folder} is a file, not a run folder: give another one with -o."
        raise JournalError(message, code="journal") from None
    except OSError as error:
        message = f"The run folder {folder} cannot be made: {error.strerror}. Give another one with -o."
        raise JournalError(message, code="journal") from error
    return True


def _held(folder: Path) -> str:
    owner: dict[str, Any] = {}
    with (
        suppress(sqlite3.Error, JournalError, ValueError, TypeError),
        closing(sqlite3.connect(f"{(folder / JOURNAL).absolute().as_uri()}?mode=ro", uri=True)) as db,
    ):
        check_parts(db, folder / JOURNAL)
        owner = json.loads(db.execute("select value from meta where key = 'owner'").fetchone()[0])
    if not owner:
        return f"Another d3async is just starting in {folder}. Wait for it, or give another folder with -o."
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(owner["since"]))
    return (
        f"{folder} is held by another d3async: pid {owner['pid']} on {owner['host']}, since {since}. "
        f"Wait for it or stop it; to look: d3async status {folder}"
    )


_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESTALE})


class FolderLocation:
    """Follows the folder whose open journal is *name*: no other file can have its number while it is open.

    A look costs one `stat`. Where the system does not tell the new path of a folder that was moved, it counts as gone.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._name = name
        self._folder = folder
        self._journal = os.stat(folder / name)  # noqa: PTH116 - as everywhere here: it is looked at often
        self._descriptor: int | None = None
        if hasattr(os, "O_DIRECTORY"):
            with suppress(OSError):
                self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def find(self) -> Path | None:
        """The folder's path; None once the folder or its journal was deleted, replaced, or cannot be found."""
        if not self._is_in(self._folder):
            moved = self._moved_to()
            if moved is None or not self._is_in(moved):
                return None
            self._folder = moved
        return self._folder

    def close(self) -> None:
        """Stop following."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _is_in(self, folder: Path) -> bool:
        try:
            found = os.stat(f"{folder}{os.sep}{self._name}")  # noqa: PTH116 - as above
        except OSError as error:
            # that a path may not be looked at says nothing about the file
            return error.errno not in _GONE
        return (found.st_ino, found.st_dev) == (self._journal.st_ino, self._journal.st_dev)

    def _moved_to(self) -> Path | None:
        if self._descriptor is None:
            return None
        try:
            if sys.platform == "darwin":
                import fcntl  # noqa: PLC0415 - not on Windows

                told = fcntl.fcntl(self._descriptor, fcntl.F_GETPATH, bytes(1024))
                return Path(os.fsdecode(told.rstrip(b"\0")))
            return Path(f"/proc/self/fd/{self._descriptor}").readlink()
        except OSError:
            return None
