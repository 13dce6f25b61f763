"""What one process learns of the limit, all know."""

import pytest

from d3async.ratelimit.shared_rate_controller import LONGEST_PAUSE, SharedRateController


def pair(limit: float | None = 50.0) -> tuple[SharedRateController, SharedRateController]:
    return SharedRateController(limit), SharedRateController(limit)


def tell(teacher: SharedRateController, pupil: SharedRateController, now: float) -> None:
    """As a store does it that nobody else has told anything."""
    lesson = teacher.lesson()
    teacher.epoch = lesson.epoch
    gate = now + teacher.closed_for(now)
    teacher.told()
    pupil.learn(lesson, gate, now)


def refused(mind: SharedRateController, now: float, retry_after: float | None = None) -> None:
    mind.throttled(now - 0.1, now, retry_after, 0.5)


def test_a_refusal_at_one_closes_the_gate_and_cuts_the_rate_of_the_other() -> None:
    one, other = pair()
    refused(one, 100.0, 2.0)
    assert one.news
    tell(one, other, 100.0)

    assert other.rate == one.rate < 45
    assert other.opens_at == one.opens_at
    assert not one.news
    assert not other.news


def test_a_refusal_that_belongs_to_an_event_that_was_told_is_no_second_cut() -> None:
    one, other = pair()
    refused(one, 100.0)
    tell(one, other, 100.05)
    cut = other.rate
    other.throttled(99.9, 100.1, None, 0.5)

    assert other.rate == cut
    assert not other.news


def test_both_regain_the_rate_together() -> None:
    one, other = pair()
    refused(one, 100.0)
    tell(one, other, 100.0)
    for tenth in range(5, 80):
        for mind in (one, other):
            mind.accepted(100.0 + tenth / 10 - 0.05, 100.0 + tenth / 10)

    assert one.rate == pytest.approx(other.rate, rel=0.02)
    assert one.learnt is None


def test_within_an_event_the_higher_rate_is_the_newer() -> None:
    one, other = pair(None)
    for answer in range(20):
        one.accepted(100.0 + answer, 100.1 + answer)
    assert one.rate > other.rate
    other.learn(one.lesson().__class__(0, one.rate), -1e9, 121.0)

    assert other.rate == one.rate


def test_nobody_goes_above_its_own_limit() -> None:
    slow, quick = SharedRateController(10.0), SharedRateController(50.0)
    slow.learn(quick.lesson().__class__(0, quick.rate), -1e9, 100.0)

    assert slow.rate == slow.top < 10


def test_what_was_not_told_for_lack_of_a_store_is_told_again() -> None:
    mind = SharedRateController(50.0)
    refused(mind, 100.0)
    lesson = mind.lesson()
    mind.told()
    mind.untold(lesson)

    assert mind.news
    assert mind.raised


def test_a_store_that_forgot_is_told_again() -> None:
    one, other = pair()
    refused(one, 100.0)
    tell(one, other, 100.0)
    other.learn(SharedRateController(50.0).lesson().__class__(0, 49.0), -1e9, 101.0)

    assert other.news
    assert other.epoch == 0


def test_nobody_makes_the_others_wait_for_a_day() -> None:
    one, other = pair()
    refused(one, 100.0, 86_400.0)
    assert one.closed_for(100.0) == LONGEST_PAUSE
    other.learn(other.lesson().__class__(0, 49.0), 86_500.0, 100.0)

    assert other.opens_at == 100.0 + LONGEST_PAUSE


def test_the_end_of_a_block_is_news_too() -> None:
    one, other = pair()
    for event in range(4):
        refused(one, 100.0 + 5 * event)
    tell(one, other, 120.0)
    assert other.probing
    one.accepted(121.0, 121.1)
    assert one.news
    tell(one, other, 121.2)

    assert not other.probing
    assert other.rate == one.rate


def test_the_answers_of_the_others_count_for_what_the_server_takes() -> None:
    one, other = pair()
    other.others_accepted(40)
    refused(one, 100.0)
    refused(other, 100.0)

    assert other.learnt is not None
    assert one.learnt is not None
    assert other.learnt >= one.learnt
