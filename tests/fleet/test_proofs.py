"""The proofs of `python -m benchmarks.fleet`, at full size; `test_fleet` has them small."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks import fleet as proofs
from tests.fleet import hosts

if TYPE_CHECKING:
    from pathlib import Path

IN_FLIGHT = 32


def assert_kept(found: proofs.Outcome) -> None:
    """Nothing lost, nothing doubled, no 51st request in any second, every result a row in its place."""
    assert found.strange == []
    assert (found.lost, found.doubled, found.refused) == (0, 0, 0)
    assert found.ok + found.unknown == found.tenants * found.rows


@pytest.mark.slow
def test_four_tenants_get_nearly_all_of_their_limits_and_no_second_more(tmp_path: Path) -> None:
    found = proofs.send(tmp_path, tenants=4, rows=1500)

    assert_kept(found)
    assert found.unknown == 0
    assert found.share >= 0.93


@pytest.mark.slow
def test_three_kills_a_freeze_and_a_crash_of_the_database_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    hurt = proofs.faults(proofs.KILLS, proofs.FREEZE, every=6.0)
    found = proofs.send(tmp_path, tenants=4, rows=1500, hurt=hurt)

    assert_kept(found)
    assert found.unknown <= (proofs.KILLS + 2) * 4 * IN_FLIGHT


@pytest.mark.slow
def test_a_host_that_is_cut_off_from_the_database_sends_nothing_twice(tmp_path: Path) -> None:
    reason = hosts.missing()
    if reason:
        pytest.skip(f"no hosts can be made: {reason}")

    found = hosts.send(tmp_path, tenants=2, rows=1500, cut=30.0)

    assert_kept(found)
    assert found.unknown <= 2 * IN_FLIGHT
