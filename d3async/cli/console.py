"""The one place that prints: data on stdout, everything else on stderr, nothing that steers a terminal."""

from __future__ import annotations

import sys
import unicodedata

_ALLOWED = frozenset("\n\t")


def clean(text: str) -> str:
    """*text* with control characters (ANSI escapes among them) written out, so that it cannot steer a terminal."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter in _ALLOWED or unicodedata.category(letter) not in {"Cc", "Cf", "Cs"} else _spelt(letter)
        for letter in text
    )


def _spelt(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def say(text: str = "") -> None:
    """Tell the user something, on stderr."""
    _write(sys.stderr, clean(text) + "\n")


def out(text: str) -> None:
    """Give the user what was asked for, on stdout, with a line end."""
    _write(sys.stdout, text + "\n")


def _write(stream: object, text: str) -> None:
    stream.write(text)  # type: ignore[attr-defined]
    stream.flush()  # type: ignore[attr-defined]
