"""What the sandbox holds: which incidents exist, how they are linked, which tasks they carry."""

import re
from collections.abc import Collection, Iterable
from fnmatch import translate
from sys import intern
from typing import NamedTuple

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
    def from_params(cls, n: int, params: dict[str, str], creator: str) -> "Task":
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
