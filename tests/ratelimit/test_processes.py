"""Real processes on one limit: the short version of `python -m benchmarks.shared_limit`.

How much of the limit they reach depends on what else the machine does: the benchmark measures it, on an idle one.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from benchmarks import shared_limit
from benchmarks.harness import Scale
from benchmarks.shared_limit import MOST, together
from tests.database import running

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from subprocess import Popen

    Workers = Sequence[Popen[str]]


@pytest.mark.skipif(os.name != "posix", reason="needs SIGSTOP")
def test_through_a_file_they_keep_the_limit_though_one_dies_and_one_is_frozen(tmp_path: Path) -> None:
    def kill(workers: Workers) -> None:
        workers[0].kill()
        workers[1].send_signal(signal.SIGSTOP)

    def thaw(workers: Workers) -> None:
        workers[1].send_signal(signal.SIGCONT)

    environ = {"XDG_STATE_HOME": str(tmp_path), "HOME": str(tmp_path), "D3_CONFIG": os.devnull}
    seen = together(environ, seconds=3, processes=3, acts=((0.5, kill), (1.5, thaw)))

    assert seen.worst <= MOST
    assert seen.rate(1.5, 3) > 0
    assert seen.told == []


def test_without_their_database_they_go_on_and_with_it_they_share_again(tmp_path: Path) -> None:
    with running() as server:
        environ = {"D3_LIMIT_URL": server.database(), "D3_CONFIG": os.devnull}
        acts = ((1.0, lambda _: server.stop("immediate")), (5.0, lambda _: server.start()))
        seen = together(environ, seconds=7, processes=2, acts=acts)

    assert seen.worst <= MOST
    assert seen.rate(3.0, 5.0) > 0
    assert [text.partition(" (")[0] for _, text in seen.told] == [
        *["the limit cannot be shared"] * 2,
        *["the limit is shared again"] * 2,
    ]


@pytest.mark.slow
def test_all_that_the_benchmark_promises_is_kept() -> None:
    lines = list(shared_limit.measure(Scale(quick=False, rounds=1)))

    assert [line.what for line in lines if line.good is False] == []
