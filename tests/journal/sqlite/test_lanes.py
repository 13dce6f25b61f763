"""What must not be in flight together stands in one lane, or in different waves."""

from pathlib import Path

import pytest

from d3async.d3.response import AmbiguousAnswer, ItemError, Reply
from d3async.journal.sqlite.merge_rows import count_mirrored
from d3async.policy.batching import lane_in_wave, later_waves, wave_of
from tests.journal.ground import NOW, Entry, Run, links, task

NOT_LINKED = "The source incident is not linked to this incident."
OK = Reply("ok")


def lanes_of(run: Run) -> list[tuple[int, int]]:
    """(wave, lane) of each row of the file."""
    found = run.query("select lane from job order by row")
    return [(wave_of(lane), lane - lane_in_wave(0, wave_of(lane))) for lane in found]


@pytest.mark.parametrize(
    ("entries", "lanes"),
    [
        ([links("b", source="a"), links("c", source="a")], [(0, 1), (0, 1)]),
        ([links("x", source="a"), links("x", source="b")], [(0, 1), (0, 2)]),
        ([links("x", source="A-1"), links("y", source=" a-1 ")], [(0, 1), (0, 1)]),
        # mirrored: the second source waits for the wave after
        ([links("b", source="a"), links("a", source="b")], [(0, 1), (1, 2)]),
        ([links("B", source="a"), links("A", source="b")], [(0, 1), (1, 2)]),
        # a hub and its spokes are two waves, three of a kind are three
        (
            [links("b;c", source="a"), links("a", source="b"), links("a", source="c")],
            [(0, 1), (1, 2), (1, 3)],
        ),
        (
            [links("b;c", source="a"), links("a;c", source="b"), links("a;b", source="c")],
            [(0, 1), (1, 2), (2, 3)],
        ),
        # a link to itself mirrors nothing
        ([links("a", source="a"), links("b", source="a")], [(0, 1), (0, 1)]),
        # one end named, the other not
        ([links("b", source="a"), links("c", source="b")], [(0, 1), (0, 2)]),
        # tasks wait for nothing
        ([task("x"), links("b", source="a"), task("y"), links("c", source="a")], [(0, 1), (0, 2), (0, 3), (0, 2)]),
    ],
)
def test_a_source_is_one_lane_and_sources_that_name_each_other_stand_in_different_waves(
    tmp_path: Path, entries: list[Entry], lanes: list[tuple[int, int]]
) -> None:
    run = Run(tmp_path, entries)

    assert lanes_of(run) == lanes
    run.die()


def test_lanes_come_wave_by_wave(tmp_path: Path) -> None:
    run = Run(
        tmp_path, [links("b", source="a"), links("a", source="b"), links("y", source="x"), links("x", source="y")]
    )

    assert [wave_of(lane) for lane, _ in run.store.lanes(-1, 10)] == [0, 0, 1, 1]
    assert run.query("select row from job order by lane") == [1, 3, 2, 4]
    run.die()


def test_only_pairs_that_are_both_to_be_sent_make_waves(tmp_path: Path) -> None:
    run = Run(tmp_path, [links("b", source="a"), links("a", source="b", selected=False)])

    assert run.query("select lane from job where todo = 1") == [1]
    assert count_mirrored(run.folder.db) == 0
    run.die()


@pytest.mark.parametrize(
    ("entries", "pairs"),
    [
        ([links("b;c", source="a"), links("d", source="b")], 0),
        ([links("b", source="a"), links("a", source="b")], 1),
        ([links("b;B", source="a"), links("b", source="A"), links("a", source="b"), links("a", source="b")], 1),
        ([links("b;c", source="a"), links("a", source="b"), links("a", source="c")], 2),
        ([links("a", source="a"), links("a", source="a")], 0),
        ([task("x")], 0),
    ],
)
def test_a_pair_is_mirrored_where_both_ends_name_the_other(tmp_path: Path, entries: list[Entry], pairs: int) -> None:
    run = Run(tmp_path, entries)

    assert count_mirrored(run.folder.db) == pairs
    run.die()


def test_what_was_removed_from_the_other_end_is_gone_and_what_may_have_been_is_tried(tmp_path: Path) -> None:
    run = Run(
        tmp_path, [links("b;c;d", source="a"), links("a", source="b"), links("a", source="c"), links("a", source="d")]
    )
    first = run.store.take(1, 2)
    assert first is not None
    assert (first.items, first.gone, first.tried) == (("b", "c"), frozenset(), frozenset())
    run.answer(first, Reply("partial", (ItemError("c", NOT_LINKED),)))
    second = run.store.take(1, 2)
    assert second is not None
    run.answer(second, AmbiguousAnswer("http_500", "", 500))

    taken = {call.label: call for call in run.calls()}
    assert {label: (set(call.gone), set(call.tried)) for label, call in taken.items()} == {
        "b": ({"a"}, set()),
        "c": (set(), set()),
        "d": (set(), {"a"}),
    }
    said = Reply("failed", (ItemError("a", NOT_LINKED),))
    assert [run.answer(taken[label], said)[0].outcome for label in "bcd"] == ["ok", "failed", "ok"]
    run.die()


def test_a_link_removed_from_the_other_end_and_then_refused_is_refused(tmp_path: Path) -> None:
    """Only "not linked" is what our own removal explains."""
    run = Run(tmp_path, [links("b", source="a"), links("a", source="b")])
    first, second = run.calls()
    run.answer(first, OK)
    second = run.calls()[0]

    assert run.answer(second, Reply("failed", (ItemError("a", "This incident is closed."),)))[0].outcome == "failed"
    run.die()


def test_calls_take_up_where_the_last_one_ended_and_carry_each_number_once(tmp_path: Path) -> None:
    run = Run(tmp_path, [links("a;b"), links("B;c"), links("a;d;e")])
    carried = []
    while call := run.store.take(1, 2):
        carried.append(call.items)
        run.answer(call, OK)

    assert carried == [("a", "b"), ("c", "d"), ("e",)]
    assert run.states() == ["ok", "ok", "ok"]
    run.end()


@pytest.mark.parametrize(
    ("edges", "waves"),
    [
        ([], {}),
        ([(2, 1)], {2: 1}),
        # a path alternates; a hub is named by its spokes
        ([(2, 1), (3, 2), (4, 3)], {2: 1, 4: 1}),
        ([(2, 1), (3, 1), (4, 1)], {2: 1, 3: 1, 4: 1}),
        # three of a kind, then a lane beside the second and the third
        ([(2, 1), (3, 1), (3, 2), (9, 2), (9, 3)], {2: 1, 3: 2}),
        ([(3, 1), (3, 2)], {3: 1}),
    ],
)
def test_lanes_joined_by_an_edge_are_in_different_waves_and_each_in_the_first_one_that_is_free(
    edges: list[tuple[int, int]], waves: dict[int, int]
) -> None:
    assert later_waves(edges) == waves


def test_nothing_that_is_done_for_a_call_looks_through_a_table(tmp_path: Path) -> None:
    """A source of 50,000 links would otherwise be looked through a thousand times."""
    run = Run(tmp_path, [links("a;b;c"), links("b"), links("20231025-130", source="a")])
    statements: list[str] = []
    run.folder.db.set_trace_callback(statements.append)
    while call := run.store.take(run.store.lanes(-1, 10)[0][0], 1):
        run.store.claim(call, NOW)
        run.store.release(call, sent=True)
        run.answer(call, OK)
        if run.states()[0] == "ok":
            break
    run.folder.db.set_trace_callback(None)

    asked = {
        statement
        for statement in statements
        if statement.startswith(("select", "update")) and "row is not null" not in statement
    }
    assert len(asked) > 20
    for statement in asked:
        steps = [step[3] for step in run.folder.db.execute(f"explain query plan {statement}")]
        assert not [step for step in steps if step.startswith("SCAN ") and "VIRTUAL TABLE" not in step], statement
    run.die()
