"""Unknown rows of a run of the fleet, settled by the user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.end_to_end.ground import running as sandbox
from tests.fleet.ground import fleet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.database import Postgres
    from tests.fleet.ground import Ran


def test_unknown_rows_of_a_run_are_settled_and_the_next_submit_sends_those_that_failed(
    tmp_path: Path, postgres: Postgres, typed: Callable[..., Ran]
) -> None:
    def lost(ask: Any) -> str | None:
        return "drop-before" if ask.command == "CreateTask" and "lost" in ask.params["Task Name"] else None

    with sandbox(rate=0, faults=lost) as d3:
        key = d3.env["D3_API_KEY"]
        with fleet(tmp_path / "fleet", postgres.database(), {"t0": str(d3.url)}, typed=typed, key=key) as found:
            file = found.file("t0", 4)
            file.write_text(file.read_text().replace("user 2", "user 2 is lost").replace("user 3", "user 3 is lost"))
            found.run("submit", file)
            found.worker()
            found.wait(4, seconds=20)
            found.end()
            unknown = [row["_row"] for row in found.results("t0") if row["_outcome"] == "unknown"]
            refused = found.run("settle", "t0", "ok", "1-4")
            one, two = found.run("settle", "t0", "ok", unknown[0]), found.run("settle", "t0", "failed", unknown[1])
            status = found.run("status", "t0")
            after = {row["_row"]: (row["_outcome"], row["_code"]) for row in found.results("t0")}
            d3.url.set_faults(None)
            again = found.run("submit", file, "--json")
            undone = found.run("settle", "t0", "undo", unknown[0])

    assert len(unknown) == 2
    assert refused.code == 2
    assert "nothing was changed" in refused.err
    assert (one.code, two.code) == (0, 0), one.err + two.err
    assert "which the next submit of the file sends again." in two.err
    assert after[unknown[0]] == ("ok", "settled_by_hand")
    assert after[unknown[1]] == ("failed", "settled_by_hand")
    assert "1 ok · 1 failed: settled by hand" in status.out
    assert '"to_send": 1' in again.out
    assert undone.code == 0, undone.err
