"""What exists, what is linked, and what going back to the start means."""

from __future__ import annotations

import pytest

from d3async.sandbox.state import Links, Task, World


def a_task(n: int = 1, incident: str = "20220125-1") -> Task:
    return Task(n, incident, "Call", "Default", "Ask", "admin user", "2027-01-01 10:00:00", "No", "admin user")


def test_a_symmetric_link_is_seen_and_removed_from_both_ends() -> None:
    links = Links([("A-1", "B-1")])

    assert (links.of("A-1"), links.of("B-1")) == (["B-1"], ["A-1"])
    assert links.remove("B-1", "A-1")
    assert (links.of("A-1"), links.of("B-1")) == ([], [])


def test_a_one_way_link_is_seen_from_its_source_only() -> None:
    links = Links([("A-1", "B-1")], symmetric=False)

    assert not links.remove("B-1", "A-1")
    assert links.as_dict() == {"A-1": ["B-1"]}


def test_a_link_is_removed_once() -> None:
    links = Links([("A-1", "B-1"), ("A-1", "C-1")])

    assert [links.remove("A-1", "B-1"), links.remove("A-1", "B-1"), links.of("A-1")] == [True, False, ["C-1"]]


def test_reach_holds_the_start_and_ends_after_ten_links() -> None:
    links = Links([(f"N-{i}", f"N-{i + 1}") for i in range(20)])

    assert links.reach("N-0") == [f"N-{i}" for i in range(11)]
    assert links.reach("N-99") == ["N-99"]


@pytest.mark.parametrize(
    ("incident", "there"),
    [
        ("20231025-130", True),
        ("090924-13297", True),
        ("TEST-INCIDENT-73", True),
        ("20231025", False),
        ("20231025-", False),
        ("20231025-130 ", False),
        ("../20231025-1", False),
        ("", False),
        ("19000101-7", False),
        ("MISSING-1", False),
    ],
)
def test_well_formed_incidents_are_there_but_the_missing_ones(incident: str, there: bool) -> None:
    assert World().exists(incident) is there


def test_only_named_incidents_are_there_when_strict() -> None:
    world = World([("A-1", "B-1")], strict=True, incidents=["C-1"], missing=["B-*"])

    assert [world.exists(number) for number in ("A-1", "B-1", "C-1", "D-1")] == [True, False, True, False]


def test_no_pattern_means_that_none_is_missing() -> None:
    assert World(missing=[]).exists("19000101-7")


@pytest.mark.parametrize(("name", "there"), [("admin user", True), ("Nobody", False), (" nobody ", False)])
def test_everybody_is_there_but_nobody(name: str, there: bool) -> None:
    assert World().knows_assignee(name) is there


def test_given_assignees_are_the_only_ones() -> None:
    world = World(assignees=["Jürgen Weiß"])

    assert [world.knows_assignee(name) for name in ("jürgen weiß", "admin user")] == [True, False]


def test_going_back_to_the_start_brings_links_back_and_takes_tasks_away() -> None:
    world = World([("A-1", "B-1")])
    world.links.remove("A-1", "B-1")
    world.add_task(a_task())

    world.reset()

    assert (world.links.of("A-1"), world.tasks, world.tasks_of("20220125-1")) == (["B-1"], [], [])


def test_tasks_are_not_kept_where_only_counts_are_wanted() -> None:
    world = World(keep_tasks=False)
    world.add_task(a_task())

    assert (world.tasks, world.tasks_of("20220125-1")) == ([], [])
