"""Whether tasks we sent and heard nothing of stand in an incident's command-centre log. In doubt, nothing is proven.

With its mark (`sansio.marks`) a task is found exactly. Without, an entry is a task's trace only if it shows the task's
name, description, assignee and due date, all four. Tasks we know were created claim their traces first, and of tasks
that look alike as many are proven as traces are left over.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from d3async.sansio.marks import marks_in
from d3async.sansio.told_times import told_time
from d3async.sansio.traces import entries, forms

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from d3async.sansio.traces import Entry, Leaf

GET_LOGS = "GetIncidentCommandCenterLogs"
TASKS, HISTORY = 7, 14
"""Log types "Ad Hoc Tasks" and "Ad Hoc Tasks - Task Creation History"."""
SETTLED = 30.0
"""Seconds after sending before its absence from a log says anything about a task."""

_WORDS = re.compile(r"\w")
_NOT_ASSIGNED = ("assigner", "assignor", "assignedby")
_ACTORS = ("creator", "createdby", "operator", "author", "modifiedby", "user", "username", "owner", "by")


@dataclass(frozen=True)
class SentTask:
    """A task as it was sent; *job* is its row in the journal.

    *since* is when it was sent first and *last* when it was sent last, in seconds since 1970; *mark* None without one.
    """

    job: int
    name: str
    description: str
    assignee: str
    due: str
    since: float
    last: float
    mark: str | None = None

    @cached_property
    def looks(self) -> tuple[str, str, str, str]:
        """What tells it from other tasks in a log; alike for tasks nothing tells apart."""
        return (_least(self.name), _least(self.description), _least(self.assignee), self.due)


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of a task now: only `proven` and `absent` may settle it, `absent` only if the user says so."""

    word: Literal["proven", "absent", "ambiguous", "not_proven"]
    why: str


def logs_query(incident: str, log_type: int) -> dict[str, Any]:
    """CommandParams of GetIncidentCommandCenterLogs.

    https://docs.d3security.com/api-docs/Working-version/get-incident-command-center-logs
    """
    return {"Incident Number": incident, "Log Type ID": [log_type]}


def search(
    unknown: Sequence[SentTask], known: Sequence[SentTask], logs: Mapping[int, Any], *, now: float
) -> dict[int, Finding]:
    """What *logs* (answers by log type) of one incident say of the tasks *unknown*, by job.

    *known* are tasks of ours in the same incident that D3 said it created. *now* in seconds since 1970.
    """
    log = _Log(logs)
    found = {}
    alike = defaultdict(list)
    for task in unknown:
        if task.mark is not None:
            found[task.job] = _by_mark(task, known, log, now)
        else:
            alike[task.looks].append(task)
    claimed = Counter(task.looks for task in known)
    for looks, tasks in alike.items():
        found |= _by_content(tasks, claimed[looks], log)
    return found


def _by_mark(task: SentTask, known: Sequence[SentTask], log: _Log, now: float) -> Finding:
    if task.mark in log.marks:
        return Finding("proven", "its mark stands in the incident's log")
    others = [other.mark for other in known if other.mark is not None]
    shown = sum(mark in log.marks for mark in others)
    if not log.entries:
        return Finding("not_proven", "the incident's log lists nothing")
    if not others or shown < len(others):
        seen = f"of {len(others)} created tasks it shows {shown}" if others else "no other marked task is known there"
        return Finding("not_proven", f"its mark is not in the incident's log, which proves nothing: {seen}")
    if now - task.last < SETTLED:
        return Finding("not_proven", f"its mark is not in the incident's log yet: sent {now - task.last:.0f} s ago")
    return Finding("absent", f"its mark is not in the incident's log, which shows all {shown} others that were created")


def _by_content(tasks: Sequence[SentTask], claimed: int, log: _Log) -> Iterator[tuple[int, Finding]]:
    """Tasks that look alike; *claimed* others that do are known to be created."""
    traces = log.traces(min(tasks, key=lambda task: task.since), several=len(tasks) + claimed > 1)
    proven = max(0, min(len(tasks), traces - claimed))
    count = len(tasks) + claimed
    for place, task in enumerate(tasks):
        if place < proven:
            why = "the incident's log shows it" if count == 1 else f"the incident's log shows {traces} of {count} alike"
            yield task.job, Finding("proven", why)
        elif traces:
            why = f"{count} tasks look like this one, the incident's log shows {traces} of them"
            yield task.job, Finding("ambiguous", why)
        else:
            yield task.job, Finding("not_proven", "not found in the incident's log, which does not prove its absence")


class _Log:
    """The answers of one incident, indexed by what their entries say."""

    def __init__(self, logs: Mapping[int, Any]) -> None:
        self._entries = {log_type: entries(answer) for log_type, answer in logs.items()}
        self.entries = sum(map(len, self._entries.values()))
        self.marks = {mark for text in self._texts() for mark in marks_in(text)}
        # where the filter by type does nothing, both answers list every task, and maybe twice
        self._separate = len(logs) < 2 or len({str(answer) for answer in logs.values()}) == len(logs)  # noqa: PLR2004 - two to compare
        self._by_text = {log_type: _index(found) for log_type, found in self._entries.items()}

    def _texts(self) -> Iterator[str]:
        for found in self._entries.values():
            for entry in found:
                for leaf in entry.leaves:
                    yield leaf.text
                    yield from leaf.forms

    def traces(self, task: SentTask, *, several: bool) -> int:
        """How many tasks that look like *task* the log shows; a low count where it can't be told."""
        counts = {log_type: self._count(task, log_type) for log_type in self._entries}
        if not several:
            return min(1, max((count for count, _ in counts.values()), default=0))
        count, typed = counts.get(HISTORY, (0, True))
        if count and (typed or self._separate):
            return count
        return min(1, max((count for count, _ in counts.values()), default=0))

    def _count(self, task: SentTask, log_type: int) -> tuple[int, bool]:
        """How many entries fit, and whether every one of them says that it is of *log_type*."""
        found = self._entries[log_type]
        places = set().union(*(self._by_text[log_type].get(form, ()) for form in forms(task.name)))
        fitting = {place for place in places if _fits(found[place], task)}
        types = [_type_of(found[place]) for place in fitting]
        return sum(kind in {None, log_type} for kind in types), None not in types


def _index(found: Sequence[Entry]) -> dict[str, set[int]]:
    """Places of entries by each text in them."""
    by_text = defaultdict(set)
    for place, entry in enumerate(found):
        for leaf in entry.leaves:
            for text in leaf.forms | leaf.pieces:
                by_text[text].add(place)
    return by_text


def _fits(entry: Entry, task: SentTask) -> bool:
    """Whether *entry* shows all of *task*. Where a key says what stands under it, only that counts."""
    names = _under(entry, "taskname", "tasktitle") or entry.leaves
    texts = _under(entry, "desc") or entry.leaves
    name, description = forms(task.name), forms(task.description)
    named = [leaf for leaf in names if name & (leaf.forms | leaf.pieces)]
    described = [leaf for leaf in texts if description & (leaf.forms | leaf.pieces)]
    if not named or not described or (named == described and len(named) == 1 and name & description):
        return False
    due = datetime.fromisoformat(task.due)
    return (
        any(_says_due(leaf.text, due) for leaf in _under(entry, "due") or entry.leaves)
        and _assigned(entry, task, name | description)
        and not _too_early(entry, task.since, due)
    )


def _under(entry: Entry, *words: str) -> list[Leaf]:
    return [leaf for leaf in entry.leaves if leaf.text.strip() and any(word in leaf.key for word in words)]


def _says_due(text: str, due: datetime) -> bool:
    told = told_time(text)
    if told is not None:
        return told.same(due)
    return any(_stands_in(f"{due:%Y-%m-%d}{between}{due:%H:%M:%S}", text) for between in " T")


def _assigned(entry: Entry, task: SentTask, others: frozenset[str]) -> bool:
    """Whether it says that *task*'s assignee is the one. Who only did it, or is named in its texts, is not."""
    wanted = forms(task.assignee)
    labelled = [leaf for leaf in _under(entry, "assign") if not any(word in leaf.key for word in _NOT_ASSIGNED)]
    if labelled:
        return any(_stands_in(name, form) for leaf in labelled for form in leaf.forms for name in wanted)
    plain = [leaf for leaf in entry.leaves if leaf.key not in _ACTORS]
    if any(wanted & leaf.forms for leaf in plain):
        return True
    said = {piece for leaf in plain for piece in leaf.pieces - others}
    return any(_stands_in(f"{word} {name}", piece) for piece in said for word in ("for", "to") for name in wanted)


def _stands_in(part: str, text: str) -> bool:
    """Whether *part* stands in *text* with no letter or digit beside it."""
    at = text.find(part)
    while at >= 0:
        before, after = text[at - 1 : at] if at else "", text[at + len(part) : at + len(part) + 1]
        if not _WORDS.match(before) and not _WORDS.match(after):
            return True
        at = text.find(part, at + 1)
    return False


def _too_early(entry: Entry, since: float, due: datetime) -> bool:
    """Whether some time in *entry*, other than a due date, was before the task was sent first."""
    times = [told_time(leaf.text) for leaf in entry.leaves if "due" not in leaf.key]
    return any(told.before(since) for told in times if told is not None and not told.same(due))


def _type_of(entry: Entry) -> int | None:
    """The log type an entry says it is of."""
    for leaf in entry.leaves:
        if "logtype" in leaf.key and leaf.text.strip().isdecimal():
            return int(leaf.text)
    return None


def _least(text: str) -> str:
    return min(forms(text), default="")
