"""Whether tasks that were sent without an answer are in an incident's command-centre log. In doubt, nothing is proven.

With its mark (the reference that `--mark-tasks` puts at the end of a Task Description) a task is found exactly.
Without, an entry is a task's trace only if it shows the task's name, description, assignee and due date, all four. A
trace that may be another task's of ours counts only when there are enough for all of them; of tasks that are the same,
as many are proven as traces are left over.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from d3async.d3.log_entries import entries, forms, told_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from d3async.d3.log_entries import LogEntry, LogValue

    Trace = tuple[int, int]

DESCRIPTION = "Task Description"
MARK_START = "[d3async "
_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
_MARK = re.compile(rf"{re.escape(MARK_START)}([{_LETTERS}]{{8}})\]", re.IGNORECASE)


def mark_of(salt: str, identity: bytes, occurrence: int) -> str:
    """The mark of one row: 40 bits as 8 letters, the same whenever it is asked for.

    *salt* belongs to the run folder: the same row in another folder is another task.
    """
    origin = b"\x1f".join((salt.encode(), str(occurrence).encode(), identity))
    number = int.from_bytes(blake2b(origin, digest_size=5).digest(), "big")
    return "".join(_LETTERS[number >> shift & 31] for shift in range(35, -5, -5))


def marked(params: Mapping[str, Any], mark: str) -> dict[str, Any]:
    """CreateTask's *params* with *mark* at the end of the description, once."""
    description = str(params[DESCRIPTION])
    ending = _ending(mark)
    return {**params, DESCRIPTION: description if description.endswith(ending) else description + ending}


def unmarked(params: Mapping[str, Any], mark: str) -> dict[str, Any]:
    """CreateTask's *params* without *mark*."""
    return {**params, DESCRIPTION: str(params[DESCRIPTION]).removesuffix(_ending(mark))}


def with_mark(params: str, mark: str) -> str:
    """`marked` of *params* as JSON."""
    return _text(marked(json.loads(params), mark))


def without_mark(params: str, mark: str) -> str:
    """`unmarked` of *params* as JSON."""
    return _text(unmarked(json.loads(params), mark))


def mark_in(params: Mapping[str, Any], mark: str) -> bool:
    """Whether *params* were sent with *mark*."""
    return str(params[DESCRIPTION]).endswith(_ending(mark))


def marks_in(text: str) -> set[str]:
    """Every mark in *text*, whatever blanks and letter case it went through."""
    return {mark.lower() for mark in _MARK.findall(" ".join(text.split()))}


def _text(params: Mapping[str, Any]) -> str:
    return json.dumps(params, ensure_ascii=False, separators=(",", ":"))


def _ending(mark: str) -> str:
    return f" {MARK_START}{mark}]"


GET_LOGS = "GetIncidentCommandCenterLogs"
TASKS, HISTORY = 7, 14
"""Log types "Ad Hoc Tasks" and "Ad Hoc Tasks - Task Creation History"."""
SETTLED = 30.0
"""Seconds after sending before its absence from a log says anything about a task."""

_NOT_ASSIGNED = ("assigner", "assignor", "assignedby")
_ACTORS = ("creator", "createdby", "operator", "author", "modifiedby", "user", "username", "owner", "by")
_BETWEEN_PEOPLE = re.compile(r"[();,<>/|\[\]]+")


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

    @property
    def looks(self) -> tuple[str, str, str, str]:
        """All that a log may tell it by from other tasks."""
        return (self.name, self.description, self.assignee, self.due)


@dataclass(frozen=True, slots=True)
class TaskMatch:
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
) -> dict[int, TaskMatch]:
    """What *logs* (answers by log type) of one incident say of the tasks *unknown*, by job.

    *known* are tasks of ours in the same incident that D3 said it created. *now* in seconds since 1970.
    """
    log = _Log(logs)
    found = {task.job: _by_mark(task, known, log, now) for task in unknown if task.mark is not None}
    rivals = [(task, log.traces(task)) for task in known if task.mark is None]
    open_tasks = [(task, log.traces(task)) for task in unknown if task.mark is None]
    for task, traces in open_tasks:
        others = [other for other in open_tasks if other[0].looks != task.looks]
        count = 1 + sum(not traces.isdisjoint(theirs) for _, theirs in chain(rivals, others))
        found[task.job] = _by_content(count, log.shown(traces, several=count > 1))
        if found[task.job].word == "proven":
            rivals.append((task, traces))
    return found


def _by_mark(task: SentTask, known: Sequence[SentTask], log: _Log, now: float) -> TaskMatch:
    if task.mark in log.marks:
        return TaskMatch("proven", "its mark is in the incident's log")
    others = [other.mark for other in known if other.mark is not None]
    shown = sum(mark in log.marks for mark in others)
    if not log.entries:
        return TaskMatch("not_proven", "the incident's log lists nothing")
    if not others or shown < len(others):
        seen = f"of {len(others)} created tasks it shows {shown}" if others else "no other marked task is known there"
        return TaskMatch("not_proven", f"its mark is not in the incident's log, which proves nothing: {seen}")
    if now - task.last < SETTLED:
        return TaskMatch("not_proven", f"its mark is not in the incident's log yet: sent {now - task.last:.0f} s ago")
    return TaskMatch(
        "absent", f"its mark is not in the incident's log, which shows all {shown} others that were created"
    )


def _by_content(tasks: int, shown: int) -> TaskMatch:
    """Of a task and its rivals, *tasks* in all, the log shows *shown*: the rivals, who come first, or all of them."""
    if shown >= tasks:
        return TaskMatch("proven", "the incident's log shows it")
    if shown:
        return TaskMatch("ambiguous", f"{tasks} tasks of ours look like this one, the incident's log shows {shown}")
    return TaskMatch("not_proven", "not found in the incident's log, which does not prove its absence")


class _Log:
    """The answers of one incident, indexed by what their entries say."""

    def __init__(self, logs: Mapping[int, Any]) -> None:
        self._entries = {log_type: entries(answer) for log_type, answer in logs.items()}
        self.entries = sum(map(len, self._entries.values()))
        self.marks = {mark for text in self._texts() for mark in marks_in(text)}
        # where the filter by type does nothing, both answers list every task, and maybe twice
        self._separate = len(logs) < 2 or len({str(answer) for answer in logs.values()}) == len(logs)  # noqa: PLR2004 - two to compare
        self._traces: dict[tuple[str, ...], frozenset[Trace]] = {}
        self._by_text = {log_type: _index(found) for log_type, found in self._entries.items()}

    def _texts(self) -> Iterator[str]:
        for found in self._entries.values():
            for entry in found:
                for leaf in entry.leaves:
                    yield leaf.text
                    yield from leaf.forms

    def traces(self, task: SentTask) -> frozenset[Trace]:
        """Where the log shows a task that looks like *task*."""
        if task.looks not in self._traces:
            self._traces[task.looks] = frozenset(self._search(task))
        return frozenset(trace for trace in self._traces[task.looks] if not self._too_early(trace, task))

    def _search(self, task: SentTask) -> Iterator[Trace]:
        person = forms(task.assignee)
        for log_type, found in self._entries.items():
            for place in _both(self._by_text[log_type], task):
                if any(name in found[place].said for name in person) and _fits(found[place], task):
                    yield log_type, place

    def _too_early(self, trace: Trace, task: SentTask) -> bool:
        return _too_early(self._entries[trace[0]][trace[1]], task.since, datetime.fromisoformat(task.due))

    def shown(self, traces: frozenset[Trace], *, several: bool) -> int:
        """How many tasks *traces* stand for; a low count where one task may be shown more than once."""
        types = [_type_of(self._entries[log_type][place]) for log_type, place in traces if log_type == HISTORY]
        if several and types and (self._separate or None not in types):
            return sum(kind in {None, HISTORY} for kind in types)
        return min(1, len(traces))


def _both(by_text: Mapping[str, set[int]], task: SentTask) -> set[int]:
    """Places of entries in which both name and description stand."""
    named = set[int]().union(*(by_text.get(form, ()) for form in forms(task.name)))
    return named & set[int]().union(*(by_text.get(form, ()) for form in forms(task.description)))


def _index(found: Sequence[LogEntry]) -> dict[str, set[int]]:
    """Places of entries by each text in them."""
    by_text = defaultdict(set)
    for place, entry in enumerate(found):
        for leaf in entry.leaves:
            for text in leaf.forms | leaf.pieces:
                by_text[text].add(place)
    return by_text


def _fits(entry: LogEntry, task: SentTask) -> bool:
    """Whether *entry* shows all of *task*. Where a key says what its value is, only that counts."""
    name, description = forms(task.name), forms(task.description)
    labelled = _under(entry, "taskname", "tasktitle")
    named = [leaf for leaf in labelled if name & leaf.forms]
    if not labelled:
        named = [leaf for leaf in entry.leaves if name & (leaf.forms | leaf.pieces)]
    described = [leaf for leaf in _under(entry, "desc") or entry.leaves if description & leaf.forms]
    if not named or not described or (named == described and len(named) == 1):
        return False
    due = datetime.fromisoformat(task.due)
    if not any(_says_due(leaf.text, due) for leaf in _under(entry, "due") or entry.leaves):
        return False
    others = [leaf for leaf in entry.leaves if leaf not in described and not name & leaf.forms]
    return _assigned(others, task, name)


def _under(entry: LogEntry, *words: str) -> list[LogValue]:
    return [leaf for leaf in entry.leaves if leaf.text.strip() and any(word in leaf.key for word in words)]


def _says_due(text: str, due: datetime) -> bool:
    told = told_time(text)
    if told is not None:
        return told.same(due)
    return re.search(rf"(?<![\w-]){due:%Y-%m-%d}[ T]{due:%H:%M:%S}(?![\w])", text) is not None


def _assigned(leaves: Sequence[LogValue], task: SentTask, name: frozenset[str]) -> bool:
    """Whether *leaves* say that the task is *task*'s assignee's. Who only wrote it down is not meant."""
    wanted = forms(task.assignee)
    labelled = [leaf for leaf in leaves if "assign" in leaf.key and not any(word in leaf.key for word in _NOT_ASSIGNED)]
    if labelled:
        people = (part for leaf in labelled for form in leaf.forms for part in (form, *_BETWEEN_PEOPLE.split(form)))
        return any(person.strip() in wanted for person in people)
    plain = [leaf for leaf in leaves if leaf.key not in _ACTORS]
    if any(wanted & leaf.forms for leaf in plain):
        return True
    said = [piece for leaf in plain for piece in leaf.pieces - name]
    return any(_given_to(person, piece) for person in wanted for piece in said)


def _given_to(person: str, sentence: str) -> bool:
    """`… for bob ray.`, and not `… for bob ray-jones` or `… for bob ray smith`."""
    after = r"(?!\w|-\w)(?!\s+(?!(?:by|on|at|in|due|with)\b)\w)"
    return re.search(rf"(?<![\w-])(?:for|to) {re.escape(person)}{after}", sentence) is not None


def _too_early(entry: LogEntry, since: float, due: datetime) -> bool:
    """Whether some time in *entry*, other than a due date, was before the task was sent first."""
    times = [told_time(leaf.text) for leaf in entry.leaves if "due" not in leaf.key]
    return any(told.before(since) for told in times if told is not None and not told.same(due))


def _type_of(entry: LogEntry) -> int | None:
    """The log type an entry says it is of."""
    for leaf in entry.leaves:
        if "logtype" in leaf.key and leaf.text.strip().isdecimal():
            return int(leaf.text)
    return None
