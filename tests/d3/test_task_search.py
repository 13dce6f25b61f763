"""When a log proves that a task was created: shapes in which it does, and what only looks like it."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3async.d3.task_search import HISTORY, TASKS, SentTask, logs_query, search
from d3async.sandbox.answers import log_entries
from d3async.sandbox.state import Task

SENT_AT = datetime(2026, 11, 22, 6, 0, tzinfo=UTC).timestamp()
NOW = SENT_AT + 3600
MARK, OTHER_MARK = "7f3k2m9x", "00000000"


def task(job: int = 1, **fields: Any) -> SentTask:
    known = {
        "name": "Call the user ",
        "description": "Ask whether a < b & c.\nThen write.",
        "assignee": "Bob Ray",
        "due": "2026-12-31 17:00:00",
        "since": SENT_AT,
        "last": SENT_AT,
    }
    return SentTask(job, **known | fields)


def told(one: SentTask | None = None, **fields: Any) -> dict[str, Any]:
    """An entry as the documented echo of CreateTask words a task."""
    one = one or task()
    return {
        "Task Name": one.name.strip(),
        "Task Description": f"<p>{one.description}</p>",
        "Assignee": one.assignee,
        "Due Date": f"{one.due} China Standard Time",
        "Creator": "admin user",
    } | fields


def narrated(**fields: Any) -> dict[str, Any]:
    """An entry that tells it as a sentence, with the rest as JSON in a text."""
    details = {"desc": "Ask whether a < b & c.\nThen write.", "dueDate": "2026-12-31 17:00:00"}
    return {
        "message": "<p>admin user created the ad hoc task <b>Call the user</b> for Bob Ray.</p>",
        "user": "admin user",
        "details": json.dumps(details),
    } | fields


def word(entries: Any, sent: SentTask | None = None, known: tuple[SentTask, ...] = (), **more: Any) -> str:
    answer = {"error": "", "returnData": {"Status": "Successful", "Data": entries}}
    logs = more.pop("logs", {HISTORY: answer, TASKS: {}})
    return search([sent or task()], known, logs, now=NOW)[1].word


NOISE = {"Log Type": "Messages", "Content": "nothing to see"}


@pytest.mark.parametrize(
    "entries",
    [
        [told(), NOISE],
        [told()],
        {"123": told(), "124": told(task(name="Another"))},
        [{"Content": told(), "Log ID": 7}, NOISE],
        [{"Content": json.dumps(told())}, NOISE],
        [{"Fields": [{"name": key, "value": value} for key, value in told().items()]}, NOISE],
        [{"day": "today", "logs": [told(), NOISE]}, NOISE],
        [list(told().values()), ["a", "row", "of", "a", "table"]],
        [told(**{"Task Description": "Ask whether a &lt; b &amp; c.<br>Then write."}), NOISE],
        [told(**{"Task Name": "CALL  the user"}), NOISE],
        [told(**{"Due Date": "12/31/2026 05:00 PM PST"}), NOISE],
        [told(**{"Due Date": "Dec 31, 2026 17:00 China Standard Time"}), NOISE],
        [told(**{"Due Date": "2026-12-31T17:00:00Z"}), NOISE],
        [told(Assignee=["Bob Ray"]), NOISE],
        [told(Assignee="Bob Ray (bray)"), NOISE],
        [narrated(), NOISE],
        [narrated(message='Task "Call the user" was assigned to Bob Ray.'), NOISE],
    ],
    ids=lambda entries: str(entries)[:50],
)
def test_an_entry_that_shows_all_of_the_task_proves_it(entries: Any) -> None:
    assert word(entries) == "proven"


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [NOISE],
        [told(**{"Task Name": "Call the user again"}), NOISE],
        [told(**{"Task Description": "Ask something else."}), NOISE],
        [told(Assignee="Bobby Ray"), NOISE],
        [told(**{"Due Date": "2026-12-30 17:00:00 China Standard Time"}), NOISE],
        [told(**{"Due Date": "2026-12-31 17:00:01"}), NOISE],
        [{key: value for key, value in told().items() if key != "Due Date"}, NOISE],
        [{key: value for key, value in told().items() if key != "Task Description"}, NOISE],
        # each half of it stands in another entry
        [{"Task Name": "Call the user", "Assignee": "Bob Ray"}, {"x": told()["Task Description"], "y": task().due}],
        {"1": {"a": "Call the user", "b": "Bob Ray"}, "2": {"a": told()["Task Description"], "b": task().due}},
        ["Call the user", "for Bob Ray", "Ask whether a < b & c. Then write.", "2026-12-31 17:00:00"],
        # Bob Ray only wrote it down, for somebody else
        [narrated(message="<p>Bob Ray created the task <b>Call the user</b> for Ann.</p>", user="Bob Ray"), NOISE],
        [narrated(message="<b>Call the user</b> was assigned to Ann by Bob Ray"), NOISE],
        [told(**{"Assignee": "Ann", "Assigned By": "Bob Ray"}), NOISE],
        # the name is only part of another text
        [told(**{"Task Name": "Another", "Task Description": "Call the user"}), NOISE],
    ],
    ids=lambda entries: str(entries)[:50],
)  # fmt: skip
def test_less_than_all_of_the_task_in_one_entry_proves_nothing(entries: Any) -> None:
    assert word(entries) == "not_proven"


def test_a_name_that_is_its_description_too_must_stand_there_twice() -> None:
    same = task(name="Call", description="Call")
    entry = {"title": "Call", "text": "Something else", "assignee": "Bob Ray", "due": "2026-12-31 17:00:00"}

    assert word([entry, NOISE], same) == "not_proven"
    assert word([entry | {"text": "<p>Call</p>"}, NOISE], same) == "proven"


@pytest.mark.parametrize(
    ("logged", "expected"),
    [
        ("2026-11-22 06:00:05 UTC", "proven"),
        ("2026-11-22 05:59:30 UTC", "proven"),  # clocks differ by half a minute
        ("2026-11-22 05:58:00 UTC", "not_proven"),
        ("2026-11-22T05:58:00Z", "not_proven"),
        ("2026-11-22 14:00:05 (UTC+08:00) Beijing", "proven"),
        ("2026-11-22 06:00:05+08:00", "not_proven"),
        ("2026-11-22 05:00:00", "proven"),  # in a zone nobody told: some place's 05:00 is later
        ("2026-11-21 17:00:00 China Standard Time", "not_proven"),  # nowhere on earth
        ("11/20/2026 06:08 AM PST", "not_proven"),
        ("yesterday", "proven"),
    ],
)
def test_a_trace_from_before_we_sent_it_is_no_proof(logged: str, expected: str) -> None:
    assert word([told(Time=logged), NOISE]) == expected


def answers(entries: list[Any], tasks: list[Any] | None = None) -> dict[int, Any]:
    return {HISTORY: {"Data": entries}, TASKS: {"Data": tasks or []}}


@pytest.mark.parametrize(
    ("unknown", "known", "traces", "proven"),
    [(2, 0, 1, 1), (2, 0, 2, 2), (2, 0, 3, 2), (2, 0, 0, 0), (1, 1, 1, 0), (1, 1, 2, 1), (3, 1, 2, 1), (1, 2, 1, 0)],
)
def test_tasks_that_look_alike_are_proven_as_often_as_they_are_shown(
    unknown: int, known: int, traces: int, proven: int
) -> None:
    rows = [task(job) for job in range(1, unknown + 1)]
    created = [task(100 + n, name="call THE user") for n in range(known)]
    found = search(rows, created, answers([{"Log ID": n, **told()} for n in range(traces)] + [NOISE]), now=NOW)

    assert [finding.word for finding in found.values()].count("proven") == proven
    assert [found[job].word for job in range(1, proven + 1)] == ["proven"] * proven
    assert {found[job].word for job in range(proven + 1, unknown + 1)} <= ({"ambiguous"} if traces else {"not_proven"})


def test_one_task_shown_under_both_types_is_one_task() -> None:
    """A server that takes no notice of the type lists each task in both answers, maybe twice."""
    rows = [task(1), task(2)]
    both = [told(), told()]
    typed = [{"Log Type ID": kind, **told()} for kind in (TASKS, HISTORY)]

    assert search(rows, (), answers(both, both), now=NOW)[2].word == "ambiguous"
    assert search(rows, (), answers(typed, typed), now=NOW)[2].word == "ambiguous"
    assert search(rows, (), answers([told()], [told()]), now=NOW)[2].word == "ambiguous"


def test_a_task_alike_for_somebody_else_proves_only_that_one() -> None:
    rows = [task(1), task(2, assignee="Ann Lee")]
    found = search(rows, (), answers([told(rows[1]), NOISE]), now=NOW)

    assert (found[1].word, found[2].word) == ("not_proven", "proven")


@pytest.mark.parametrize(
    ("text", "known", "seconds_ago", "expected"),
    [
        (f"<p>Ask.</p> [d3async {MARK}]", (), 5, "proven"),
        (f"[D3ASYNC {MARK.upper()}]", (), 5, "proven"),
        ("Ask.", (), 3600, "not_proven"),
        (f"[d3async {OTHER_MARK}]", (OTHER_MARK,), 3600, "absent"),
        (f"[d3async {OTHER_MARK}]", (OTHER_MARK,), 29, "not_proven"),
        (f"[d3async {OTHER_MARK}]", (OTHER_MARK, "11111111"), 3600, "not_proven"),
        (f"[d3async {OTHER_MARK}]", (), 3600, "not_proven"),
        ("", (OTHER_MARK,), 3600, "not_proven"),
    ],
)
def test_a_mark_is_exact_and_its_absence_counts_only_where_all_others_are_shown(
    text: str, known: tuple[str, ...], seconds_ago: float, expected: str
) -> None:
    row = task(1, mark=MARK, last=NOW - seconds_ago)
    created = [task(100, name=f"Other {mark}", mark=mark) for mark in known]

    assert search([row], created, answers([{"x": text}, {"x": ""}]), now=NOW)[1].word == expected


def test_a_marked_task_is_not_proven_by_what_looks_like_it() -> None:
    assert word([told(), NOISE], task(mark=MARK)) == "not_proven"


def test_the_query_names_the_incident_and_one_type() -> None:
    assert logs_query("20220125-1", HISTORY) == {"Incident Number": "20220125-1", "Log Type ID": [14]}


people = st.sampled_from(["Bob Ray", "Ann", "admin user", "Ann Lee"])
words = st.sampled_from(["Call", "Call Ann", "for Ann", "Call <b>Ann</b>", "a < b", "x"])
dues = st.sampled_from(["2026-12-31 17:00:00", "2026-12-30 17:00:00"])
histories = st.lists(
    st.tuples(words, words, people, dues, st.sampled_from(["known", "happened", "lost", "stranger"])), max_size=8
)


def bare(one: SentTask) -> tuple[str, ...]:
    """A task as a log shows it that drops markup from texts."""
    return (*(re.sub("</?b>", "", text) for text in (one.name, one.description)), one.assignee, one.due)


@given(histories, st.sampled_from([1, 2]))
def test_whatever_happened_no_more_tasks_are_proven_than_were_created(rows: list[tuple[str, ...]], shape: int) -> None:
    """Rows of ours D3 confirmed, rows of ours that happened or got lost, and tasks of somebody else, in any mixture."""
    sent, created, happened = [], [], Counter[Any]()
    logged = []
    for job, (name, description, assignee, due, fate) in enumerate(rows):
        one = task(job, name=name, description=description, assignee=assignee, due=due)
        if fate != "lost":
            logged.append(Task(job, "1-1", name, "Default", description, assignee, due, "No", "admin user"))
            happened[bare(one)] += 1
        if fate in {"happened", "lost"}:
            sent.append(one)
        elif fate == "known":
            created.append(one)
    logs = {kind: log_entries(logged, [kind], shape=shape, zone_label="PST") for kind in (HISTORY, TASKS)}

    found = search(sent, created, logs, now=NOW)

    ours = Counter(map(bare, created))
    ours.update(bare(one) for one in sent if found[one.job].word == "proven")
    assert all(count <= happened[looks] for looks, count in ours.items())


plain = st.sampled_from(["Call", "Call Ann", "for Ann", "a < b", "Ask & wait.\nThen go."])


@given(st.lists(st.tuples(plain, plain, people, dues, st.booleans()), unique_by=lambda row: row[:4], max_size=12))
@pytest.mark.parametrize("shape", [1, 2])
def test_of_tasks_that_differ_just_those_that_happened_are_proven(shape: int, rows: list[tuple[Any, ...]]) -> None:
    sent = [task(n, name=row[0], description=row[1], assignee=row[2], due=row[3]) for n, row in enumerate(rows)]
    logged = [
        Task(n, "1-1", name, "Default", description, assignee, due, "No", "admin user")
        for n, (name, description, assignee, due, happened) in enumerate(rows)
        if happened
    ]
    logs = {kind: log_entries(logged, [kind], shape=shape, zone_label="PST") for kind in (HISTORY, TASKS)}

    found = search(sent, (), logs, now=NOW)

    assert [finding.word == "proven" for finding in found.values()] == [row[4] for row in rows]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(list(told().values())),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*told(), "name", "value"]), inner),
    max_leaves=30,
)


@given(anything, anything)
def test_no_answer_breaks_the_search_or_proves_more_tasks_than_it_has_texts(one: Any, other: Any) -> None:
    rows = [task(job) for job in range(1, 6)]
    found = search(rows, (), {HISTORY: one, TASKS: other}, now=NOW)
    names = json.dumps([one, other]).casefold().count("call the user")

    assert set(found) == {1, 2, 3, 4, 5}
    assert sum(finding.word == "proven" for finding in found.values()) <= names


def test_an_answer_nested_deeper_than_any_sensible_one_is_left_alone() -> None:
    deep: Any = told()
    for _ in range(900):
        deep = [deep]

    assert word(deep) == "not_proven"
