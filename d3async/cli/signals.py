"""Ctrl-C and SIGTERM as stops of a run; the quickest event loop there is."""

from __future__ import annotations

import asyncio
import gc
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from d3async.policy.retry import Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ENDS = {signal.SIGINT: Stop("interrupted", "Ctrl-C"), signal.SIGTERM: Stop("terminated", "SIGTERM")}


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Uvloop where it is installed (extra `fast`)."""
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def collect_rarely() -> None:
    """Look for cycles among new objects once in 10,000: rows, calls and answers are none, and modules stay."""
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


@contextmanager
def signals(received: Callable[[Stop], None]) -> Iterator[None]:
    """A block in which Ctrl-C and SIGTERM end nothing: *received* is called with each, in the event loop."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _ENDS}
    for number, reason in _ENDS.items():
        # not add_signal_handler: Windows has none
        signal.signal(number, lambda *_, reason=reason: loop.call_soon_threadsafe(received, reason))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
