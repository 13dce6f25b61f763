"""A 401 about one incident: another one, tried alone, shows whether the key or the row is to blame."""

import pytest

from d3async.d3.call import Call
from d3async.d3.response import AmbiguousAnswer, Answer, Refused, Reply, TransportFailure, Unauthorized
from d3async.policy.refused_access import RefusedAccess, same_access

NO = Unauthorized("Authentication failed.")
OK = Reply("ok")


def call(incident: str, job: int = 1, *, command: str = "CreateTask", user: str | None = None) -> Call:
    return Call(command, {}, user, "SOC", 0, incident, job=job)


def refused(*calls: Call) -> RefusedAccess:
    access = RefusedAccess()
    for one in calls:
        assert access.admit(one)
    for one in calls:
        assert access.came(one, NO) == ""
    return access


def test_without_a_refusal_everything_goes_and_nothing_is_said() -> None:
    access = RefusedAccess()
    for job, answer in enumerate((OK, None, AmbiguousAnswer("http_500", "", 500))):
        assert access.admit(call("a", job))
        assert access.came(call("a", job), answer) == ""
    assert not access.in_doubt


@pytest.mark.parametrize(
    ("other", "may_go"),
    [
        (call("b", 2), True),
        (call("a", 2), False),  # the same incident
        (call(" A ", 2), False),
        (call("b", 2, command="RemoveLinkedIncidents"), False),  # it would not explain the refusal
        (call("b", 2, user="bob"), False),
    ],
)
def test_only_a_row_that_can_explain_the_refusal_goes(other: Call, may_go: bool) -> None:
    access = refused(call("a"))

    assert access.in_doubt
    assert access.may_go(other) is access.admit(other) is may_go


def test_one_row_at_a_time_is_tried_and_its_own_further_attempts_may_go() -> None:
    access = refused(call("a"))
    assert access.admit(call("b", 2))
    assert access.admit(call("b", 2))
    assert not access.admit(call("b", 3))
    assert not access.admit(call("c", 4))


ANSWERS: list[tuple[Answer | None, str, bool]] = [
    (OK, "accepted", False),
    (Reply("failed"), "accepted", False),
    (Refused("command_error", "File not found", 200), "accepted", False),
    (NO, "refused", True),
    (Refused("http_403", "", 403), "tried", True),
    (Refused("http_400", "", 400), "tried", True),
    (AmbiguousAnswer("http_500", "", 500), "tried", True),
    (TransportFailure(sent=True, code="read_timeout", message=""), "tried", True),
    (None, "tried", True),
]


@pytest.mark.parametrize(("answer", "said", "in_doubt"), ANSWERS)
def test_what_the_answer_to_the_tried_row_says(answer: Answer | None, said: str, in_doubt: bool) -> None:
    access = refused(call("a"))
    assert access.admit(call("b", 2))

    assert access.came(call("b", 2), answer) == said
    assert access.in_doubt is in_doubt
    assert access.admit(call("c", 3))


def test_an_answer_to_a_row_that_was_in_flight_before_explains_nothing() -> None:
    access = RefusedAccess()
    access.admit(call("a"))
    access.admit(call("b", 2))
    access.came(call("a"), NO)

    assert access.came(call("b", 2), OK) == ""
    assert access.in_doubt


def test_refusals_of_another_user_wait_for_a_row_of_that_user() -> None:
    access = refused(call("a"), call("a", 2, user="bob"))
    access.admit(call("b", 3))

    assert access.came(call("b", 3), OK) == "accepted"
    assert access.in_doubt
    assert not access.may_go(call("c", 4))
    assert access.may_go(call("c", 4, user="bob"))
    assert same_access(call("a"), call("b", 3))
    assert not same_access(call("a"), call("a", user="bob"))
