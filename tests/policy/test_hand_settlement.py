"""Which rows a user names, and which of them may be settled by hand or taken back."""

from __future__ import annotations

import pytest

from d3async.policy.hand_settlement import (
    CODE,
    Hand,
    ItemBefore,
    RowChoice,
    RowNow,
    Settlement,
    message_of,
    parse_rows,
    undo_note,
    undone_in,
    why_not_settle,
    why_not_undo,
)
from d3async.policy.outcome import ItemOutcome, row_from_items

BY = Hand("alice", "soc-1", 0.0)


@pytest.mark.parametrize(
    ("words", "ranges", "numbers"),
    [
        (["3"], ((3, 3),), [3]),
        (["3", "5-7"], ((3, 3), (5, 7)), [3, 5, 6, 7]),
        (["3,5-7", " 1 "], ((3, 3), (5, 7), (1, 1)), [1, 3, 5, 6, 7]),
        (["5-7", "6-8", "6"], ((5, 7), (6, 8), (6, 6)), [5, 6, 7, 8]),
        (["9-999999999"], ((9, 999_999_999),), [9, 10]),
        (["11"], ((11, 11),), []),
        ([], (), []),
    ],
)
def test_rows_are_named_by_numbers_and_ranges(
    words: list[str], ranges: tuple[tuple[int, int], ...], numbers: list[int]
) -> None:
    choice = parse_rows(words)

    assert choice == RowChoice(ranges)
    assert choice.numbers(10) == numbers


@pytest.mark.parametrize("word", ["0", "-3", "3-", "7-5", "a", "1.0", "1e3", "17-k3f9", "٣", "1234567890", "all"])
def test_what_is_no_row_number_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match=word):
        parse_rows(["1", word])


def row(state: str = "unknown", code: str | None = "http_500", attempts: int = 1) -> RowNow:
    return RowNow(7, 3, 4, state, code, "?", maybe=True, attempts=attempts)


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (row(), ""),
        (row("ok", ""), "is ok; only rows that are unknown can be settled"),
        (row("pending", None), "is unsent; only rows that are unknown can be settled"),
        (row("invalid", "invalid.due"), "is invalid; only rows that are unknown can be settled"),
        (row("partial", "not_linked"), "is partial; only rows that are unknown can be settled"),
        (row("failed", CODE), "is failed already, settled by hand; `undo` takes that back"),
    ],
)
def test_only_unknown_rows_are_settled(now: RowNow, why: str) -> None:
    assert why_not_settle(now) == why


TASK = Settlement(1, 7, "ok", "ok", 1, "http_500", "?", maybe=True)
LINK = Settlement(1, 7, "ok", "partial", 1, "http_500", "?", maybe=True, items=(ItemBefore(9, "x", "y", maybe=True),))
DONE = ItemOutcome("1", "ok", CODE)


@pytest.mark.parametrize(
    ("now", "last", "items", "why"),
    [
        (row("ok", CODE), TASK, [], ""),
        (row("ok", "changed_after_ok"), TASK, [], ""),
        (row("partial", "item_error"), LINK, [DONE], ""),
        (row(), None, [], "was not settled by hand"),
        (row("ok", "", attempts=2), TASK, [], "was sent after it was settled"),
        (row("pending", None), TASK, [], "was changed after it was settled"),
        (row("partial", "item_error"), LINK, [], "was changed after it was settled"),
        (row("partial", "item_error"), LINK, [ItemOutcome("1", "ok", "removed")], "was changed after it was settled"),
        (row("partial", "item_error"), LINK, [ItemOutcome("1", "unknown", "x")], "was changed after it was settled"),
    ],
)
def test_only_what_is_as_it_was_settled_is_taken_back(
    now: RowNow, last: Settlement | None, items: list[ItemOutcome], why: str
) -> None:
    assert why_not_undo(now, last, items) == why


@pytest.mark.parametrize("settlement", [TASK, LINK])
def test_a_settlement_comes_back_from_the_journal_as_it_went_in(settlement: Settlement) -> None:
    text = settlement.to_json(3, BY)

    assert text.isascii()
    assert Settlement.from_json(text) == settlement
    assert undone_in(undo_note(settlement, 3, BY)) == (1, 7)


@pytest.mark.parametrize(
    ("code", "message", "words"),
    [
        ("http_500", "Oops.", " Before: unknown, http_500: Oops."),
        ("interrupted", None, " Before: unknown, interrupted"),
        (None, None, ""),
    ],
)
def test_the_message_says_who_when_and_what_was_before(code: str | None, message: str | None, words: str) -> None:
    assert message_of("ok", BY, code, message) == f"Settled by hand as ok (alice, 1970-01-01 00:00:00 UTC).{words}"


BAD = ItemOutcome("1", "failed", "not_linked", "gone")


@pytest.mark.parametrize(
    ("counts", "trouble", "looked_up", "row"),
    [
        ({"ok": 2}, [], None, ("ok", "", "")),
        ({"ok": 2}, [], ("removed", "Read back."), ("ok", "removed", "Read back.")),
        ({"ok": 1, "failed": 1}, [BAD], ("removed", "Read back."), ("partial", "not_linked", "1: gone")),
        ({"failed": 1}, [BAD], None, ("failed", "not_linked", "1: gone")),
        ({"failed": 1, "pending": 1}, [BAD], None, ("pending", None, None)),
        ({"failed": 1, "pending": 1}, [BAD], ("removed", ""), ("pending", "not_linked", "1: gone")),
        ({"unknown": 1, "pending": 1}, [ItemOutcome("2", "unknown", "x", "y")], None, ("unknown", "x", "2: y")),
    ],
)
def test_a_row_is_what_its_items_are(
    counts: dict[str, int], trouble: list[ItemOutcome], looked_up: tuple[str, str] | None, row: tuple[str, ...]
) -> None:
    assert row_from_items(counts, trouble, looked_up=looked_up) == row
