"""Rows of a feedback file in the journal they came from: they change those rows and no others, and are found again."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d3async.d3.response import AmbiguousAnswer, Answer, ItemError, Refused, Reply
from d3async.jobs.feedback_rows import Mark, Ruling, row_mark
from d3async.jobs.job import Invalid, Job
from d3async.journal.model import Selection
from d3async.journal.sqlite.continue_rows import Continuation, FeedbackRows
from d3async.journal.sqlite.row_claims import RowStore
from d3async.journal.sqlite.run_folder import open_folder
from tests.journal.ground import NOW, Entry, Run, broken, links, load, task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OK, REFUSED, DOUBT = Reply("ok"), Refused("http_400", "no", 400), AmbiguousAnswer("http_500", "?", 500)
PARTIAL = Reply("partial", (ItemError("b-2", "closed"),))


class Feedback(Run):
    """A run over a feedback file: *rows* are what it says, by the row of the file that the run began with."""

    def __init__(self, path: Path, rows: Mapping[int, Entry], marks: Mapping[int, Mark] | None = None) -> None:
        self.folder = open_folder(path)
        marks = marks or marks_of(self)
        entries = [(marks[row], entry._replace(row=at, line=at + 1)) for at, (row, entry) in enumerate(rows.items(), 1)]
        book, stage = FeedbackRows(self.folder.db), self.folder.stage()
        uid = self.folder.meta_of("uid") or ""
        self.continuation = Continuation(book, uid, "t.csv", is_unchanged=str.__eq__)
        found = list(self.continuation.entries(entries, keep=book.keep))
        self.wrong = [entry for entry in found if isinstance(entry, Invalid)]
        stage.add(entry for entry in found if isinstance(entry, Job))
        list(stage.duplicates(allow=False))
        self.changes = self.folder.continue_rows({})
        self.to_send = self.folder.begin(Selection(), now=NOW, facts={})
        self.folder.commit()
        self.store = RowStore(self.folder.db, epoch=self.folder.epoch)


def marks_of(run: Run) -> dict[int, Mark]:
    uid = run.folder.meta_of("uid") or ""
    found = run.query("select row, id, coalesce(content, identity) from job where row is not null")
    return {row: row_mark(uid, job, content) for row, job, content in found}


def first(path: Path, entries: Sequence[Entry], answers: Sequence[Answer]) -> dict[int, Mark]:
    """A run over *entries*; the marks that its rows have afterwards."""
    run = Run(path, entries, allow=True)
    for call, answer in zip(run.calls(), answers, strict=True):
        run.answer(call, answer)
    marks = marks_of(run)
    run.end()
    return marks


def mended(path: Path, rows: Mapping[int, Entry], answer: Answer = OK, marks: Any = None) -> list[str]:
    """A run over a feedback file, all answered by *answer*; what was sent."""
    run = Feedback(path, rows, marks)
    sent = names(run)
    run.answer_all(answer)
    run.end()
    return sent


def names(run: Run) -> list[str]:
    return [call.params.get("Task Name", "; ".join(call.items)) for call in run.calls()]


def rows(run: Run) -> list[tuple[int, str, str]]:
    return run.query("select row, state, raw from job where row is not null order by row")


def test_only_the_rows_of_the_file_change(tmp_path: Path) -> None:
    first(tmp_path / "r", [task("a"), task("b"), task("c"), task("d")], [OK, REFUSED, REFUSED, DOUBT])
    assert mended(tmp_path / "r", {3: task("c2")}) == ["c2"]

    run = Run(tmp_path / "r", [task("d"), task("c"), task("b"), task("a")])
    assert names(run) == ["b"]
    assert rows(run) == [(1, "unknown", "d"), (2, "ok", "c2"), (3, "failed", "b"), (4, "ok", "a")]
    assert (run.changes.as_mended, run.changes.same, run.changes.vanished) == (1, 4, 0)


@pytest.mark.parametrize("state", ["failed", "invalid"])
def test_a_row_that_is_not_done_is_again_what_the_original_says(tmp_path: Path, state: str) -> None:
    original = task("a") if state == "failed" else broken("a")
    marks = first(tmp_path / "r", [original], [REFUSED] if state == "failed" else [])
    assert mended(tmp_path / "r", {1: task("a2")}, REFUSED) == ["a2"]

    run = Run(tmp_path / "r", [original])
    assert names(run) == (["a"] if state == "failed" else [])
    run.end()
    assert mended(tmp_path / "r", {1: task("a3")}, marks=marks) == ["a3"]


def test_of_two_equal_rows_one_is_mended_and_the_other_goes_on(tmp_path: Path) -> None:
    first(tmp_path / "r", [task("a"), task("a")], [REFUSED, REFUSED])
    assert mended(tmp_path / "r", {1: task("b")}) == ["b"]

    run = Run(tmp_path / "r", [task("a"), task("a")], allow=True)
    assert names(run) == ["a"]
    assert sorted(raw for _, _, raw in rows(run)) == ["a", "b"]


def test_both_the_row_as_it_was_and_as_it_was_mended_in_the_original_are_two_rows(tmp_path: Path) -> None:
    first(tmp_path / "r", [task("a")], [REFUSED])
    mended(tmp_path / "r", {1: task("b")})

    run = Run(tmp_path / "r", [task("a"), task("b")])
    assert names(run) == ["a"]


def test_a_row_of_links_keeps_what_is_done_and_the_text_of_the_whole(tmp_path: Path) -> None:
    first(tmp_path / "r", [links("a-1;b-2;c-3")], [PARTIAL])
    assert mended(tmp_path / "r", {1: links("b-2")}, Reply("partial", (ItemError("b-2", "closed"),))) == ["b-2"]
    assert mended(tmp_path / "r", {1: links("b-4")}) == ["b-4"]

    run = Run(tmp_path / "r", [links("a-1;b-2;c-3")])
    assert names(run) == []
    assert [row[1] for row in rows(run)] == ["ok"]


@pytest.mark.parametrize(
    ("answer", "ruling", "sent"),
    [(OK, Ruling.SENT, []), (DOUBT, None, []), (REFUSED, None, ["a3"])],
)
def test_an_older_file_of_the_same_row(tmp_path: Path, answer: Answer, ruling: Ruling | None, sent: list[str]) -> None:
    marks = first(tmp_path / "r", [task("a")], [REFUSED])
    mended(tmp_path / "r", {1: task("a2")}, answer)

    run = Feedback(tmp_path / "r", {1: task("a3")}, marks)
    assert [pair.ruling for pair in run.continuation.refused()[0]] == ([ruling] if ruling else [])
    assert names(run) == sent


def test_a_row_is_not_mended_into_another_one_that_may_have_happened(tmp_path: Path) -> None:
    first(tmp_path / "r", [task("gone"), task("here"), task("bad")], [OK, OK, REFUSED])
    run = Run(tmp_path / "r", [task("here"), task("bad")])
    run.end()
    for name, line in (("here", "line 2 of t.csv"), ("gone", "a row that was sent and is no longer in t.csv")):
        run = Feedback(tmp_path / "r", {2: task(name)})
        assert line in run.wrong[0].problems[0].message
        assert names(run) == []
        run.folder.close()


def test_an_id_that_another_row_has_is_taken_out(tmp_path: Path) -> None:
    first(tmp_path / "r", [task("a", key="1"), task("b", key="2")], [OK, REFUSED])
    folder = open_folder(tmp_path / "r")
    book, stage = FeedbackRows(folder.db), folder.stage()
    stage.add([task("b", key="1")._replace(row=2, line=2)])
    assert book.reject_ids_of_others() == [(2, 2, "1", 2)]
    folder.continue_rows({})
    assert folder.begin(Selection(), now=NOW, facts={}) == 0
    folder.abandon()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_what_was_done_in_a_feedback_file_is_never_sent_by_the_original(data: st.DataObject) -> None:
    keyed = data.draw(st.booleans())
    count = data.draw(st.integers(1, 5))
    key = {at: f"k{at}" if keyed else None for at in range(1, count + 1)}
    original = {at: task(f"a{at}", key=key[at]) for at in key}
    answers = data.draw(st.lists(st.sampled_from([OK, REFUSED, DOUBT]), min_size=count, max_size=count))
    chosen = data.draw(st.sets(st.sampled_from(sorted(key))))
    chosen = {at for at in chosen if answers[at - 1] is REFUSED}
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "r"
        first(path, list(original.values()), answers)
        better = {at: task(f"b{at}", key=key[at]) for at in chosen}
        assert sorted(mended(path, better)) == sorted(f"b{at}" for at in chosen)
        for _ in range(2):
            order = data.draw(st.permutations(sorted(key)))
            kept = [at for at in order if data.draw(st.integers(0, 4))]
            file = [better[at] if at in better and data.draw(st.booleans()) else original[at] for at in kept]
            run = Run(path, file)
            assert sorted(names(run)) == sorted(
                f"a{at}" for at in kept if answers[at - 1] is REFUSED and at not in chosen
            )
            run.end()


def test_what_a_stage_holds_of_a_feedback_file_is_found_by_row(tmp_path: Path) -> None:
    first(tmp_path / "r", [task("a"), task("b")], [REFUSED, REFUSED])
    folder = open_folder(tmp_path / "r")
    load(folder, [task("b"), task("a")])
    assert {row: known.raw for row, known in FeedbackRows(folder.db).known([1, 2, 3]).items()} == {1: "a", 2: "b"}
    folder.abandon()
