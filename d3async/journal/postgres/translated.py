"""What the database says when it fails, as the error of a journal."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg

from d3async.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def translated(failed: str) -> Iterator[None]:
    """A block whose database errors become a `JournalError`: that it *failed*, and what the database said."""
    try:
        yield
    except psycopg.Error as error:
        said = " ".join(str(error).split())
        raise JournalError(f"{failed}: {said}", code="journal") from error
