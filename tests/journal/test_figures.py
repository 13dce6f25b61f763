"""Figures of a run, against numbers worked by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from d3async.journal import protocols
from d3async.journal.sqlite.reader import FILE, FolderReader
from tests.journal.factory import START, Entry, make, unsent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[FolderReader]:
    entries = [
        Entry("a", sent_at=START, done_at=START + 0.04),
        Entry("b", sent_at=START + 1, done_at=START + 1.5),
        Entry("c", "failed", sent_at=START + 1, done_at=START + 1.9),
        Entry("d", sent_at=START + 10, done_at=START + 100),
        Entry("other run", sent_at=START, done_at=START + 1, epoch=2),
        # sent again by a later run and given back, as after a 401: the answer is the earlier one
        Entry("answered before", "failed", sent_at=START + 60, done_at=START + 5, epoch=2),
        Entry("answered before", "failed", sent_at=START + 60, done_at=START + 5, epoch=3),
        unsent("e"),
        Entry("gone", sent_at=START - 500, done_at=START - 499, vanished=True),
    ]
    events = (
        (1, START + 1.2, "throttled", 5.0, ""),
        (1, START + 1.3, "throttled", 5.0, ""),
        (1, START + 6, "pause", 4.5, ""),
        (1, START + 20, "outage", 8.0, ""),
        (1, START + 30, "rate", 48.0, ""),
        (2, START, "throttled", 5.0, ""),
    )
    with FolderReader(make(tmp_path, entries, events=events) / FILE) as reader:
        yield reader


def test_a_run_spans_from_its_first_sending_to_its_last_answer(reader: FolderReader) -> None:
    assert protocols.spans(reader) == {1: (START, START + 100), 2: (START, START + 1)}


def test_answers_are_counted_by_stretch_of_time_and_run(reader: FolderReader) -> None:
    assert protocols.answered(reader, 1, START, 10) == [(0, 2, 1), (10, 1, 0)]


def test_429s_are_counted_by_stretch_of_time_and_run(reader: FolderReader) -> None:
    assert protocols.throttled(reader, 1, START, 1) == {1: 2}


def test_a_pause_began_as_long_before_it_was_noted_as_it_lasted_and_an_outage_when_it_was_noted(
    reader: FolderReader,
) -> None:
    assert protocols.pauses(reader, 1, 10) == [(START + 20, 8.0), (START + 1.5, 4.5)]
    assert protocols.pauses(reader, 1, 1) == [(START + 20, 8.0)]


def test_each_answer_is_within_the_first_bound_that_holds_it(reader: FolderReader) -> None:
    assert protocols.latency_counts(reader, (0.05, 0.5, 1)) == [1, 1, 2, 1]
