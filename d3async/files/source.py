"""A job file as bytes that can be read more than once; what is not one is refused here."""

from __future__ import annotations

import shutil
import stat
import tempfile
from typing import TYPE_CHECKING, BinaryIO

from d3async.errors import JobFileError

if TYPE_CHECKING:
    from pathlib import Path

_BUFFER = 1 << 18


class Source:
    """An open file and the name it has for the user. Whoever opens it closes it."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file = file
        self.name = name

    def error(self, text: str) -> JobFileError:
        """A `JobFileError` that names the file."""
        return JobFileError(f"{self.name}: {text}", code="job_file")

    def head(self, size: int = 1 << 16) -> bytes:
        """The first *size* bytes."""
        self.file.seek(0)
        return self.file.read(size)

    def close(self) -> None:
        """Close the file (a spooled one is gone with it)."""
        self.file.close()


def open_source(path: Path | None, stream: BinaryIO | None) -> Source:
    """*path*, or *stream* (stdin) copied to a temporary file. Raises `JobFileError`."""
    if path is None:
        if stream is None:
            raise JobFileError("no job file was named", code="job_file")
        return Source(_spooled(stream), "stdin")
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise JobFileError(f"{path} is a folder, not a job file", code="job_file")
        file = path.open("rb", buffering=_BUFFER)
        if not stat.S_ISREG(mode):
            with file:
                return Source(_spooled(file), str(path))
    except OSError as error:
        raise JobFileError(f"{path} cannot be read: {_reason(error)}", code="job_file") from error
    return Source(file, path.name)


def _spooled(stream: BinaryIO) -> BinaryIO:
    spool = tempfile.TemporaryFile()  # noqa: SIM115 - the Source closes it
    shutil.copyfileobj(stream, spool)
    spool.seek(0)
    return spool


def _reason(error: OSError) -> str:
    return "there is no such file" if isinstance(error, FileNotFoundError) else (error.strerror or str(error)).lower()
