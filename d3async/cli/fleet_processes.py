"""Processes that read files side by side; what they bring in holds together or not at all."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
from collections import deque
from contextlib import suppress
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, Self

from d3async.cli.fleet_loading import Loader
from d3async.errors import D3Error, JournalError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection

    from d3async.cli.fleet_loading import How, Loaded, Unit
    from d3async.fleet.address import Address


class Here:
    """Reads in this process."""

    def __init__(self, address: Address, how: How) -> None:
        self._loader = Loader(address, how)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._loader.__exit__()

    def load(self, units: Sequence[Unit], done: Callable[[list[Loaded]], None]) -> None:
        """Load *units*; *done* hears of each."""
        for unit in units:
            done(self._loader.load(unit))

    def commit(self) -> None:
        """Make it hold."""
        self._loader.commit()


class SideBySide:
    """Reads in *count* processes, each with a transaction of its own; these are committed one right after the other.

    A context manager: leaving it ends the processes, and undoes what was not committed.
    """

    def __init__(self, address: Address, how: How, count: int) -> None:
        # not forked: a copy of this process would share its connections
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection[Any, Any]] = []
        self._processes = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_child, args=(theirs, address.url.reveal(), how), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            # on an error they may still wait for the database, and nothing of what they did is to hold
            process.join(5 if kind is None else 0)
            if process.is_alive():
                process.terminate()

    def load(self, units: Sequence[Unit], done: Callable[[list[Loaded]], None]) -> None:
        """Load *units*; *done* hears of each, as they are ready. Raises what a process cannot go on from."""
        waiting = deque(units)
        busy: list[Any] = []
        for pipe in self._pipes[: len(units)]:
            pipe.send(waiting.popleft())
            busy.append(pipe)
        while busy:
            ready = wait(busy)
            for pipe in [pipe for pipe in busy if pipe in ready]:
                done(_received(pipe))
                if waiting:
                    pipe.send(waiting.popleft())
                else:
                    busy.remove(pipe)

    def commit(self) -> None:
        """Make it hold."""
        for pipe in self._pipes:
            pipe.send(None)
        for pipe in self._pipes:
            _received(pipe)


def opened(address: Address, how: How, *, files: int, processes: int | None) -> Here | SideBySide:
    """As many processes as there are cores, or *processes*, where there are *files* for them."""
    count = min(processes or os.cpu_count() or 1, files)
    return Here(address, how) if count <= 1 else SideBySide(address, how, count)


def _received(pipe: Any) -> Any:
    try:
        answer = pipe.recv()
    except (EOFError, OSError):
        raise JournalError("A process that read files has ended; nothing was submitted.", code="process") from None
    if isinstance(answer, D3Error):
        raise answer
    return answer


def _child(pipe: Connection[Any, Any], url: str, how: How) -> None:
    from d3async.fleet.address import needed  # noqa: PLC0415 - in the new process

    # rows are no cycles: to look for some among millions of them costs a fifth of the time
    gc.set_threshold(100_000, 50, 50)
    with suppress(KeyboardInterrupt, EOFError, BrokenPipeError):
        try:
            loader = Loader(needed(url, {}), how)
        except D3Error as error:
            pipe.recv()
            pipe.send(JournalError(error.message))
            sys.exit(1)
        with loader:
            while (unit := pipe.recv()) is not None:
                pipe.send(loader.load(unit))
            loader.commit()
            pipe.send(None)
