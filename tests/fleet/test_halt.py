"""`submit --halt`: as in `run`, and everything that tells of the run says why the rest was not sent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.end_to_end.ground import running as sandbox
from tests.fleet.ground import Ran, fleet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.database import Postgres

IN_FLIGHT = 32
ROWS = 120


def test_a_run_that_reached_its_rule_says_so_everywhere_and_submitted_again_goes_on(
    tmp_path: Path, postgres: Postgres, typed: Callable[..., Ran]
) -> None:
    broken = [True]

    def faults(ask: Any) -> str | None:
        return "error-500-after" if ask.command == "CreateTask" and broken else None

    with sandbox(rate=0, faults=faults) as d3:
        key, urls = d3.env["D3_API_KEY"], {"t0": str(d3.url)}
        with fleet(tmp_path / "fleet", postgres.database(), urls, rate=500, typed=typed, key=key) as found:
            file = found.file("t0", ROWS)
            submitted = found.run("submit", file, "--halt", "failed=90%", "--halt", "unknown=3")
            found.worker()
            found.wait_for("select count(*) from d3async_round where finished_at is not null", 1, seconds=20)
            stood, told = found.outcomes(), found.run("status", "t0")
            at, rows = json.loads(found.run("status", "t0", "--json").out), found.results("t0")
            found.run("report", "t0", "-o", found.folder / "report.html")
            report = (found.folder / "report.html").read_text()
            broken.clear()
            found.run("submit", file)
            again = found.results("t0")
            found.wait(ROWS, seconds=20)
            codes, after = found.end(), found.outcomes()

    why = "--halt unknown=3: 3 rows unknown"
    unsent = [(row["_code"], row["_message"]) for row in rows if row["_outcome"] == "unsent"]
    assert (submitted.code, codes) == (0, [0])
    assert 3 <= stood["unknown"] <= 3 + IN_FLIGHT
    assert f"UTC: {why}\n" in told.out
    assert (at["stop"], at["exit_code"], at["running"]) == ({"code": "halt", "message": why}, 5, False)
    assert unsent == [("halt", f"The run stopped before it: {why}")] * (ROWS - stood["unknown"])
    assert f"It stopped before the end: {why}" in report
    assert {row["_code"] for row in again if row["_outcome"] == "unsent"} == {""}
    assert after == {"unknown": stood["unknown"], "ok": ROWS - stood["unknown"]}


@pytest.mark.parametrize("rule", ["ok=3", "failed=101%"])
def test_what_is_no_rule_is_refused_before_anything_is_read(
    tmp_path: Path, postgres: Postgres, typed: Callable[..., Ran], rule: str
) -> None:
    with fleet(tmp_path / "fleet", postgres.database(), {"t0": "http://127.0.0.1:9/x"}, typed=typed) as found:
        told = found.run("submit", "missing.csv", "--halt", rule)

    assert told.code == 2
    assert "is not a rule like failed=3%" in told.err
