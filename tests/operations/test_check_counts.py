"""What `check` looks at to find duplicates is enough: the journal's own rule finds no more in the whole file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from d3async.d3.commands.create_task import CreateTask
from d3async.d3.commands.remove_linked_incidents import RemoveLinkedIncidents
from d3async.jobs.job import Invalid, Job, Problem, request_of
from d3async.journal.sqlite.staging import Stage
from d3async.operations.job_file import CheckCounts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from d3async.d3.commands import Command

FEW = st.sampled_from(["a", "A", "b", "a "])
TASKS = st.fixed_dictionaries(
    {
        "incident": FEW,
        "name": FEW,
        "description": FEW,
        "assignee": st.just("x"),
        "due": st.just("2099-01-01 10:00:00"),
    }
).map(CreateTask.model_validate)
LINKS = st.fixed_dictionaries({"source": FEW, "linked": st.lists(FEW, min_size=1, max_size=2)}).map(
    RemoveLinkedIncidents.model_validate
)
KEYS = st.sampled_from([None, "k", "l"])


def entry(row: int, command: Command | None, site: str, key: str | None, profile: str | None) -> Job | Invalid:
    if command is None:
        return Invalid(row, row, "raw", (Problem("due", "due", "", "is empty"),), key)
    return Job(row, row, "raw", request_of(command), None, site, key, profile=profile)


ENTRIES = st.lists(
    st.tuples(
        st.one_of(TASKS, LINKS, st.none()), st.sampled_from(["", "Rome"]), KEYS, st.sampled_from([None, "a", "b"])
    ),
    min_size=1,
    max_size=12,
).map(lambda found: [entry(row, *parts) for row, parts in enumerate(found, 1)])


def duplicates(entries: Iterable[Job | Invalid], *, allow: bool) -> list[tuple[int, str]]:
    with closing(sqlite3.connect("")) as db:
        stage = Stage(db, keep=False)
        stage.add(entries)
        return [(found.row, found.problems[0].message) for found in stage.duplicates(allow=allow)]


@given(entries=ENTRIES, allow=st.booleans())
def test_suspects_alone_give_every_duplicate(entries: list[Job | Invalid], allow: bool) -> None:
    with CheckCounts() as tally:
        tally.add(entries)
        suspect = tally.suspect()

    found = duplicates(filter(suspect, entries), allow=allow) if suspect else []

    assert found == duplicates(entries, allow=allow)


@given(entries=ENTRIES)
def test_what_is_counted_is_what_the_journal_counts(entries: list[Job | Invalid]) -> None:
    with CheckCounts() as tally, closing(sqlite3.connect("")) as db:
        tally.add(entries)
        stage = Stage(db, keep=False)
        stage.add(entries)

        assert stage.facets() == {
            "subjects": tally.subjects.count(),
            "people": tally.people.count(),
            "items": tally.items,
        }
