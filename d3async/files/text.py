"""Lines of a text file as they stand there, none longer than a limit."""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING

from d3async.files.format import BOMS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from d3async.files.detect import Scan
    from d3async.files.source import Source

LINE_LIMIT = 1 << 20
"""Characters a line, and a row, may have."""


@contextmanager
def text_of(source: Source, scan: Scan, newline: str) -> Iterator[io.TextIOWrapper]:
    """The text of *source* from its start, after the BOM; a changed or broken file raises `JobFileError`."""
    source.file.seek(len(BOMS[scan.encoding]) if scan.bom else 0)
    wrapper = io.TextIOWrapper(source.file, encoding=scan.encoding, newline=newline)
    try:
        yield wrapper
    except UnicodeError as error:
        raise source.error(f"is not {scan.encoding} any more: was it changed while it was read?") from error
    except OSError as error:
        raise source.error(f"cannot be read further: {error.strerror}") from error
    finally:
        wrapper.detach()
