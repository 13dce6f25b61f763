"""Which fault hits which request is decided before anything happens, and can be repeated."""

from __future__ import annotations

import random
from itertools import cycle
from typing import Any

import pytest

from d3async.sandbox.commands import Ask
from d3async.sandbox.limits_and_faults import FAULTS, Faults, find_fault

CREATE = Ask(1, "CreateTask", "Admin", {"Incident Number": "A-1"})
REMOVE = Ask(
    2,
    "RemoveLinkedIncidents",
    "Admin",
    {"Source Incident Number": "A-1", "Linked Incident Numbers to be Removed": ["B-1"]},
)


def names(faults: Faults, *asks: Ask) -> list[str | None]:
    return [fault.name if (fault := faults.pick(ask)) else None for ask in asks]


@pytest.mark.parametrize(
    ("name", "status", "effect"),
    [
        ("error-500-before", 500, False),
        ("error-500-after", 500, True),
        ("error-503", 503, False),
        ("error-429-before", 429, False),
        ("drop-before", 0, False),
        ("drop-after", 0, True),
    ],
)
def test_the_name_says_what_happens(name: str, status: int, effect: bool) -> None:
    fault = find_fault(name)

    assert (fault.status, fault.effect) == (status, effect)


@pytest.mark.parametrize("name", ["", "error-200", "error-500-", "error-5000", "drop", "Hang"])
def test_an_unknown_fault_is_refused_with_the_list(name: str) -> None:
    with pytest.raises(ValueError, match=r"no fault .* there are drop-before, .*max-list"):
        find_fault(name)


def test_a_share_is_that_part_of_the_dice() -> None:
    dice = cycle([0.0, 0.19, 0.2, 0.49, 0.5, 0.99])
    faults = Faults({"drop-after": 0.2, "hang": 0.3}, lambda: next(dice))

    assert names(faults, *[CREATE] * 6) == ["drop-after", "drop-after", "hang", "hang", None, None]


def test_the_same_seed_hits_the_same_requests() -> None:
    first, second = (Faults({"drop-after": 0.3}, random.Random(7).random) for _ in range(2))

    assert names(first, *[CREATE] * 50) == names(second, *[CREATE] * 50)


def test_a_fault_of_one_command_leaves_the_other_its_whole_dice() -> None:
    faults = Faults({"foreign-error-data": 1.0}, lambda: 0.0)

    assert names(faults, CREATE, REMOVE) == [None, "foreign-error-data"]


@pytest.mark.parametrize(
    "plan", [{"hang": 1.1}, {"hang": -0.1}, {"hang": 0.6, "redirect": 0.5}, {"hung": 0.1}, ["hung"]]
)
def test_a_plan_that_cannot_be_is_refused_at_once(plan: Any) -> None:
    with pytest.raises(ValueError, match=r"shares lie|no fault"):
        Faults(plan, lambda: 0.0)


def test_a_script_goes_request_by_request_and_then_all_is_well() -> None:
    faults = Faults(["hang", None, "error-500-after"], lambda: 0.0)

    assert names(faults, CREATE, REMOVE, CREATE, CREATE) == ["hang", None, "error-500-after", None]


def test_a_rule_sees_the_request() -> None:
    faults = Faults(lambda ask: "error-400" if "B-1" in ask.items else None, lambda: 0.0)

    assert names(faults, CREATE, REMOVE) == [None, "error-400"]


def test_the_longest_list_is_a_number_among_the_shares() -> None:
    faults = Faults({"max-list": 20, "hang": 0.5}, lambda: 0.9)

    assert (faults.max_list, names(faults, REMOVE)) == (20, [None])


def test_no_plan_no_fault() -> None:
    assert names(Faults(None, lambda: 0.0), CREATE, REMOVE) == [None, None]


def test_every_fault_says_in_one_line_what_it_does() -> None:
    assert all(fault.says and "\n" not in fault.says for fault in FAULTS.values())
