"""Answers that D3 did not write: three in a row make everyone wait, and the first of all stops the run."""

from dataclasses import replace

import pytest

from d3async.policy.foreign_answers import ForeignAnswers

PAGE = "a page titled ‘Sign In’ answers (HTTP 200)"
D3 = ForeignAnswers().by_d3()


def later(count: int) -> ForeignAnswers:
    """After *count* answers, each of the last ones to a try when it was time; all of them since 100."""
    answers, now = D3, 100.0
    for _ in range(count):
        answers = answers.foreign(PAGE, now=now, retry_after=None, dice=1.0)
        now = max(now, answers.opens_at) if answers.waiting else now
    return answers


def after(count: int, answers: ForeignAnswers = D3, *, wait: float | None = None, now: float = 100.0) -> ForeignAnswers:
    for _ in range(count):
        answers = replace(answers.foreign(PAGE, now=now, retry_after=wait, dice=1.0), since=now)
    return answers


@pytest.mark.parametrize(
    ("answers", "settled", "waiting"),
    [
        (ForeignAnswers(), False, False),  # one request in flight until D3 has answered
        (D3, True, False),
        (after(2), True, False),
        (after(3), False, True),
        (after(3).by_d3(), True, False),
        (after(2).by_d3().foreign(PAGE, now=1.0, retry_after=None, dice=0.0), True, False),  # not in a row
        (after(1, ForeignAnswers()), False, False),
        (after(3, ForeignAnswers()), False, True),
    ],
)
def test_who_may_send(answers: ForeignAnswers, settled: bool, waiting: bool) -> None:
    assert (answers.settled, answers.waiting) == (settled, waiting)


@pytest.mark.parametrize(("wait", "opens_after"), [(None, 1.0), (300.0, 300.0), (0.0, 0.0)])
def test_the_first_try_is_when_the_server_says_or_soon(wait: float | None, opens_after: float) -> None:
    assert after(3, wait=wait).opens_at == 100.0 + opens_after


@pytest.mark.parametrize(("tries", "waits"), [(1, [1, 2]), (3, [1, 2, 4, 8]), (7, [1, 2, 4, 8, 16, 32, 60, 60])])
def test_each_further_try_comes_later(tries: int, waits: list[int]) -> None:
    assert later(3 + tries).opens_at == 100.0 + sum(waits)


def test_an_answer_that_was_in_flight_when_the_wait_began_makes_it_no_longer_unless_it_says_so() -> None:
    waiting = after(3)
    assert after(30).opens_at == waiting.opens_at
    assert waiting.foreign(PAGE, now=100.5, retry_after=60.0, dice=0.0).opens_at == 160.5
    assert waiting.foreign(PAGE, now=100.5, retry_after=0.25, dice=0.0).opens_at == waiting.opens_at


def test_the_first_answer_of_all_stops_the_run_and_names_the_page() -> None:
    stop = after(1, ForeignAnswers()).stop_at_first()
    assert stop is not None
    assert (stop.code, stop.message) == ("not_d3", f"not D3: {PAGE}")
    assert after(9).stop_at_first() is None
    assert ForeignAnswers().stop_at_first() is None


@pytest.mark.parametrize(
    ("answers", "now", "retry_after"),
    [
        (after(3, wait=900.0), 100.0, 900.0),  # the wait that is asked for is longer than --max-outage
        (after(3, wait=899.0), 100.0, None),
        (after(3).foreign(PAGE, now=999.0, retry_after=2.0, dice=0.0), 999.0, 2.0),  # since 100
        (after(3, wait=900.0), 1000.0, None),  # time to try
        (after(2, wait=900.0), 100.0, None),  # nobody waits
        (after(3, ForeignAnswers()), 100.0, 1.0),  # D3 was never there
    ],
)
def test_d3_is_waited_for_as_long_as_max_outage(answers: ForeignAnswers, now: float, retry_after: float | None) -> None:
    stop = answers.stop_waiting(now, 900.0)
    assert (stop.retry_after if stop else None) == retry_after
