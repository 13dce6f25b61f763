"""Digests of rows as SQL functions of a connection: what is only needed of new rows is worked out for these alone."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from d3async.commands import all_commands
from d3async.sansio.identity import LookAlike, look_alike, text_digest
from d3async.sansio.marks import with_mark, without_mark

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable


def add_functions(db: sqlite3.Connection) -> None:
    """`d3_text(raw)`; `d3_similar`, `d3_alike` and `d3_due` of (command, site, params).

    `d3_marked` and `d3_unmarked` of (params, mark) are params with the mark and without it; null is no mark.
    """
    last: tuple[tuple[str | None, ...], LookAlike] = ((), LookAlike(None, None, None))

    def known(*row: str | None) -> LookAlike:
        nonlocal last
        if last[0] != row:
            command, site, params = row
            kind = all_commands().get(command or "")
            found = look_alike(kind, params, site or "") if kind and params else LookAlike(None, None, None)
            last = (row, found)
        return last[1]

    db.create_function("d3_marked", 2, partial(_changed, with_mark), deterministic=True)
    db.create_function("d3_unmarked", 2, partial(_changed, without_mark), deterministic=True)
    db.create_function("d3_text", 1, text_digest, deterministic=True)
    db.create_function("d3_similar", 3, lambda *row: known(*row).similar, deterministic=True)
    db.create_function("d3_alike", 3, lambda *row: known(*row).alike, deterministic=True)
    db.create_function("d3_due", 3, lambda *row: known(*row).due, deterministic=True)


def _changed(change: Callable[[str, str], str], params: str, mark: str | None) -> str:
    return params if mark is None else change(params, mark)
