"""Counting what is different, and finding what comes again, without keeping it in memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3async.operations.job_file import Distinct


@given(values=st.lists(st.text(max_size=2), max_size=60))
def test_values_are_counted_and_repeated_ones_found(values: list[str]) -> None:
    with Distinct(repeats=True) as distinct:
        distinct.add(values[::2])
        distinct.add(values[1::2])

        assert distinct.count() == len(set(values))
        assert set(distinct.repeated()) == {hash(value) for value in values if values.count(value) > 1}


@pytest.mark.parametrize("count", [8191, 8192, 30_000])
def test_runs_on_disk_are_looked_at_together(count: int) -> None:
    """A value in the first run and the same in the last are found; asking does not end the counting."""
    with Distinct(repeats=True) as distinct:
        distinct.add(map(str, range(count)))
        distinct.add(["17"])
        assert distinct.count() == count
        assert list(distinct.repeated()) == [hash("17")]

        distinct.add(["new"])
        assert distinct.count() == count + 1


@pytest.mark.parametrize("count", [10, 8192, 30_000])
def test_counting_alone_counts_the_same(count: int) -> None:
    with Distinct() as distinct:
        for _ in range(2):
            distinct.add(map(str, range(count)))

        assert distinct.count() == count
