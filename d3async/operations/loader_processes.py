"""Processes that load job files into a fleet's journal side by side; what they store holds together or not at all."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
from collections import deque
from contextlib import suppress
from itertools import chain
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, Self

from d3async.errors import D3Error, JournalError
from d3async.operations.load_fleet import Loader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from multiprocessing.connection import Connection

    from d3async.config.database_urls import FleetUrl
    from d3async.journal.model import Similar
    from d3async.operations.load_fleet import LoadedRun, LoadOptions, RunToSubmit
    from d3async.policy.look_alikes import Lines


class LocalLoader:
    """Reads in this process."""

    apart = False

    def __init__(self, address: FleetUrl, how: LoadOptions) -> None:
        self._loader = Loader(address, how)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._loader.__exit__()

    def load(self, groups: Sequence[Sequence[RunToSubmit]], done: Callable[[list[LoadedRun]], None]) -> None:
        """Load the files of *groups*; *done* hears of each."""
        for unit in chain.from_iterable(groups):
            done(self._loader.load(unit))

    def look(self, tenants: Iterable[str], allowed: Lines) -> dict[str, Similar]:
        """What the rows of each run look like; nothing else is submitted for *tenants* until the end."""
        for tenant in sorted(tenants):
            self._loader.lock(tenant)
        return self._loader.find(allowed)

    def allow(self) -> None:
        """What was found is meant."""
        self._loader.allow()

    def commit(self) -> None:
        """Make it hold."""
        self._loader.commit()


class LoaderProcesses:
    """Reads in *count* processes, each with a transaction of its own; these are committed one right after the other.

    A context manager: leaving it ends the processes, and undoes what was not committed.
    """

    def __init__(self, address: FleetUrl, how: LoadOptions, count: int) -> None:
        # not forked: a copy of this process would share its connections
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection[Any, Any]] = []
        self._processes = []
        self._readers: dict[str, set[Connection[Any, Any]]] = {}
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

    def load(self, groups: Sequence[Sequence[RunToSubmit]], done: Callable[[list[LoadedRun]], None]) -> None:
        """Load the files of *groups*, each of them in one process; *done* hears of each file, as they are ready.

        Raises what a process cannot go on from.
        """
        waiting = deque(groups)
        given: dict[Any, deque[RunToSubmit]] = {}
        busy: list[Any] = []
        for pipe in self._pipes[: len(waiting)]:
            given[pipe] = deque(waiting.popleft())
            pipe.send(("load", given[pipe].popleft()))
            busy.append(pipe)
        while busy:
            ready = wait(busy)
            for pipe in [pipe for pipe in busy if pipe in ready]:
                loaded = _received(pipe)
                for one in loaded:
                    self._readers.setdefault(one.unit.tenant, set()).add(pipe)
                done(loaded)
                if not given[pipe] and waiting:
                    given[pipe] = deque(waiting.popleft())
                if given[pipe]:
                    pipe.send(("load", given[pipe].popleft()))
                else:
                    busy.remove(pipe)

    @property
    def apart(self) -> bool:
        """Whether rows of one tenant were read by several processes, which do not see each other's."""
        return any(len(readers) > 1 for readers in self._readers.values())

    def look(self, tenants: Iterable[str], allowed: Lines) -> dict[str, Similar]:
        """What the rows of each run look like; nothing else is submitted for *tenants* until the end."""
        # in the same order everywhere: no two that submit wait for each other
        for tenant in sorted(tenants):
            [pipe] = self._readers[tenant]
            pipe.send(("lock", tenant))
            _received(pipe)
        found: dict[str, Similar] = {}
        for part in self._all("find", allowed):
            found |= part
        return found

    def allow(self) -> None:
        """What was found is meant."""
        self._all("allow")

    def commit(self) -> None:
        """Make it hold."""
        self._all("commit")

    def _all(self, asked: str, *values: object) -> list[Any]:
        for pipe in self._pipes:
            pipe.send((asked, *values))
        return [_received(pipe) for pipe in self._pipes]


def open_loader(
    address: FleetUrl, how: LoadOptions, *, groups: int, processes: int | None
) -> LocalLoader | LoaderProcesses:
    """As many processes as there are cores, or *processes*, where there are *groups* of files for them."""
    count = min(processes or os.cpu_count() or 1, groups)
    return LocalLoader(address, how) if count <= 1 else LoaderProcesses(address, how, count)


def _received(pipe: Any) -> Any:
    try:
        answer = pipe.recv()
    except (EOFError, OSError):
        raise JournalError("A process that read files has ended; nothing was submitted.", code="process") from None
    if isinstance(answer, D3Error):
        raise answer
    return answer


def _child(pipe: Connection[Any, Any], url: str, how: LoadOptions) -> None:
    from d3async.config.database_urls import needed  # noqa: PLC0415 - in the new process

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
            ended = False
            while not ended:
                asked, *values = pipe.recv()
                pipe.send(_answer(loader, asked, values))
                ended = asked == "commit"


def _answer(loader: Loader, asked: str, values: Sequence[Any]) -> Any:
    try:
        return getattr(loader, asked)(*values)
    except D3Error as error:
        return error
