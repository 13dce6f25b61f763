"""The one place that prints: data on stdout, everything else on stderr, nothing that steers a terminal."""

from __future__ import annotations

import json
import sys
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_ALLOWED = frozenset("\n\t")


def clean(text: str) -> str:
    """*text* with control characters (ANSI escapes among them) written out, so that it cannot steer a terminal."""
    if text.isprintable():
        return text
    return "".join(letter.encode("unicode_escape").decode("ascii") if _steers(letter) else letter for letter in text)


def _steers(letter: str) -> bool:
    return letter not in _ALLOWED and unicodedata.category(letter) in {"Cc", "Cf", "Cs"}


def is_interactive() -> bool:
    """Whether a question would be seen and can be answered: stdin and stderr are terminals."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def say(text: str = "") -> None:
    """Tell the user something, on stderr."""
    _write(sys.stderr, clean(text) + "\n")


def say_all(lines: Iterable[str]) -> None:
    """Say each of *lines*."""
    for line in lines:
        say(line)


def out(text: str) -> None:
    """Give the user what was asked for, on stdout, with a line end.

    What would steer a terminal is written as JSON writes it: in JSON it means the same.
    """
    if not text.isprintable():
        text = "".join(json.dumps(letter)[1:-1] if _steers(letter) else letter for letter in text)
    _write(sys.stdout, text + "\n")


def _write(stream: object, text: str) -> None:
    stream.write(text)  # type: ignore[attr-defined]
    stream.flush()  # type: ignore[attr-defined]


class Terminal:
    """`operations.observer.OperationObserver` on stderr; a *quiet* one leaves details out."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet

    def detail(self, text: str) -> None:
        """See `Observer.detail`."""
        if not self._quiet:
            say(text)

    def message(self, text: str) -> None:
        """See `Observer.message`."""
        say(text)


class Silent:
    """`operations.observer.OperationObserver` that prints nothing."""

    def message(self, text: str) -> None:
        """See `Observer.message`."""

    def detail(self, text: str) -> None:
        """See `Observer.detail`."""


def quiet_stdout() -> None:
    """After a broken pipe: keep the interpreter from complaining about it when it ends."""
    import os  # noqa: PLC0415 - only after a broken pipe

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
