"""The user looks in D3 and says what became of unknown rows; files, status and the next run follow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from d3async.journal.sqlite.run_folder import open_folder
from tests.end_to_end import test_reconcile
from tests.end_to_end.ground import rows_of, running, summary_of
from tests.end_to_end.test_reconcile import DUE, lost, outcomes, write_tasks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.end_to_end.ground import Site
    from tests.end_to_end.test_reconcile import HERE

here = test_reconcile.here
TASKS = [("20220125-1", name, "Ask.", "Bob Ray", DUE) for name in ("drop-after a", "drop-before b", "c")]
UNKNOWN, HAND = ("unknown", "connection_lost"), "settled_by_hand"


@pytest.fixture
def d3(here: HERE, tmp_path: Path) -> Iterator[Site]:
    """A D3 that has rows 1 (which happened) and 2 (which did not) of tasks.csv unknown, and row 3 ok."""
    write_tasks(tmp_path / "tasks.csv", TASKS)
    with running(rate=None, faults=lost) as site:
        assert here("run", "tasks.csv", "--yes", env=site.env).code == 4
        site.url.set_faults(None)
        yield site


def test_what_happened_is_never_sent_again_and_what_did_not_is_sent_by_the_next_run(
    here: HERE, d3: Site, tmp_path: Path
) -> None:
    folder = tmp_path / "tasks.d3run"
    ok = here("settle", "tasks.d3run", "ok", "1", env={})
    failed = here("settle", "tasks.d3run", "failed", "2", env={})

    assert (ok.code, failed.code) == (0, 0), ok.err + failed.err
    assert "1 row settled as ok, which is never sent again." in ok.err
    assert "1 row settled as failed, which the next run sends again." in failed.err
    assert outcomes(folder) == [("ok", HAND), ("failed", HAND), ("ok", "")]
    assert not (folder / "unknown.csv").exists()
    assert [row["name"] for row in rows_of(folder / "failed.csv")] == ["drop-before b"]
    assert "Before: unknown, connection_lost" in rows_of(folder / "results.csv")[0]["_message"]
    assert summary_of(folder)["settled_by_hand"] == {"failed": 1, "ok": 1}
    assert summary_of(folder)["exit_code"] == 1
    assert "Settled by hand" in (folder / "report.html").read_text()
    assert "1 ok · 1 failed: settled by hand" in here("status", "tasks.d3run", env={}).out

    again = here("run", "tasks.csv", "--yes", env=d3.env)

    assert again.code == 0, again.err
    assert sorted(task["Task Name"] for task in d3.ledger()["tasks"]) == ["c", "drop-after a", "drop-before b"]


def test_undo_makes_the_files_what_they_were(here: HERE, d3: Site, tmp_path: Path) -> None:
    folder = tmp_path / "tasks.d3run"
    before = {name: (folder / name).read_bytes() for name in ("results.csv", "unknown.csv")}
    here("settle", "tasks.d3run", "ok", "1-2", env={})
    assert (folder / "results.csv").read_bytes() != before["results.csv"]

    undone = here("settle", "tasks.d3run", "undo", "1-2", env={})

    assert undone.code == 0, undone.err
    assert "2 rows unknown again" in undone.err
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert summary_of(folder)["exit_code"] == 4


def test_one_row_that_is_not_unknown_and_nothing_is_changed(here: HERE, d3: Site, tmp_path: Path) -> None:
    refused = here("settle", "tasks.d3run", "ok", "1-9", "--json", env={})

    assert refused.code == 2
    assert "nothing was changed" in refused.err
    assert "row 3 (line 4): is ok; only rows that are unknown can be settled" in refused.err
    assert "rows 4-9: the file has 3 rows" in refused.err
    assert [entry["what"] for entry in json.loads(refused.out)["refused"]] == ["rows 4-9", "row 3"]
    assert outcomes(tmp_path / "tasks.d3run") == [UNKNOWN, UNKNOWN, ("ok", "")]


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("part.csv", "name,_row\nx,2\ny,1\n", [("failed", HAND), ("failed", HAND)]),
        ("part.jsonl", '{"_row": 2}\n{"_row": "1"}\n', [("failed", HAND), ("failed", HAND)]),
        ("part.csv", "_row;name\n2;x\n", [UNKNOWN, ("failed", HAND)]),
    ],
)
def test_rows_come_from_a_file_that_names_them(
    here: HERE, d3: Site, tmp_path: Path, name: str, text: str, found: list[tuple[str, str]]
) -> None:
    (tmp_path / name).write_text(text)
    settled = here("settle", "tasks.d3run", "failed", "--from", name, env={})

    assert settled.code == 0, settled.err
    assert outcomes(tmp_path / "tasks.d3run")[:2] == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name\nx\n", "line 2: has no _row"),
        ("_row\n1-2\n", 'line 2: "1-2" is no row number'),
        ("_row,name\n1,x\n0,y\n", 'line 3: "0" is no row number'),
        ("_row,name\n1,x,y\n", "line 2: has 3 cells"),
    ],
)
def test_a_file_that_does_not_name_rows_settles_nothing(
    here: HERE, d3: Site, tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "part.csv").write_text(text)
    refused = here("settle", "tasks.d3run", "ok", "--from", "part.csv", env={})

    assert refused.code == 2
    assert words in refused.err
    assert outcomes(tmp_path / "tasks.d3run")[:2] == [UNKNOWN, UNKNOWN]


def test_all_is_settled_only_by_who_confirms_it(here: HERE, d3: Site, tmp_path: Path) -> None:
    refused = here("settle", "tasks.d3run", "failed", "--all", env={})
    settled = here("settle", "tasks.d3run", "failed", "--all", "--yes", env={})

    assert (refused.code, settled.code) == (2, 0)
    assert "add --yes" in refused.err
    assert outcomes(tmp_path / "tasks.d3run") == [("failed", HAND), ("failed", HAND), ("ok", "")]


@pytest.mark.parametrize("words", [(), ("1", "--all", "--yes"), ("1", "--from", "tasks.csv"), ("0",), ("x",), ("5-3",)])
def test_rows_are_named_in_one_way_and_rightly(here: HERE, d3: Site, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert here("settle", "tasks.d3run", "ok", *words, env={}).code == 2
    assert outcomes(tmp_path / "tasks.d3run")[:2] == [UNKNOWN, UNKNOWN]


def test_a_folder_in_use_is_left_alone(here: HERE, d3: Site, tmp_path: Path) -> None:
    held = open_folder(tmp_path / "tasks.d3run")
    refused = here("settle", "tasks.d3run", "ok", "1", env={})
    held.abandon()

    assert refused.code == 2
    assert outcomes(tmp_path / "tasks.d3run")[0] == UNKNOWN


def test_reconcile_that_has_no_key_names_the_way_by_hand(here: HERE, d3: Site) -> None:
    env = {name: value for name, value in d3.env.items() if not name.startswith("D3_API_KEY")}
    looked = here("reconcile", "tasks.d3run", env={**env, "D3_API_KEY_CREATE_TASK": "k"})

    assert looked.code == 2
    assert "d3async settle tasks.d3run ok|failed ROWS" in looked.err
