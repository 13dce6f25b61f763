"""Why a chunk ended decides what follows; nothing goes on for ever."""

import pytest

from d3async.fleet.run_chunk import RETRY_BOUNDS, ChunkDone, GiveUp, StopRun, TryLater, what_next
from d3async.policy.halt_and_exit_codes import Stop


@pytest.mark.parametrize(
    ("stop", "tries", "follows"),
    [
        pytest.param(None, 1, ChunkDone(), id="all-sent"),
        pytest.param(Stop("fenced", "taken over"), 1, ChunkDone(), id="somebody-else-has-it"),
        pytest.param(Stop("cancelled", "by a user"), 1, ChunkDone(), id="the-run-was-cancelled"),
        pytest.param(
            Stop("halt", "--halt unknown=50"), 1, StopRun("halt", "--halt unknown=50"), id="halt-stops-the-run"
        ),
        pytest.param(
            Stop("terminated", "SIGTERM"), 7, TryLater(0, "terminated", "SIGTERM", counts=False), id="drained"
        ),
        pytest.param(Stop("journal", "away"), 99, TryLater(2, "journal", "away", counts=False), id="database-away"),
        pytest.param(Stop("unreachable", "x"), 1, TryLater(15, "unreachable", "x"), id="d3-away"),
        pytest.param(Stop("unreachable", "x"), 2, TryLater(30, "unreachable", "x"), id="d3-still-away"),
        pytest.param(
            Stop("unreachable", "x"), 6, TryLater(300, "unreachable", "x"), id="never-longer-than-five-minutes"
        ),
        pytest.param(Stop("throttled", "x", 900), 1, TryLater(900, "throttled", "x"), id="d3-says-how-long"),
        pytest.param(Stop("throttled", "x", 9), 1, TryLater(60, "throttled", "x"), id="but-no-shorter-than-ours"),
        pytest.param(
            Stop("unauthorized", "401"), 24, GiveUp("unauthorized", "given up after 24 tries: 401"), id="wrong-key"
        ),
        pytest.param(Stop("crashed", "boom"), 7, TryLater(30, "crashed", "boom"), id="a-defect-again"),
        pytest.param(Stop("crashed", "boom"), 8, GiveUp("crashed", "given up after 8 tries: boom"), id="poisoned"),
        pytest.param(Stop("new-word", "x"), 8, GiveUp("new-word", "given up after 8 tries: x"), id="a-word-not-known"),
    ],
)
def test_what_follows_from_how_a_chunk_ended(stop: Stop | None, tries: int, follows: object) -> None:
    assert what_next(stop, tries) == follows


@pytest.mark.parametrize("code", sorted(RETRY_BOUNDS))
def test_every_kind_of_trouble_is_given_up_in_the_end(code: str) -> None:
    tries = next(n for n in range(1, 10_000) if isinstance(what_next(Stop(code, ""), n), GiveUp))

    assert tries == RETRY_BOUNDS[code].tries


def test_in_all_a_wrong_key_is_tried_for_about_two_hours() -> None:
    waits = [RETRY_BOUNDS["unauthorized"].wait(tries) for tries in range(1, 24)]

    assert waits[:4] == [60, 120, 240, 300]
    assert sum(waits) == 60 + 120 + 240 + 20 * 300
