"""Where the run folder that a process works in is now: where it was opened, moved, or gone."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path

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
