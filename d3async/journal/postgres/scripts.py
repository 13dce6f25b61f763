"""Several statements in one text, over a connection that blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg import Connection


def run_all(db: Connection[Any], script: str, asked: Mapping[str, object] | None = None) -> None:
    """Execute the statements of *script*, which stand between `;`."""
    for statement in script.split(";"):
        db.execute(statement.encode(), asked)
