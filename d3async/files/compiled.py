"""Compiled templates, kept where Python keeps compiled modules: compiling one takes longer than filling it in."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib.util import cache_from_source
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

from jinja2 import BytecodeCache

from d3async import __version__
from d3async.errors import JournalError
from d3async.files.aside import aside

if TYPE_CHECKING:
    from jinja2.bccache import Bucket


class Compiled(BytecodeCache):
    """Keeps what the template *source* compiles to, if its place can be written to; jinja2 sees whether it is old."""

    def __init__(self, source: Path) -> None:
        self._kept = Path(cache_from_source(str(source)))

    def get_source_checksum(self, source: str) -> str:
        """What a template is compiled to depends on how this version of ours reads it, too."""
        return super().get_source_checksum(f"{__version__} {source}")

    def load_bytecode(self, bucket: Bucket) -> None:
        """Take what was kept, if it is whole."""
        with suppress(OSError, EOFError, ValueError, UnpicklingError), self._kept.open("rb") as file:
            bucket.load_bytecode(file)

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep it, where Python may keep anything."""
        if not sys.dont_write_bytecode:
            with suppress(OSError, JournalError), aside(self._kept) as file:
                bucket.write_bytecode(file)
