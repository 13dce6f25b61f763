"""A mark names one row of one journal as it was, and no spreadsheet makes anything else of it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3async.jobs.feedback_rows import Mark, fits, read_mark, row_mark

UID = "00112233aabbccdd"
MARK = row_mark(UID, 17, b"content")


@given(st.text(max_size=16), st.integers(1, 10**9), st.binary(max_size=16))
def test_a_mark_is_read_back_and_fits_where_it_was_made(uid: str, job: int, content: bytes) -> None:
    made = row_mark(uid, job, content)

    assert read_mark(str(made)) == made
    assert made.job == job
    assert fits(made, uid, content)


@given(st.integers(1, 10**9), st.binary(max_size=16))
def test_letters_begin_with_a_consonant_and_have_no_vowel_so_that_they_are_no_date_and_no_number(
    job: int, content: bytes
) -> None:
    assert re.fullmatch(
        rf"{job}-[bcdfghjkmnpqrstvwxyz][0-9bcdfghjkmnpqrstvwxyz]{{3}}", str(row_mark(UID, job, content))
    )


@pytest.mark.parametrize(
    ("uid", "job", "content"),
    [("00112233aabbccde", 17, b"content"), (UID, 18, b"content"), (UID, 17, b"Content"), ("", 17, b"content")],
    ids=["another journal", "another row", "another content", "no journal"],
)
def test_a_mark_fits_no_other_journal_row_or_content(uid: str, job: int, content: bytes) -> None:
    assert row_mark(uid, job, content).letters != MARK.letters
    assert not fits(Mark(job, MARK.letters), uid, content)


@pytest.mark.parametrize("cell", ["17-k3f9", " 17-K3F9\t", "'17-k3f9", "\u00a017-k3f9 "])
def test_blanks_letter_case_and_a_guard_do_not_matter(cell: str) -> None:
    assert read_mark(cell) == Mark(17, "k3f9")


@pytest.mark.parametrize(
    "cell",
    ["", "17", "17-", "-k3f9", "17-k3f", "17-k3f99", "17 k3f9", "17-k3fa", "17-3k9f", "2027-01-02", "x17-k3f9",
     "\uff11\uff17-k3f9", "1" * 19 + "-k3f9", None, 17, ["17-k3f9"]],
)  # fmt: skip
def test_anything_else_is_no_mark(cell: object) -> None:
    assert read_mark(cell) is None


def test_the_letters_are_those_of_earlier_versions() -> None:
    assert str(row_mark("0123456789abcdef", 17, bytes(range(16)))) == "17-h4z4"
