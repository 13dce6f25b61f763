"""The ledger tells what happened, and stays small where it is told to."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from d3async.sandbox.state import Entry, Ledger, Task, World, pieces, whole


def arrive(ledger: Ledger, at: float = 0.0, command: str = "CreateTask", incident: str = "A-1") -> Entry:
    entry = ledger.arrive(at, command)
    entry.incident = incident
    return entry


def a_task(n: int, name: str = "Call") -> Task:
    return Task(n, "A-1", name, "Default", "Ask", "admin user", "2027-01-01 10:00:00", "No", "admin user")


def test_the_worst_second_is_half_open() -> None:
    ledger = Ledger()
    for at in (10.0, 10.5, 10.999, 11.0, 11.4, 20.0):
        arrive(ledger, at)

    assert ledger.worst_second == 4  # 10.5, 10.999, 11.0 and 11.4; 10.0 and 11.0 are a whole second apart


@given(st.lists(st.floats(0, 5), max_size=40))
def test_the_worst_second_is_the_worst_of_all_windows(times: list[float]) -> None:
    ledger = Ledger()
    for at in sorted(times):
        arrive(ledger, at)

    assert ledger.worst_second == max((sum(end - 1.0 < at <= end for at in times) for end in times), default=0)


def test_in_flight_is_counted_by_source_and_ends_with_the_answer() -> None:
    ledger = Ledger()
    first, second, other = (arrive(ledger, command="RemoveLinkedIncidents", incident=i) for i in ("A-1", "A-1", "B-1"))
    ledger.start(first, lambda: True)
    ledger.start(other, lambda: True)
    ledger.finish(first)
    ledger.start(second, lambda: True)

    assert (ledger.summary()["in_flight_max_per_source"], ledger.in_flight_max) == (1, 2)


def test_two_of_one_source_at_a_time_are_seen() -> None:
    ledger = Ledger()
    for _ in range(2):
        ledger.start(arrive(ledger, command="RemoveLinkedIncidents"), lambda: True)

    assert ledger.summary()["in_flight_max_per_source"] == 2


def test_a_caller_who_hung_up_is_in_flight_no_longer() -> None:
    ledger = Ledger()
    gone = arrive(ledger, command="RemoveLinkedIncidents")
    ledger.start(gone, lambda: False)
    again = arrive(ledger, command="RemoveLinkedIncidents")
    ledger.start(again, lambda: True)
    ledger.finish(gone)
    ledger.finish(again)
    ledger.start(arrive(ledger, command="RemoveLinkedIncidents"), lambda: True)

    assert (ledger.summary()["in_flight_max_per_source"], ledger.in_flight_max) == (1, 1)


def test_a_task_like_an_earlier_one_is_counted_as_repeated() -> None:
    ledger = Ledger()
    for task in (a_task(1), a_task(2, "Write"), a_task(3)):
        ledger.count_effect(task, 0)

    counts = ledger.counts()
    assert (counts["tasks"], counts["tasks_repeated"]) == (3, 1)


def test_counts_add_up_by_command_status_and_fault() -> None:
    ledger = Ledger()
    for status, fault in ((200, None), (200, "cut-body"), (None, "hang")):
        entry = arrive(ledger)
        entry.status, entry.fault = status, fault
        ledger.count(entry)

    counts = ledger.counts()
    assert counts["by_command"] == {"CreateTask": 3}
    assert counts["by_status"] == {"200": 2, "none": 1}
    assert counts["by_fault"] == {"cut-body": 1, "hang": 1}


def test_without_keeping_only_numbers_are_left() -> None:
    ledger = Ledger(keep=False)
    arrive(ledger)

    assert (ledger.requests, ledger.counts()["requests"]) == ([], 1)


def test_the_pieces_are_the_whole_in_json() -> None:
    ledger, world = Ledger(), World([("A-1", "B-1")])
    for i in range(1201):
        arrive(ledger, float(i))
        world.add_task(a_task(i + 1, f"Täsk {i}"))

    assert json.loads(b"".join(pieces(ledger, world, since=100))) == json.loads(
        json.dumps(whole(ledger, world, since=100))
    )
    assert len(whole(ledger, world, since=100)["requests"]) == 1101


def test_an_empty_ledger_is_whole_too() -> None:
    told = json.loads(b"".join(pieces(Ledger(), World())))

    assert (told["requests"], told["tasks"], told["links"], told["counts"]["requests"]) == ([], [], {}, 0)


def test_a_reset_forgets_all_but_what_is_in_flight() -> None:
    ledger = Ledger()
    flying = arrive(ledger)
    ledger.start(flying, lambda: True)
    arrive(ledger, 0.5)

    ledger.reset()
    ledger.start(arrive(ledger, 0.6), lambda: True)

    assert (ledger.worst_second, ledger.counts()["requests"], ledger.in_flight_max) == (1, 1, 2)
