"""When no new work is started, and with which code a run ends."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3async.policy.halt_and_exit_codes import DEFAULT, Halt, Stop, exit_code, parse, reached, with_default


@pytest.mark.parametrize(
    ("text", "outcome", "amount", "percent", "shown"),
    [
        ("failed=3%", "failed", 3.0, True, "failed=3%"),
        ("failed=20", "failed", 20.0, False, "failed=20"),
        (" Unknown = 5 ", "unknown", 5.0, False, "unknown=5"),
        ("partial=0.5%", "partial", 0.5, True, "partial=0.5%"),
        ("failed=100%", "failed", 100.0, True, "failed=100%"),
        ("failed=1000000", "failed", 1_000_000.0, False, "failed=1000000"),
    ],
)
def test_a_rule_as_written(text: str, outcome: str, amount: float, percent: bool, shown: str) -> None:
    rule = parse(text)

    assert rule == Halt(outcome, amount, percent=percent)
    assert str(rule) == shown


@pytest.mark.parametrize(
    "text", ["", "failed", "failed=", "failed=x", "ok=3", "failed=-1", "failed=3%%", "failed=101%"]
)
def test_what_is_no_rule_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="failed=3%"):
        parse(text)


@pytest.mark.parametrize(
    ("rule", "found", "rows", "reached"),
    [
        ("failed=20", 19, 1_000, False),
        ("failed=20", 20, 1_000, True),
        ("failed=3%", 2, 100, False),
        ("failed=3%", 3, 100, True),
        ("failed=3%", 1, 10, True),
        ("failed=3%", 0, 10, False),
        ("failed=0", 0, 10, False),
        ("failed=0", 1, 10, True),
    ],
)
def test_a_rule_is_reached_by_rows_of_this_run(rule: str, found: int, rows: int, reached: bool) -> None:
    assert parse(rule).reached({"failed": found, "unknown": 999}, rows) is reached


@given(st.floats(0, 100), st.integers(0, 10_000), st.integers(0, 10_000))
def test_more_of_the_outcome_never_unreaches_a_rule(amount: float, found: int, rows: int) -> None:
    rule = Halt("failed", amount, percent=True)

    assert rule.reached({"failed": found + 1}, rows) or not rule.reached({"failed": found}, rows)


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ([], None),
        (["failed=3", "unknown=2"], None),
        (["failed=3", "unknown=1"], "--halt unknown=1: 1 rows unknown"),
        (["failed=2%", "unknown=1"], "--halt failed=2%: 2 rows failed"),
    ],
)
def test_the_first_rule_that_is_reached_is_told(rules: list[str], words: str | None) -> None:
    assert reached(map(parse, rules), Counter(failed=2, unknown=1), 100) == words


def test_fifty_unknown_rows_halt_unless_a_rule_speaks_of_unknown() -> None:
    failed, unknown = parse("failed=3%"), parse("unknown=5")

    assert with_default([]) == (DEFAULT,)
    assert with_default([failed]) == (failed, DEFAULT)
    assert with_default([unknown]) == (unknown,)
    assert str(DEFAULT) == "unknown=50"


STOP = {code: Stop(code, "") for code in ("unauthorized", "halt", "throttled", "unreachable", "interrupted",
                                          "terminated", "fenced", "journal")}  # fmt: skip


@pytest.mark.parametrize(
    ("outcomes", "stop", "code"),
    [
        ({"ok": 3}, None, 0),
        ({}, None, 0),
        ({"ok": 3, "failed": 1}, None, 1),
        ({"ok": 3, "partial": 1}, None, 1),
        ({"ok": 3, "invalid": 1}, None, 1),
        ({"ok": 3, "unsent": 7}, None, 0),
        ({"failed": 1, "unknown": 1}, None, 4),
        ({"unknown": 1, "unsent": 1}, STOP["unauthorized"], 5),
        ({"unknown": 1, "unsent": 1}, STOP["halt"], 5),
        ({"unknown": 1, "failed": 2}, STOP["halt"], 4),
        ({"failed": 20}, STOP["halt"], 1),
        ({"unsent": 1}, STOP["unreachable"], 5),
        ({"unsent": 1}, STOP["journal"], 5),
        ({"unsent": 1}, STOP["throttled"], 6),
        ({"unsent": 1}, STOP["fenced"], 2),
        ({"unknown": 1}, STOP["interrupted"], 130),
        ({"unknown": 1}, STOP["terminated"], 143),
    ],
)
def test_the_exit_code_of_contract_8(outcomes: dict[str, int], stop: Stop | None, code: int) -> None:
    assert exit_code(outcomes, stop) == code
