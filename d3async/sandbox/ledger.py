"""What really happened: every request in order of arrival, and the counts."""

import json
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from d3async.sandbox.state import Task, World

_ROWS_AT_ONCE = 500


@dataclass(slots=True)
class Entry:
    """One request; *at* is its arrival in seconds on the server's steady clock, *status* None without an answer."""

    n: int
    at: float
    command: str
    status: int | None = None
    fault: str | None = None
    effect: bool = False
    incident: str = ""
    items: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Give the entry as it stands in `/ledger`."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class Ledger:
    """Counts always, keeps each request only with *keep*. Not a clock: arrival times come in."""

    keep: bool = True
    requests: list[Entry] = field(default_factory=list)
    worst_second: int = 0
    in_flight_max: int = 0
    _counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    _last_second: deque[float] = field(default_factory=deque)
    _in_flight: dict[tuple[str, str], dict[int, Callable[[], bool]]] = field(default_factory=dict)
    in_flight: int = 0
    _lane_max: Counter[str] = field(default_factory=Counter)
    _seen_tasks: set[int] = field(default_factory=set)
    _arrived: int = 0

    def reset(self) -> None:
        """Forget everything but the requests that are in flight now."""
        fresh = Ledger(keep=self.keep)
        fresh._in_flight, fresh.in_flight = self._in_flight, self.in_flight
        for name in self.__slots__:
            setattr(self, name, getattr(fresh, name))

    def arrive(self, now: float, command: str) -> Entry:
        """Note a request's arrival."""
        self._arrived += 1
        entry = Entry(self._arrived, now, command)
        if self.keep:
            self.requests.append(entry)
        last = self._last_second
        last.append(now)
        while last[0] <= now - 1.0:
            last.popleft()
        self.worst_second = max(self.worst_second, len(last))
        return entry

    def start(self, entry: Entry, connected: Callable[[], bool]) -> None:
        """Note that the request is being worked on, as long as its caller is *connected* to hear the answer."""
        lane = self._in_flight.setdefault((entry.command, entry.incident), {})
        gone = [one for one, still in lane.items() if not still()]
        for one in gone:
            del lane[one]
        lane[id(entry)] = connected
        self.in_flight += 1 - len(gone)
        self._lane_max[entry.command] = max(self._lane_max[entry.command], len(lane))
        self.in_flight_max = max(self.in_flight_max, self.in_flight)

    def finish(self, entry: Entry) -> None:
        """Note that the request is no longer worked on."""
        key = entry.command, entry.incident
        lane = self._in_flight.get(key, {})
        if lane.pop(id(entry), None):
            self.in_flight -= 1
        if not lane:
            self._in_flight.pop(key, None)

    def count(self, entry: Entry) -> None:
        """Add up a request whose answer, if any, is decided."""
        self._counts["by_command", entry.command] += 1
        self._counts["by_status", "none" if entry.status is None else str(entry.status)] += 1
        if entry.fault:
            self._counts["by_fault", entry.fault] += 1

    def count_effect(self, task: Task | None, removed: int) -> None:
        """Add up what a request changed; a task with the same parameters as an earlier one is *repeated*."""
        self._counts["", "links_removed"] += removed
        if task is not None:
            meaning = hash(task[1:-1])
            self._counts["", "tasks"] += 1
            self._counts["", "tasks_repeated"] += meaning in self._seen_tasks
            self._seen_tasks.add(meaning)

    def count_stray(self, what: str) -> None:
        """Add up a request that is no command: *what* is `strays`, `strays_with_key` or `cookies`."""
        self._counts["", what] += 1

    def counts(self) -> dict[str, Any]:
        """Give every count."""
        plain = ("tasks", "tasks_repeated", "links_removed", "strays", "strays_with_key", "cookies")
        counts: dict[str, Any] = {"requests": self._arrived, **{name: self._counts["", name] for name in plain}}
        for group in ("by_command", "by_status", "by_fault"):
            counts[group] = {name: n for (of, name), n in self._counts.items() if of == group}
        return counts

    def summary(self) -> dict[str, Any]:
        """Give the counts and the worst moments."""
        return {
            "counts": self.counts(),
            "worst_second": self.worst_second,
            "in_flight": self.in_flight,
            "in_flight_max": self.in_flight_max,
            "in_flight_max_per_source": self._lane_max["RemoveLinkedIncidents"],
            "in_flight_max_per_incident": self._lane_max["CreateTask"],
        }


def whole(ledger: Ledger, world: World, *, since: int = 0) -> dict[str, Any]:
    """Give everything as one object; *since* leaves out requests and tasks up to that number."""
    return {
        **ledger.summary(),
        "requests": [entry.as_dict() for entry in ledger.requests if entry.n > since],
        "tasks": [{"n": task.n, **task.as_params()} for task in world.tasks if task.n > since],
        "links": world.links.as_dict(),
    }


def pieces(ledger: Ledger, world: World, *, since: int = 0) -> Iterator[bytes]:
    """Yield `whole` as JSON, a few hundred rows at a time."""
    yield json.dumps(ledger.summary())[:-1].encode()
    yield from _array("requests", (entry.as_dict() for entry in ledger.requests if entry.n > since))
    yield from _array("tasks", ({"n": task.n, **task.as_params()} for task in world.tasks if task.n > since))
    yield f', "links": {json.dumps(world.links.as_dict())}}}'.encode()


def _array(name: str, rows: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    yield f', "{name}": ['.encode()
    some: list[str] = []
    first = True
    for row in rows:
        some.append(json.dumps(row))
        if len(some) == _ROWS_AT_ONCE:
            yield (("" if first else ", ") + ", ".join(some)).encode()
            some, first = [], False
    if some:
        yield (("" if first else ", ") + ", ".join(some)).encode()
    yield b"]"
