"""Every row and item ends with one outcome, and only what is proven is ok."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3async.d3.call import Call, normalize_number
from d3async.d3.response import (
    AmbiguousAnswer,
    Answer,
    ItemError,
    Refused,
    Reply,
    Throttled,
    TransportFailure,
    Unauthorized,
    read,
)
from d3async.errors import ConservationError
from d3async.policy.outcome import OUTCOMES, ItemOutcome, Verdict, check_rows, first_trouble, judge, sum_up
from tests.d3.recorded import recorded

NOT_LINKED = "The source incident is not linked to this incident."


def task(**more: Any) -> Call:
    return Call("CreateTask", {}, None, "SOC", 1, "20220125-1", job=1, **more)


def links(*items: str, tried: tuple[str, ...] = ()) -> Call:
    return Call("RemoveLinkedIncidents", {}, None, "SOC", 1, "20231025-130", items=items, tried=frozenset(tried))


def reply(status: Any, *errors: tuple[str, str], **more: Any) -> Reply:
    return Reply(status, tuple(ItemError(*error) for error in errors), **more)


def told(verdict: Verdict) -> list[tuple[str, str, str]]:
    return [(item.item, item.outcome, item.code) for item in verdict.items]


LAST_WORDS = [
    (reply("ok"), "ok", "", 200),
    (reply("ok", ("1-1", "x")), "unknown", "bad_response", 200),
    (reply("ok", nameless=True), "unknown", "bad_response", 200),
    (reply("partial"), "unknown", "bad_response", 200),
    (reply("failed", ("1-1", "x")), "failed", "command_error", 200),
    (Refused("http_400", "no", 400), "failed", "http_400", 400),
    (Refused("command_error", "no", 200), "failed", "command_error", 200),
    (Unauthorized("no"), "failed", "unauthorized", 401),
    (Throttled("wait", 1.0), "failed", "throttled", 429),
    (AmbiguousAnswer("http_500", "?", 500), "unknown", "http_500", 500),
    (TransportFailure(sent=False, code="dns", message="?"), "failed", "dns", None),
    (TransportFailure(sent=True, code="read_timeout", message="?"), "unknown", "read_timeout", None),
    (TransportFailure(sent=True, code="cut_answer", message="?", status=200), "unknown", "cut_answer", 200),
]


@pytest.mark.parametrize(("answer", "outcome", "code", "http"), LAST_WORDS)
def test_a_row_without_items(answer: Answer, outcome: str, code: str, http: int | None) -> None:
    verdict = judge(task(), answer)

    assert (verdict.outcome, verdict.code, verdict.http) == (outcome, code, http)


@pytest.mark.parametrize(("answer", "_", "code", "http"), [words for words in LAST_WORDS if words[1] == "failed"])
def test_a_refusal_says_nothing_of_an_earlier_attempt_that_may_have_arrived(
    answer: Answer, _: str, code: str, http: int | None
) -> None:
    """Called failed it would be sent again by the next run: twice on somebody's desk."""
    verdict = judge(task(maybe=True), answer)

    assert (verdict.outcome, verdict.code, verdict.http) == ("unknown", code, http)
    assert verdict.message.endswith("An earlier attempt may have reached D3 all the same.")


def test_a_doubt_says_what_it_is_also_after_an_earlier_one() -> None:
    assert judge(task(maybe=True), AmbiguousAnswer("http_500", "Unexpected Error.", 500)).message == "Unexpected Error."


@pytest.mark.parametrize(("errors", "told"), [((), "no reason"), ((("1-1", "x"), ("2-2", "y")), "x; y")])
def test_an_answer_that_fits_no_task_says_what_it_said(errors: tuple[tuple[str, str], ...], told: str) -> None:
    assert judge(task(), reply("partial", *errors)).message == (
        f"D3 answered partial with errors for a command that has no items: {told}"
    )


def test_what_d3_made_otherwise_than_asked_is_told_and_is_ok_all_the_same() -> None:
    call = Call("CreateTask", {"Due Date": "2026-12-01 17:00:00"}, None, "SOC", 1, "20220125-1", job=1)
    echo = {"rawData": {"Due Date": "2026-12-01 09:00:00 UTC"}}

    verdict = judge(call, reply("ok", data=echo))

    assert verdict.outcome == "ok"
    assert "Due Date" in verdict.anomalies[0]


def test_a_command_that_nobody_knows_is_ok_when_d3_says_so() -> None:
    assert judge(Call("DoSomething", {}, None, "SOC", 1, "x", job=1), reply("ok")).anomalies == ()


def test_an_earlier_attempt_does_not_matter_once_d3_says_ok() -> None:
    assert judge(task(maybe=True), reply("ok")).outcome == "ok"


@pytest.mark.parametrize(("answer", "outcome", "code", "http"), [words for words in LAST_WORDS if words[3] != 200])
def test_without_a_reply_every_item_has_the_rows_outcome(
    answer: Answer, outcome: str, code: str, http: int | None
) -> None:
    verdict = judge(links("a-1", "b-2"), answer)

    assert (verdict.outcome, verdict.code, verdict.http) == (outcome, code, http)
    assert told(verdict) == [("a-1", outcome, code), ("b-2", outcome, code)]


def test_a_refused_call_leaves_in_doubt_the_items_that_were_tried_before() -> None:
    verdict = judge(links("a-1", "b-2", tried=("a-1",)), Refused("http_400", "no", 400))

    assert told(verdict) == [("a-1", "unknown", "http_400"), ("b-2", "failed", "http_400")]
    assert verdict.outcome == "unknown"


ITEMS = [
    ("all asked, none listed", reply("ok"), ["ok", "ok"]),
    ("one not linked", reply("partial", ("b-2", NOT_LINKED)), ["ok", "failed not_linked"]),
    ("one refused otherwise", reply("partial", ("b-2", "closed")), ["ok", "failed item_error"]),
    ("in another letter case", reply("partial", (" B-2 ", NOT_LINKED)), ["ok", "failed not_linked"]),
    ("all listed", reply("failed", ("a-1", "x"), ("b-2", "x")), ["failed item_error"] * 2),
    ("still in the list of links", reply("ok", remaining=("A-1",)), ["failed still_linked", "ok"]),
    ("gone from the list of links", reply("ok", remaining=("z-9",)), ["ok", "ok"]),
    ("one error names nobody", reply("partial", ("a-1", "x"), nameless=True),
     ["failed item_error", "unknown bad_response"]),
    ("nobody asked for is named", reply("partial", ("z-9", "x")), ["unknown bad_response"] * 2),
    ("the same, with the list of links", reply("partial", ("z-9", "x"), remaining=("a-1",)),
     ["failed still_linked", "unknown bad_response"]),
    ("failed, one is named", reply("failed", ("a-1", "x")), ["failed item_error", "failed command_error"]),
    ("failed, one is named, the other is gone", reply("failed", ("a-1", "x"), remaining=()),
     ["failed item_error", "unknown contradiction"]),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "outcomes"), [case[1:] for case in ITEMS], ids=[case[0] for case in ITEMS])
def test_an_item_is_ok_only_if_nothing_in_the_answer_speaks_against_it(answer: Reply, outcomes: list[str]) -> None:
    verdict = judge(links("a-1", "b-2"), answer)

    assert [f"{item.outcome} {item.code}".strip() for item in verdict.items] == outcomes


def test_d3s_own_sample_removes_one_and_refuses_the_other() -> None:
    verdict = judge(links("20210127-198", "20210127-197"), read(recorded("remove_links_partial")))

    assert told(verdict) == [("20210127-198", "failed", "not_linked"), ("20210127-197", "ok", "")]
    assert (verdict.outcome, verdict.code, verdict.http) == ("partial", "not_linked", 200)
    assert verdict.message == f"20210127-198: {NOT_LINKED}"
    assert verdict.anomalies == ()


@pytest.mark.parametrize("said", [NOT_LINKED, NOT_LINKED.upper(), "is not linked"])
def test_a_link_that_is_gone_after_our_own_earlier_attempt_counts(said: str) -> None:
    verdict = judge(links("A-1", tried=("a-1",)), reply("failed", ("a-1", said)))

    assert told(verdict) == [("A-1", "ok", "removed_before")]
    assert verdict.outcome == "ok"


def test_any_other_refusal_of_an_item_counts_although_it_was_tried_before() -> None:
    assert told(judge(links("a-1", tried=("a-1",)), reply("failed", ("a-1", "closed")))) == [
        ("a-1", "failed", "item_error")
    ]


@pytest.mark.parametrize(
    ("answer", "anomaly"),
    [
        (reply("partial", ("a-1", "x"), ("z-9", "closed")),
         "ErrorData speaks of z-9, which was not asked for: closed"),
        (reply("partial", ("a-1", "x"), ("A-1", "y")), "ErrorData lists A-1 again: y"),
        (reply("ok", ("a-1", "x")), 'Status says "Successful" beside ErrorData'),
        (reply("partial", ("z-9", "x")),
         'Status says "Partially Successful" but ErrorData names none of the incidents asked for'),
        (reply("partial", ("a-1", "x"), ("b-2", "x")),
         'Status says "Partially Successful" but ErrorData names every incident asked for'),
        (reply("failed", ("a-1", "x")), 'Status says "Failed" but ErrorData does not name every incident asked for'),
        (reply("ok", anomalies=("Data cannot be read: 1",)), "Data cannot be read: 1"),
    ],
)  # fmt: skip
def test_what_is_odd_about_an_answer_is_told(answer: Reply, anomaly: str) -> None:
    assert anomaly in judge(links("a-1", "b-2"), answer).anomalies


def test_a_status_that_agrees_with_its_errors_is_not_odd() -> None:
    assert judge(links("a-1"), reply("failed", ("z-9", "x"))).anomalies == (
        "ErrorData speaks of z-9, which was not asked for: x",
    )
    assert judge(links("a-1", "b-2"), reply("failed", ("a-1", "x"), ("b-2", "x"))).anomalies == ()


def test_the_first_word_about_an_incident_listed_twice_counts() -> None:
    verdict = judge(links("a-1"), reply("failed", ("a-1", "closed"), ("a-1", NOT_LINKED)))

    assert told(verdict) == [("a-1", "failed", "item_error")]


@pytest.mark.parametrize(
    ("ok", "failed", "unknown", "outcome"),
    [
        (2, 0, 0, "ok"), (0, 2, 0, "failed"), (1, 1, 0, "partial"),
        (0, 0, 1, "unknown"), (5, 0, 1, "unknown"), (0, 5, 1, "unknown"), (5, 5, 1, "unknown"),
    ],
)  # fmt: skip
def test_a_rows_outcome_from_its_items(ok: int, failed: int, unknown: int, outcome: str) -> None:
    assert sum_up({"ok": ok, "failed": failed, "unknown": unknown}) == outcome


def item(name: str, outcome: Any, code: str = "", message: str = "") -> ItemOutcome:
    return ItemOutcome(name, outcome, code, message)


@pytest.mark.parametrize(
    ("items", "code", "message"),
    [
        ([item("a", "ok")], "", ""),
        ([item("a", "failed", "not_linked", "x")], "not_linked", "a: x"),
        ([item("a", "failed", "not_linked", "x"), item("b", "failed", "item_error", "y")], "item_error", "a: x; b: y"),
        ([item("a", "failed", "http_400", "x"), item("b", "failed", "not_linked", "y")], "item_error", "a: x; b: y"),
        ([item("a", "failed", "not_linked", "x"), item("b", "unknown", "http_500", "y")], "http_500", "a: x; b: y"),
        ([item(name, "failed", "not_linked", "x") for name in "abc"], "not_linked", "a: x; b: x; c: x"),
        ([item(name, "failed", "not_linked", "x") for name in "abcde"], "not_linked", "a: x; b: x; c: x; and 2 more"),
    ],
)
def test_code_and_message_of_a_row_are_those_of_its_worst_items(
    items: list[ItemOutcome], code: str, message: str
) -> None:
    assert first_trouble(items) == (code, message)


NUMBERS = st.sampled_from(["a-1", "A-1", "b-2", "c-3", "d-4", ""])


@given(
    asked=st.lists(st.sampled_from(["a-1", "b-2", "c-3"]), min_size=1, unique=True),
    tried=st.frozensets(st.sampled_from(["a-1", "b-2", "c-3"])),
    errors=st.lists(st.tuples(NUMBERS, st.sampled_from([NOT_LINKED, "closed"])), max_size=5),
    status=st.sampled_from(["ok", "partial", "failed"]),
    remaining=st.none() | st.lists(NUMBERS).map(tuple),
    nameless=st.booleans(),
)
def test_items_asked_are_items_told_and_a_listed_one_is_never_ok_by_itself(
    asked: list[str], tried: frozenset[str], errors: list[tuple[str, str]], status: Any,
    remaining: tuple[str, ...] | None, nameless: bool,
) -> None:  # fmt: skip
    call = links(*asked, tried=tuple(tried))
    verdict = judge(call, reply(status, *errors, remaining=remaining, nameless=nameless))

    assert [found.item for found in verdict.items] == asked
    assert verdict.outcome == sum_up(Counter(found.outcome for found in verdict.items))
    listed = {normalize_number(number) for number, _ in errors}
    for found in verdict.items:
        if found.outcome == "ok":
            assert normalize_number(found.item) not in listed or found.code == "removed_before"
            assert status != "failed" or found.code == "removed_before"


def test_rows_read_are_rows_told() -> None:
    assert OUTCOMES == ("ok", "partial", "failed", "unknown", "invalid", "unsent")
    check_rows(6, dict.fromkeys(OUTCOMES, 1))
    check_rows(0, {})


@pytest.mark.parametrize(("rows", "outcomes"), [(2, {"ok": 1}), (1, {"ok": 1, "failed": 1}), (1, {"ok": 1, "sent": 1})])
def test_a_row_lost_or_made_up_is_a_defect_that_stops_everything(rows: int, outcomes: dict[str, int]) -> None:
    with pytest.raises(ConservationError):
        check_rows(rows, outcomes)
