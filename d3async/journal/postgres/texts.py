"""Texts that PostgreSQL does not take as they are: it knows no NUL and no half of a surrogate pair."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MARK = "\x1a"
"""Stands before what was changed."""
_TROUBLE = re.compile("[\x00\x1a\ud800-\udfff]")
_WRITTEN = re.compile("\x1a([0-9a-f]{4})")


def kept(text: str) -> str:
    """*text* as it is stored: what cannot be, and the mark itself, as the mark and four hexadecimal digits."""
    if text.isprintable():
        return text
    return _TROUBLE.sub(lambda found: f"{MARK}{ord(found[0]):04x}", text)


def told(text: str) -> str:
    """The text that `kept` made *text* of."""
    if MARK not in text:
        return text
    return _WRITTEN.sub(lambda found: chr(int(found[1], 16)), text)


def message_line(message: str, anomalies: Sequence[str]) -> str:
    """One line for `_message`, with what was odd about the answer."""
    parts = [message, *(f"[{text}]" for text in anomalies)]
    return " ".join(" ".join(parts).split())
