"""The same trouble of many rows is told once, in the words of what they have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from d3async.files.summary import alike, find_causes
from d3async.journal.sqlite.reader import FILE, FolderReader
from tests.journal.factory import Entry, invalid, make, unsent

if TYPE_CHECKING:
    from pathlib import Path

    from d3async.files.summary import Causes


def causes_of(folder: Path, entries: list[Entry], **limits: int) -> Causes:
    with FolderReader(make(folder, entries) / FILE) as reader:
        return find_causes(reader, **limits)


def failed(message: str, code: str = "command_error") -> Entry:
    return Entry("a,b,c,d", "failed", code, message)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Incident 20260125-77 does not exist.", "Incident … does not exist."),
        ("Assignee 'jo ann' is not a user", "Assignee … is not a user"),
        ('"2026-13-01" is not a date', "… is not a date"),
        ("HTTP 500, no answer", "HTTP …, no answer"),
        ("nothing particular", "nothing particular"),
        ("user:jo7 (id 5); 'it's", "user:… (id …); …s"),
        ("the user's host-7's", "the user…s"),
        ('an open " quote 1', 'an open " quote …'),
        ("", ""),
    ],
)
def test_names_and_numbers_do_not_make_another_cause(message: str, expected: Any) -> None:
    assert alike(message) == expected


def test_one_message_of_all_is_told_as_it_is_and_differing_ones_by_what_they_share(tmp_path: Path) -> None:
    entries = [failed("Incident 1-1 does not exist.")] * 3
    entries += [failed("user 7 is locked"), failed("user 8 is locked")]
    found = causes_of(tmp_path, entries)
    assert [(cause.count, cause.text, cause.same) for cause in found.causes] == [
        (3, "Incident 1-1 does not exist.", True),
        (2, "user … is locked", False),
    ]


def test_the_first_rows_of_a_cause_are_kept_and_all_are_counted(tmp_path: Path) -> None:
    found = causes_of(tmp_path, [failed("no")] * 5, keep=2)
    assert [(cause.count, [trouble.row for trouble in cause.first]) for cause in found.causes] == [(5, [1, 2])]


def test_another_code_or_outcome_is_another_cause(tmp_path: Path) -> None:
    entries = [failed("no"), failed("no", "http_400"), Entry("a", "unknown", "http_500", "no"), invalid("a", "x", "no")]
    assert len(causes_of(tmp_path, entries).causes) == 4


def test_rows_that_are_well_or_unsent_have_no_cause(tmp_path: Path) -> None:
    assert (
        causes_of(
            tmp_path,
            [
                Entry("a"),
                unsent("b"),
                failed("x", "y"),
            ],
        )
        .causes[0]
        .count
        == 1
    )


def test_a_row_with_items_tells_its_items_and_counts_once(tmp_path: Path) -> None:
    items = (
        ("A", "ok", "", ""),
        ("B", "failed", "not_linked", "is not linked"),
        ("C", "failed", "not_linked", "is not linked"),
    )
    (cause,) = causes_of(tmp_path, [Entry("S", "partial", "not_linked", "of the row", items=items)]).causes
    assert (cause.count, cause.rows, cause.text) == (2, 1, "is not linked")
    assert [trouble.item for trouble in cause.first] == ["B", "C"]


def test_an_item_without_words_of_its_own_has_those_of_its_row(tmp_path: Path) -> None:
    (cause,) = causes_of(
        tmp_path, [Entry("S", "unknown", "read_timeout", "no answer", items=(("A", "unknown", "", ""),))]
    ).causes
    assert (cause.code, cause.text) == ("read_timeout", "no answer")


def test_a_cause_without_any_words_is_called_by_its_code(tmp_path: Path) -> None:
    assert causes_of(tmp_path, [failed(None, "http_500")]).causes[0].text == "http_500"


def test_kinds_beyond_the_limit_are_counted_but_not_kept(tmp_path: Path) -> None:
    entries = [failed(f"kind {'x' * at}") for at in range(10)]
    found = causes_of(tmp_path, entries, kinds=4)
    assert (len(found.causes), found.others) == (4, 6)


def test_long_texts_are_cut(tmp_path: Path) -> None:
    found = causes_of(tmp_path, [Entry("r" * 9_999, "failed", "x", "m" * 9_999, label="l" * 9_999)])
    (trouble,) = found.causes[0].first
    assert (len(trouble.message), len(trouble.raw), len(trouble.label)) == (300, 121, 121)
