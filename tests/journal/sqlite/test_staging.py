"""Rows on their way into a journal: identity, duplicates, counts."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3async.jobs.identity import Repeated, digest, judge_repeat
from d3async.journal.sqlite.run_folder import RunFolder, in_memory
from tests.journal.ground import broken, links, numbered, task


@pytest.fixture
def folder() -> Iterator[RunFolder]:
    folder = in_memory()
    yield folder
    folder.abandon()


@given(st.lists(st.text(), min_size=1, max_size=4), st.lists(st.text(), min_size=1, max_size=4))
def test_different_parts_have_different_digests(one: list[str], other: list[str]) -> None:
    assert (digest(*one) == digest(*other)) == (one == other)


def test_a_digest_is_16_bytes_of_any_text_also_of_half_a_surrogate_pair() -> None:
    assert len(digest("\ud800", "")) == 16


def test_separators_inside_a_part_do_not_make_two_rows_one() -> None:
    assert digest("a\x1fb") != digest("a", "b")
    assert digest("1:a") != digest("1", "a")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (task("a"), task("a"), True),
        (task("a"), task(" a "), True),
        (task("a", required="y"), task("a", required="Yes"), True),
        (task("a"), task("b"), False),
        (task("a"), task("a", description="x "), False),
        (task("a"), task("a", site="Other"), False),
        (links("a-1;b-2"), links("a-1, b-2"), True),
        (links("a-1;b-2"), links("b-2;a-1"), False),
        (task("a", key="1"), task("a", key="2"), False),
        (task("a", key="1"), task("b", key="1"), True),
        (task("a", key="1"), task("a"), False),
    ],
)
def test_a_row_is_its_id_or_else_what_it_means(folder: RunFolder, one: object, other: object, same: bool) -> None:
    stage = folder.stage()
    stage.add(numbered([one, other]))  # type: ignore[list-item]

    assert (folder.db.execute("select count(distinct identity) from incoming").fetchone()[0] == 1) is same


def test_an_identical_row_is_invalid_and_points_at_the_line_of_the_first(folder: RunFolder) -> None:
    stage = folder.stage()
    stage.add(numbered([task("a"), task("b"), task("a"), task("a")]))

    repeated = list(stage.duplicates(allow=False))

    assert [(row.row, row.problems[0].code, row.problems[0].message) for row in repeated] == [
        (3, "duplicate", "the same as line 2"),
        (4, "duplicate", "the same as line 2"),
    ]
    assert (repeated[0].problems[0].value, repeated[0].problems[0].column) == ("20220125-1", "")
    assert (stage.jobs, stage.invalid, stage.rows) == (2, 2, 4)
    states = folder.db.execute("select state, code from incoming order by row").fetchall()
    assert states == [("pending", None)] * 2 + [("invalid", "invalid.duplicate")] * 2


def test_identical_rows_that_are_meant_are_told_apart_by_their_occurrence(folder: RunFolder) -> None:
    stage = folder.stage()
    stage.add(numbered([task("a"), task("b"), task("a"), task("a")]))

    assert list(stage.duplicates(allow=True)) == []
    assert folder.db.execute("select occurrence from incoming order by row").fetchall() == [(0,), (0,), (1,), (2,)]


def test_a_link_may_stand_twice_for_removing_it_twice_is_removing_it_once(folder: RunFolder) -> None:
    stage = folder.stage()
    stage.add(numbered([links("a-1"), links("a-1")]))

    assert list(stage.duplicates(allow=False)) == []


@pytest.mark.parametrize("allow", [False, True])
def test_the_same_id_twice_is_always_wrong(folder: RunFolder, allow: bool) -> None:
    stage = folder.stage()
    stage.add(numbered([task("a", key="7"), links("b-1", key="8"), task("c", key="7"), broken(key="8")]))

    assert [
        (row.row, row.problems[0].code, row.problems[0].column, row.problems[0].value)
        for row in stage.duplicates(allow=allow)
    ] == [(3, "id", "id", "7"), (4, "id", "id", "8")]


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("INC-7", "INC-7"),
        ("a\nb  c", "a b c"),
        ("x" * 61, "x" * 60),
        ("half \ud800", "half \\ud800"),
    ],
)
def test_a_repeated_id_is_named_itself_not_the_incident_of_its_row(folder: RunFolder, key: str, told: str) -> None:
    stage = folder.stage()
    stage.add(numbered([task("a", key=key), task("b", key=key)]))
    list(stage.duplicates(allow=False))

    messages = folder.db.execute("select message from incoming where state = 'invalid'").fetchall()
    assert messages == [(f'id "{told}": is on line 2 already (make ids unique)',)]


def test_invalid_rows_that_look_alike_are_not_duplicates(folder: RunFolder) -> None:
    stage = folder.stage()
    stage.add(numbered([broken(), broken(), broken()]))

    assert list(stage.duplicates(allow=False)) == []
    assert (stage.jobs, stage.invalid) == (0, 3)


def test_the_plan_counts_incidents_people_and_items_of_valid_rows(folder: RunFolder) -> None:
    stage = folder.stage()
    stage.add(numbered([task("a"), task("b", assignee="x"), task("c", incident="1-2"), broken(), links("a-1;b-2")]))

    assert stage.facets() == {"subjects": 3, "people": 2, "items": 2}


def test_a_stage_can_be_closed_and_opened_again(folder: RunFolder) -> None:
    folder.stage().close()
    stage = folder.stage()
    stage.add(numbered([task("a")]))

    assert stage.rows == 1


def test_a_journal_in_memory_never_touches_a_file_of_the_present_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "journal.sqlite"
    mine.write_text("mine")

    in_memory().abandon()

    assert mine.read_text() == "mine"


REPEATS = [
    # keyed, command, valid, allow: code
    (True, "CreateTask", True, False, "invalid.id"),
    (True, "CreateTask", True, True, "invalid.id"),
    (True, "RemoveLinkedIncidents", True, True, "invalid.id"),
    (True, None, False, True, "invalid.id"),
    (False, "CreateTask", True, False, "invalid.duplicate"),
    (False, "CreateTask", True, True, None),
    (False, "RemoveLinkedIncidents", True, False, None),
    (False, None, False, False, None),
]


@pytest.mark.parametrize(("keyed", "command", "valid", "allow", "code"), REPEATS)
def test_an_id_twice_is_wrong_and_so_is_a_task_twice_unless_it_is_meant(
    keyed: bool, command: str | None, valid: bool, allow: bool, code: str | None
) -> None:
    found = Repeated(7, 8, keyed, command, valid, "A-1", 3, 4, 1)

    rejection = judge_repeat(found, allow=allow)

    assert (rejection and rejection.code) == code
    if rejection is not None:
        assert "line 4" in rejection.message
        assert rejection.problem.value == "A-1"


def test_each_rejected_row_gets_an_identity_of_its_own() -> None:
    found = Repeated(7, 8, True, "CreateTask", True, "A-1", 3, 4, 1)
    identities = {
        rejection.identity
        for repeated in (found, found, found._replace(row=9), found._replace(first_row=2))
        if (rejection := judge_repeat(repeated, allow=False))
    }

    assert len(identities) == 3
