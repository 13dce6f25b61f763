"""The terminal: the one place that prints, asks, and takes Ctrl-C and SIGTERM.

Data goes to stdout, everything else to stderr, and nothing that steers a terminal.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from d3async.operations.observer import Question
    from d3async.policy.halt_and_exit_codes import Stop

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

    def __init__(self, *, quiet: bool = False, yes: bool = False) -> None:
        self._quiet = quiet
        self._yes = yes

    def confirm(self, question: Question) -> bool | None:
        """See `AskingObserver.confirm`. `--yes` does not answer whether rows may be sent that look like rows sent."""
        from d3async.operations.observer import SendRows, SendUnknownRows, SubmitRows  # noqa: PLC0415 - not for `--help`

        if self._yes and isinstance(question, SendRows | SendUnknownRows | SubmitRows):
            return True
        if self._yes or not is_interactive():
            return None
        import click  # noqa: PLC0415 - for a question only

        from d3async.operations.plan_text import question_text  # noqa: PLC0415 - as above

        *lines, asked = question_text(question).split("\n")
        say_all(lines)
        return click.confirm(asked, err=True)

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


def collect_rarely() -> None:
    """Look for cycles among new objects once in 10,000: rows, calls and answers are none, and modules stay."""
    import gc  # noqa: PLC0415 - `--help` need not load it

    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


@contextmanager
def signals(received: Callable[[Stop], None]) -> Iterator[None]:
    """A block in which Ctrl-C and SIGTERM end nothing: *received* is called with each, in the event loop."""
    import asyncio  # noqa: PLC0415 - `--help` need not load it
    import signal  # noqa: PLC0415 - as above

    from d3async.policy.halt_and_exit_codes import Stop  # noqa: PLC0415 - as above

    ends = {signal.SIGINT: Stop("interrupted", "Ctrl-C"), signal.SIGTERM: Stop("terminated", "SIGTERM")}
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in ends}
    for number, reason in ends.items():
        # not add_signal_handler: Windows has none
        signal.signal(number, lambda *_, reason=reason: loop.call_soon_threadsafe(received, reason))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
