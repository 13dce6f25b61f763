"""What the sandbox holds: incidents, links, tasks; the ledger of every request; the sample files."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter, deque
from dataclasses import dataclass, field
from fnmatch import translate
from pathlib import Path
from sys import intern
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

# 20231025-130, 090924-13297, TEST-INCIDENT-73: all seen on D3's pages.
_WELL_FORMED = re.compile(r"[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*-[0-9]+")

MISSING = ("1900*", "MISSING-*")
UNKNOWN_ASSIGNEES = ("nobody",)


class Task(NamedTuple):
    """One created task: *n* is the request that made it, the rest is what was sent."""

    n: int
    incident: str
    name: str
    type: str
    description: str
    assignee: str
    due: str
    required: str
    creator: str

    @classmethod
    def from_params(cls, n: int, params: dict[str, str], creator: str) -> Task:
        """Keep the parameters of a CreateTask request; values that repeat are stored once."""
        return cls(
            n=n,
            incident=intern(params["Incident Number"]),
            name=params["Task Name"],
            type=intern(params["Task Type"]),
            description=params["Task Description"],
            assignee=intern(params["Assignee"]),
            due=intern(params["Due Date"]),
            required=intern(params["Required"]),
            creator=intern(creator),
        )

    def as_params(self) -> dict[str, str]:
        """Give the task back under D3's parameter names."""
        return {
            "Task Name": self.name,
            "Task Type": self.type,
            "Task Description": self.description,
            "Assignee": self.assignee,
            "Due Date": self.due,
            "Required": self.required,
            "Incident Number": self.incident,
        }


class Links:
    """Pairs of linked incidents; *symmetric* links are seen, and removed, from both ends."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = (), *, symmetric: bool = True) -> None:
        self.symmetric = symmetric
        self._of: dict[str, dict[str, None]] = {}
        for source, linked in pairs:
            self.add(source, linked)

    def add(self, source: str, linked: str) -> None:
        """Link *linked* to *source*."""
        self._of.setdefault(source, {})[linked] = None
        if self.symmetric:
            self._of.setdefault(linked, {})[source] = None

    def remove(self, source: str, linked: str) -> bool:
        """Take the link away; False when there was none."""
        if linked not in self._of.get(source, {}):
            return False
        del self._of[source][linked]
        if self.symmetric:
            self._of.get(linked, {}).pop(source, None)
        return True

    def of(self, source: str) -> list[str]:
        """List what is linked to *source*, in the order of linking."""
        return list(self._of.get(source, ()))

    def reach(self, start: str, *, depth: int = 10) -> list[str]:
        """List *start* and all it is linked to over at most *depth* links."""
        found, edge = {start: None}, [start]
        for _ in range(depth):
            edge = [far for near in edge for far in self._of.get(near, ()) if far not in found]
            found.update(dict.fromkeys(edge))
        return list(found)

    def incidents(self) -> list[str]:
        """List every incident that has, or had, a link."""
        named = dict.fromkeys(self._of)
        for linked in self._of.values():
            named.update(linked)
        return list(named)

    def as_dict(self) -> dict[str, list[str]]:
        """Give the present links, source by source; sources without one are left out."""
        return {source: list(linked) for source, linked in self._of.items() if linked}


class World:
    """The incidents with their links and tasks.

    Any well-formed number exists, unless it fits a pattern in *missing* (`1900*`) or, with *strict*,
    is not named in the links or *incidents*. Anybody can be assigned but the *unknown_assignees*,
    or, where *assignees* are given, only these.
    """

    def __init__(
        self,
        links: Iterable[tuple[str, str]] = (),
        *,
        symmetric: bool = True,
        strict: bool = False,
        incidents: Collection[str] = (),
        missing: Collection[str] = MISSING,
        assignees: Collection[str] | None = None,
        unknown_assignees: Collection[str] = UNKNOWN_ASSIGNEES,
        keep_tasks: bool = True,
    ) -> None:
        self._seed = tuple(links)
        self._known = dict.fromkeys((*(number for pair in self._seed for number in pair), *incidents))
        self._strict = strict
        self._missing = re.compile("|".join(map(translate, missing)) or "(?!)")
        self._assignees = None if assignees is None else {name.casefold() for name in assignees}
        self._unknown = {name.casefold() for name in unknown_assignees}
        self._symmetric = symmetric
        self._keep_tasks = keep_tasks
        self.reset()

    def reset(self) -> None:
        """Go back to the start: the links as given, no task."""
        self.links = Links(self._seed, symmetric=self._symmetric)
        self.tasks: list[Task] = []
        self._tasks_of: dict[str, list[Task]] = {}

    def exists(self, incident: str) -> bool:
        """Tell whether the incident is there."""
        if self._missing.match(incident):
            return False
        return incident in self._known if self._strict else _WELL_FORMED.fullmatch(incident) is not None

    def knows_assignee(self, name: str) -> bool:
        """Tell whether a task can be given to *name*, whatever its case."""
        folded = name.strip().casefold()
        return folded in self._assignees if self._assignees is not None else folded not in self._unknown

    def known_incidents(self) -> list[str]:
        """List the incidents named at the start and those that carry a task."""
        return [number for number in {**self._known, **self._tasks_of} if self.exists(number)]

    def add_task(self, task: Task) -> None:
        """Create the task."""
        if self._keep_tasks:
            self.tasks.append(task)
            self._tasks_of.setdefault(task.incident, []).append(task)

    def tasks_of(self, incident: str) -> list[Task]:
        """List the incident's tasks, oldest first."""
        return self._tasks_of.get(incident, [])


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
        """Give the entry as `/ledger` shows it."""
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


_HERE = Path(__file__).resolve()
# A wheel carries them as d3async/samples; in a checkout they lie beside d3async.
_PLACES = (_HERE.parents[1] / "samples", _HERE.parents[2] / "samples")
SEED = "links_seed.csv"


def sample(name: str) -> Path:
    """Give the path of the sample file *name*; raises FileNotFoundError."""
    for place in _PLACES:
        if (place / name).is_file():
            return place / name
    raise FileNotFoundError(f"no sample {name!r} in {' or '.join(map(str, _PLACES))}")


def read_links(path: Path) -> list[tuple[str, str]]:
    """Read `source,linked` pairs, one a line under that header; raises ValueError for anything else."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = csv.reader(file, strict=True)
            links = [(source.strip(), linked.strip()) for source, linked in rows]
    except (ValueError, csv.Error) as problem:
        raise ValueError(f"{path} is no list of links: {problem}") from problem
    if header != ["source", "linked"]:
        raise ValueError(f"{path} is no list of links: its first line is not source,linked")
    return links
