"""The original and its feedback files, run again and again: what is done counts, what was meant stays meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.end_to_end.ground import Cli, Site, rows_of
from tests.end_to_end.test_feedback import HERE, NOWHERE, created, mend, outcomes, task, write
from tests.end_to_end.test_suggestions import follow

if TYPE_CHECKING:
    from pathlib import Path


def errors(folder: Path, name: str = "errors.csv") -> list[str]:
    return [row["line"] for row in rows_of(folder / name)]


def test_an_invalid_row_that_is_done_as_mended_is_no_error_of_the_original(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", task("a"), task("b", assignee=""))
    folder = tmp_path / "t.d3run"
    cli("run", "t.csv", "--skip-invalid", env=d3.env)
    mend(folder / "failed.csv", "it,,2027", "it,admin user,2027")
    assert cli("run", "t.d3run/failed.csv", env=d3.env).code == 0

    again = cli("run", "t.csv", env=d3.env)

    assert again.code == 0, again.err
    assert "problem" not in again.err
    assert "1 done as mended in a feedback file" in again.err
    assert outcomes(folder) == [("a", "ok"), ("b", "ok")]
    assert not (folder / "errors.csv").exists()
    assert created(d3) == {"a": 1, "b": 1}


@pytest.mark.parametrize("copies", [1, 2])
def test_as_many_invalid_rows_are_done_as_were_mended(d3: Site, cli: Cli, tmp_path: Path, copies: int) -> None:
    """Another row that is wrong, or one more with the same text, still sends nothing."""
    write(tmp_path / "t.csv", task("a"), task("b", assignee=""))
    folder = tmp_path / "t.d3run"
    cli("run", "t.csv", "--skip-invalid", env=d3.env)
    mend(folder / "failed.csv", "it,,2027", "it,admin user,2027")
    cli("run", "t.d3run/failed.csv", env=d3.env)
    other = task("c", assignee="") if copies == 1 else ""
    write(tmp_path / "t.csv", task("a"), *[task("b", assignee="")] * copies, other, task("d"))

    again = cli("run", "t.csv", env=d3.env)

    assert again.code == 3, again.err
    assert "1 problem in 1 row, nothing was sent" in again.err
    assert errors(folder) == ["4"]
    assert created(d3) == {"a": 1, "b": 1}
    assert cli("run", "t.csv", "--skip-invalid", env=d3.env).code == 1
    assert [outcome for _, outcome in outcomes(folder)] == ["ok", "ok", "invalid", "ok"]


def test_an_invalid_row_whose_mended_self_failed_is_still_wrong(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", task("a"), task("b", NOWHERE, assignee=""))
    cli("run", "t.csv", "--skip-invalid", env=d3.env)
    mend(tmp_path / "t.d3run" / "failed.csv", "it,,2027", "it,admin user,2027")
    assert cli("run", "t.d3run/failed.csv", env=d3.env).code == 1

    again = cli("run", "t.csv", env=d3.env)

    assert again.code == 3, again.err
    assert created(d3) == {"a": 1}


def test_rows_mended_into_one_another_stay_meant_when_the_run_was_cut_short(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", *(task(name, NOWHERE) for name in "xabc"))
    folder = tmp_path / "t.d3run"
    cli("run", "t.csv", env=d3.env)
    head, *rows = (folder / "failed.csv").read_text().splitlines()
    x, _, *same = [row.replace(",c,", ",b,").replace(NOWHERE, HERE) for row in rows]
    (folder / "failed.csv").write_text("\n".join([head, x, rows[1], *same]) + "\n")

    first = cli(
        "run", "t.d3run/failed.csv", "--allow-duplicates", "--halt", "failed=1", "--concurrency", "1", env=d3.env
    )
    assert first.code == 5, first.err
    assert created(d3) == {"x": 1}
    done = follow(cli, d3, first)

    assert done == ["run t.d3run/failed.csv --continue"]
    assert created(d3) == {"x": 1, "b": 2}
    assert outcomes(folder) == [("x", "ok"), ("a", "failed"), ("b", "ok"), ("b", "ok")]


def test_rows_mended_into_one_another_have_to_be_meant_once(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", *(task(name, NOWHERE) for name in "ab"))
    folder = tmp_path / "t.d3run"
    cli("run", "t.csv", env=d3.env)
    mend(folder / "failed.csv")
    mend(folder / "failed.csv", ",b,", ",a,")

    for _ in range(2):
        refused = cli("run", "t.d3run/failed.csv", env=d3.env)
        assert refused.code == 3, refused.err
        assert not created(d3)


def test_a_refused_feedback_file_has_errors_of_its_own(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", task("a"), task("b", NOWHERE), task("c", assignee=""))
    folder = tmp_path / "t.d3run"
    cli("run", "t.csv", "--skip-invalid", env=d3.env)
    before = (folder / "errors.csv").read_bytes()
    mend(folder / "failed.csv")

    refused = cli("run", "t.d3run/failed.csv", env=d3.env)

    assert refused.code == 3, refused.err
    assert "All of them: t.d3run/errors-failed.csv" in refused.err
    assert errors(folder, "errors-failed.csv") == ["3"]
    assert (folder / "errors.csv").read_bytes() == before
    mend(folder / "failed.csv", "it,,2027", "it,admin user,2027")
    assert cli("run", "t.d3run/failed.csv", env=d3.env).code == 0
    assert not (folder / "errors-failed.csv").exists()
