"""Numbers and times as a reader expects them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from d3async.files import words
from d3async.files.summary import next_steps
from tests.journal.factory import START

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("value", "expected"), [(3114, "3,114"), (48.234, "48.2"), (50.0, "50"), (0, "0")])
def test_numbers(value: Any, expected: Any) -> None:
    assert words.number(value) == expected


@pytest.mark.parametrize(
    ("count", "total", "expected"),
    [
        (0, 9, "0 %"), (9, 9, "100 %"), (1, 3, "33.3 %"), (1, 10**6, "< 0.1 %"), (10**6 - 1, 10**6, "> 99.9 %"),
        (0, 0, "0 %"),
    ],
)  # fmt: skip
def test_a_share_is_never_nothing_of_something_nor_all_of_less(count: int, total: int, expected: Any) -> None:
    assert words.share(count, total) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.05, "0.05 s"), (5.2, "5.2 s"), (65, "1 min 5 s"), (12_000, "3 h 20 min"), (60, "1 min 0 s")],
)
def test_durations(seconds: float, expected: Any) -> None:
    assert words.lasting(seconds) == expected


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
    assert words.fact(value, key) == expected


def told(*, unsent: int = 0, unknown: int = 0, **more: Any) -> dict[str, Any]:
    return {"outcomes": {"unsent": unsent, "unknown": unknown}, "input": {"path": "in/my tasks.csv"}, **more}


@pytest.mark.parametrize(
    ("summary", "folder", "expected"),
    [
        (told(next="d3async run x --yes", exit_code=5, unsent=1), "x.d3run", ["d3async run x --yes"]),
        (told(next=None, exit_code=0), "x.d3run", []),
        (told(unsent=1, command_line="d3async run x --yes"), "x.d3run", ["d3async run x --yes"]),
        (told(unsent=1), "in/my tasks.d3run", ["d3async run 'in/my tasks.csv'"]),
        (told(unsent=1), "other", ["d3async run 'in/my tasks.csv' -o other"]),
        (told(unknown=1), "my tasks.d3run", ["d3async reconcile 'my tasks.d3run'"]),
        (told(), "x.d3run", []),
    ],
)
def test_what_to_type_next_is_what_the_run_said_or_follows_from_what_it_left(
    summary: dict[str, Any], folder: Path, expected: Any
) -> None:
    assert next_steps(summary, folder) == expected
