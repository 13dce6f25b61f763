"""Numbers and times as a reader expects them."""

from __future__ import annotations

from typing import Any

import pytest

from d3async.files import number_format
from tests.journal.factory import START


@pytest.mark.parametrize(("value", "expected"), [(3114, "3,114"), (48.234, "48.2"), (50.0, "50"), (0, "0")])
def test_numbers(value: Any, expected: Any) -> None:
    assert number_format.number(value) == expected


@pytest.mark.parametrize(
    ("count", "total", "expected"),
    [
        (0, 9, "0 %"), (9, 9, "100 %"), (1, 3, "33.3 %"), (1, 10**6, "< 0.1 %"), (10**6 - 1, 10**6, "> 99.9 %"),
        (0, 0, "0 %"),
    ],
)  # fmt: skip
def test_a_share_is_never_nothing_of_something_nor_all_of_less(count: int, total: int, expected: Any) -> None:
    assert number_format.share(count, total) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.05, "0.05 s"), (5.2, "5.2 s"), (65, "1 min 5 s"), (12_000, "3 h 20 min"), (60, "1 min 0 s")],
)
def test_durations(seconds: float, expected: Any) -> None:
    assert number_format.lasting(seconds) == expected


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("started_at", START, "2026-12-01 17:00:00"),
        ("finished_at", "2026-12-01T17:00:05.123Z", "2026-12-01 17:00:05"),
        ("elapsed_s", 65.0, "1 min 5 s"),
        ("rate", 48.1, "48.1 requests/s"),
        ("requests", 3114, "3,114"),
        ("limiter", {"learnt": None}, '{"learnt": null}'),
        ("flag", True, "true"),
        ("note", "x" * 3000, "x" * 2000 + "…"),
    ],
)
def test_facts_are_told_by_their_key(key: str, value: Any, expected: Any) -> None:
    assert number_format.fact(value, key) == expected
