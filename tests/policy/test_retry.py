"""What is sent again, and when: contract §7 as a table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3async.d3.response import AmbiguousAnswer, Answer, Refused, Reply, Throttled, TransportFailure, Unauthorized
from d3async.policy.halt_and_exit_codes import Stop
from d3async.policy.retry import Budget, Decision, Final, Policy, Retry, backoff, decide

POLICY = Policy(max_attempts=4, max_wait=300.0)


def word(decision: Decision) -> str:
    match decision:
        case Retry(happened=False, counts=False):
            return "again, free"
        case Retry(happened=True, counts=True):
            return "again, charged"
        case Stop():
            return f"stop: {decision.code}"
        case _:
            return "settled"


def unsent(code: str) -> TransportFailure:
    return TransportFailure(sent=False, code=code, message="")


def sent(code: str) -> TransportFailure:
    return TransportFailure(sent=True, code=code, message="")


# fmt: off
TABLE = [
    # what happened                          CreateTask             RemoveLinkedIncidents
    (unsent("dns"),                          "again, free",         "again, free"),
    (unsent("refused"),                      "again, free",         "again, free"),
    (unsent("tls"),                          "again, free",         "again, free"),
    (unsent("connect_timeout"),              "again, free",         "again, free"),
    (unsent("connect_failed"),               "again, free",         "again, free"),
    (Throttled("", None),                    "again, free",         "again, free"),
    (Throttled("", 300.0),                   "again, free",         "again, free"),
    (Throttled("", 300.1),                   "stop: throttled",     "stop: throttled"),
    (Unauthorized(""),                       "settled",             "settled"),
    (Refused("http_400", "", 400),           "settled",             "settled"),
    (Refused("http_403", "", 403),           "settled",             "settled"),
    (Refused("http_404", "", 404),           "settled",             "settled"),
    (Refused("command_error", "", 200),      "settled",             "settled"),
    (Reply("ok"),                            "settled",             "settled"),
    (Reply("partial"),                       "settled",             "settled"),
    (Reply("failed"),                        "settled",             "settled"),
    (AmbiguousAnswer("http_500", "", 500),          "settled",             "again, charged"),
    (AmbiguousAnswer("http_503", "", 503),          "settled",             "again, charged"),
    (AmbiguousAnswer("http_302", "", 302),          "settled",             "again, charged"),
    (AmbiguousAnswer("bad_response", "", 200),      "settled",             "again, charged"),
    (sent("read_timeout"),                   "settled",             "again, charged"),
    (sent("connection_lost"),                "settled",             "again, charged"),
    (sent("cut_answer"),                     "settled",             "again, charged"),
    (sent("answer_too_large"),               "settled",             "again, charged"),
]
# fmt: on


@pytest.mark.parametrize(("answer", "create", "remove"), TABLE)
def test_what_is_sent_again(answer: Answer, create: str, remove: str) -> None:
    def first(*, repeatable: bool) -> str:
        return word(decide(answer, repeatable=repeatable, attempt=1, policy=POLICY, dice=0.5))

    assert (first(repeatable=False), first(repeatable=True)) == (create, remove)


@pytest.mark.parametrize("answer", [row[0] for row in TABLE if row[2] == "again, charged"])
@pytest.mark.parametrize(
    ("attempt", "budget", "then"),
    [(3, True, "again, charged"), (4, True, "settled"), (5, True, "settled"), (1, False, "settled")],
)
def test_doubt_is_charged_to_the_attempts_and_to_the_budget(
    answer: Answer, attempt: int, budget: bool, then: str
) -> None:
    decision = decide(answer, repeatable=True, attempt=attempt, policy=POLICY, dice=0.5, budget=budget)

    assert word(decision) == then


@pytest.mark.parametrize("answer", [row[0] for row in TABLE if row[1] == "again, free"])
def test_what_did_not_happen_is_never_charged(answer: Answer) -> None:
    decision = decide(answer, repeatable=False, attempt=99, policy=POLICY, dice=0.99, budget=False)

    assert decision == Retry(0.0, happened=False, counts=False)


def test_four_attempts_and_five_minutes_unless_told_otherwise() -> None:
    assert Policy() == Policy(max_attempts=4, max_wait=300.0)


def test_one_attempt_means_one_attempt() -> None:
    decision = decide(sent("read_timeout"), repeatable=True, attempt=1, policy=Policy(max_attempts=1), dice=0.0)

    assert decision == Final()


def test_a_pause_that_is_too_long_is_named_and_carried() -> None:
    assert decide(Throttled("", 1_000.0), repeatable=True, attempt=1, policy=POLICY, dice=0.0) == Stop(
        "throttled", "D3 asks for a pause of 1000 s; --max-wait allows 300 s", 1_000.0
    )


@pytest.mark.parametrize(
    ("attempt", "dice", "seconds"),
    [(1, 1.0, 0.5), (2, 1.0, 1.0), (3, 1.0, 2.0), (3, 0.5, 1.0), (6, 1.0, 16.0), (7, 1.0, 20.0), (7, 0.0, 0.0)],
)
def test_full_jitter_up_to_half_a_second_doubled_each_time_and_20_seconds(
    attempt: int, dice: float, seconds: float
) -> None:
    assert backoff(attempt, dice) == seconds


def test_the_delay_of_a_retry_is_the_backoff_of_its_attempt() -> None:
    decision = decide(sent("read_timeout"), repeatable=True, attempt=2, policy=POLICY, dice=0.25)

    assert decision == Retry(0.25, happened=True, counts=True)


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_delay_is_never_below_0_nor_above_20_seconds(attempt: int, dice: float) -> None:
    assert 0.0 <= backoff(min(attempt, 900), dice) <= 20.0


def test_a_hundred_retries_spend_the_budget_and_ten_successes_give_one_back() -> None:
    budget = Budget()
    for _ in range(99):
        budget = budget.spent()
    assert budget.left
    budget = budget.spent()
    assert not budget.left
    assert budget.spent() == Budget(0.0)
    for _ in range(9):
        budget = budget.earned()
    assert not budget.left
    for _ in range(2):
        budget = budget.earned()
    assert budget.left


def test_the_budget_is_never_more_than_a_hundred() -> None:
    assert Budget().earned() == Budget(100.0)
