"""What becomes of each row of a feedback file, by what the journal knows of the row that its mark names."""

from typing import Any

import pytest

from d3async.d3.commands.create_task import CreateTask
from d3async.d3.commands.remove_linked_incidents import RemoveLinkedIncidents
from d3async.jobs.feedback_rows import (
    KnownItem,
    KnownRow,
    Mark,
    Pair,
    Ruling,
    refusal,
    row_mark,
    rule,
    rule_job,
    whole,
    with_reasons,
)
from d3async.jobs.job import Job, request_of

UID = "u"
NOW, BEFORE = b"now", b"before"
FRESH, AGAIN = row_mark(UID, 7, NOW), row_mark(UID, 7, BEFORE)
R = Ruling


def known(state: str = "failed", **more: Any) -> KnownRow:
    row = KnownRow(7, 3, 4, state, None, None, NOW, None, "1,a", "CreateTask", "SOC", None, "20270101-1")
    return row._replace(**more)


@pytest.mark.parametrize(
    ("mark", "row", "ruling"),
    [
        (FRESH, known("failed"), R.CONTINUE),
        (FRESH, known("invalid"), R.CONTINUE),
        (FRESH, known("pending"), R.CONTINUE),
        (FRESH, known("partial"), R.CONTINUE),
        (FRESH, known("unknown"), R.STAYS),
        (FRESH, known("sent"), R.STAYS),
        (FRESH, known("ok"), R.SENT),
        (FRESH, known("failed", row=None), R.VANISHED),
        (FRESH, None, R.FOREIGN),
        (AGAIN, known("failed"), R.FOREIGN),
        (AGAIN, known("failed", before=BEFORE), R.CONTINUE),
        (AGAIN, known("pending", before=BEFORE), R.CONTINUE),
        (AGAIN, known("unknown", before=BEFORE), R.STAYS),
        (AGAIN, known("ok", before=BEFORE), R.DONE),
        (AGAIN, known("ok", before=b"other"), R.FOREIGN),
        (FRESH, known("ok", before=NOW), R.DONE),
        (row_mark("other", 7, NOW), known("failed"), R.FOREIGN),
    ],
)
def test_the_mark_and_the_journal_decide(mark: Mark, row: KnownRow | None, ruling: Ruling) -> None:
    assert rule(mark, UID, row) is ruling


def task(**fields: str) -> Job:
    values = {"incident": "20270101-1", "name": "a", "description": "x", "assignee": "u", "due": "2027-01-01 10:00:00"}
    return Job(3, 2, "1,a", request_of(CreateTask.model_validate({**values, **fields})), None, "SOC")


def links(linked: str, source: str = "S-1", **fields: Any) -> Job:
    job = Job(3, 2, "S", request_of(RemoveLinkedIncidents(source=source, linked=linked)), None, "SOC")  # type: ignore[arg-type] - the validator reads text
    return job._replace(**fields)


def link_row(state: str, *items: tuple[str, str, str | None]) -> KnownRow:
    told = [KnownItem(name, name.casefold(), item, code) for name, item, code in items]
    return known(state, command="RemoveLinkedIncidents", label="S-1", items=told)


PARTIAL = link_row(
    "partial",
    ("A", "ok", None),
    ("B", "failed", "not_linked"),
    ("C", "failed", "command_error"),
    ("D", "pending", None),
)


def test_a_row_that_was_done_as_the_file_says_is_done_and_one_that_says_something_else_is_refused() -> None:
    assert rule_job(R.DONE, task(), NOW, known("ok")) is R.DONE
    assert rule_job(R.DONE, task(name="b"), b"else", known("ok")) is R.SENT


def test_a_row_done_item_by_item_is_done_where_it_has_every_item_of_the_file() -> None:
    row = link_row("ok", ("A", "ok", None), ("c", "ok", None))

    assert rule_job(R.DONE, links("C"), b"else", row) is R.DONE
    assert rule_job(R.DONE, links("C;E"), b"else", row) is R.SENT
    assert rule_job(R.DONE, links("C", source="S-2"), b"else", row) is R.SENT


@pytest.mark.parametrize(
    ("listed", "items"),
    [
        ("C", ("A", "B", "C")),
        ("E", ("A", "B", "E")),
        ("E;a;F", ("A", "B", "E", "F")),
        ("b", ("A", "B")),
    ],
)
def test_of_a_partial_row_only_what_failed_or_waits_is_replaced(listed: str, items: tuple[str, ...]) -> None:
    assert whole(links(listed), PARTIAL).asked.items == items


@pytest.mark.parametrize("state", ["failed", "unknown", "ok", "pending"])
def test_a_row_that_is_not_partial_is_what_the_file_says(state: str) -> None:
    job = links("E")
    assert whole(job, PARTIAL._replace(state=state)) is job


@pytest.mark.parametrize(
    ("job", "ruling"),
    [
        (links("E"), R.CONTINUE),
        (links("E", source="s-1 "), R.CONTINUE),
        (links("E", source="S-2"), R.SPLIT),
        (links("E", site="Other"), R.SPLIT),
        (links("E", profile="other"), R.SPLIT),
    ],
)
def test_a_partial_row_keeps_its_source_for_items_are_done_there(job: Job, ruling: Ruling) -> None:
    assert rule_job(R.CONTINUE, job, b"else", PARTIAL) is ruling
    assert rule_job(R.CONTINUE, job, b"else", PARTIAL._replace(state="failed")) is R.CONTINUE


def test_a_refusal_shows_the_first_three_pairs_and_counts_the_rest() -> None:
    row = known("ok", raw="20270101-1,as sent")
    pairs = [Pair(R.SENT, line, Mark(line, "k3f9"), "20270101-1,as in the file", row) for line in range(2, 6)]

    told = refusal("failed.csv", "t.csv", pairs, {R.SENT: 40}, "Take them out.").splitlines()

    assert told[0] == "failed.csv: 40 rows cannot be sent from this file; nothing was sent."
    assert told[1] == "  line 2, 2-k3f9: was done after this file was written"
    assert told[2:4] == [
        "    the file says     20270101-1,as in the file",
        "    the run folder    ok: 20270101-1,as sent",
    ]
    assert told[-2:] == ["  and 37 more", "Take them out."]
    assert sum(line.startswith("  line") for line in told) == 3


def test_of_a_file_of_another_folder_nothing_of_this_folders_rows_is_shown() -> None:
    told = refusal("f.csv", "t.csv", [Pair(R.FOREIGN, 2, FRESH, "theirs", known())], {R.FOREIGN: 1}, "")
    assert "belongs to another run folder" in told
    assert "the run folder " not in told


def test_where_some_marks_fit_one_that_does_not_is_of_a_row_that_was_changed() -> None:
    pairs = [Pair(R.FOREIGN, 2, FRESH, "x", known()), Pair(R.SENT, 3, FRESH, "x", known("ok"))]

    assert with_reasons(pairs, {R.FOREIGN: 2, R.SENT: 1}, fitting=0) == (pairs, {R.FOREIGN: 2, R.SENT: 1})
    found, counts = with_reasons(pairs, {R.FOREIGN: 2, R.CHANGED: 1, R.SENT: 1}, fitting=1)
    assert [pair.ruling for pair in found] == [R.CHANGED, R.SENT]
    assert counts == {R.CHANGED: 3, R.SENT: 1}
