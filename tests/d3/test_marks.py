"""A mark is the same whenever it is asked for, and another for any other row."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3async.d3.task_search import mark_in, mark_of, marked, marks_in, unmarked

rows = st.tuples(st.text(), st.binary(min_size=16, max_size=16), st.integers(0, 99))


@given(rows)
def test_a_mark_is_eight_letters_that_a_description_carries_and_gives_back(row: tuple[str, bytes, int]) -> None:
    mark = mark_of(*row)
    params = {"Task Name": "Call", "Task Description": "Ask.\n"}
    sent = marked(params, mark)

    assert re.fullmatch("[0-9a-hjkmnp-tv-z]{8}", mark)
    assert sent["Task Description"] == f"Ask.\n [d3async {mark}]"
    assert marks_in(sent["Task Description"]) == {mark}
    assert marked(sent, mark) == sent
    assert mark_in(sent, mark)
    assert not mark_in(params, mark)
    assert unmarked(sent, mark) == params


def test_folder_row_and_occurrence_make_the_mark() -> None:
    known = {mark_of(salt, row, place) for salt in ("1.5", "2.5") for row in (b"a", b"b") for place in (0, 1)}

    assert len(known) == 8
    assert mark_of("1.5", b"a", 0) == mark_of("1.5", b"a", 0)


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("<p>Ask. [d3async 7f3k2m9x]</p>", {"7f3k2m9x"}),
        ("ASK. [D3ASYNC 7F3K2M9X]", {"7f3k2m9x"}),
        ("Ask. [d3async\u00a0 7f3k2m9x]", {"7f3k2m9x"}),
        ("[d3async 7f3k2m9x] [d3async 00000000]", {"7f3k2m9x", "00000000"}),
        ("[d3async 7f3k2m9]", set()),
        ("[d3async 7f3k2m9u]", set()),
        ("7f3k2m9x", set()),
    ],
)
def test_marks_survive_html_blanks_and_case(text: str, marks: set[str]) -> None:
    assert marks_in(text) == marks


def test_what_the_user_wrote_is_not_cut() -> None:
    """A mark of another folder at the end of a copied description is the user's text."""
    params = {"Task Description": "Ask. [d3async 7f3k2m9x]"}

    assert unmarked(params, "00000000") == params
    assert marked(params, "00000000")["Task Description"] == "Ask. [d3async 7f3k2m9x] [d3async 00000000]"
