"""D3 on a bad day: something else answers for it, or a user may not see one incident; the other rows are sent once."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.end_to_end.ground import Cli, rows_of, running, summary_of

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "incident,name,description,assignee,due\n"


def tasks(folder: Path, count: int) -> Path:
    rows = [f"20220125-{n},Call {n},Now,admin user,2099-12-01 17:00:00\n" for n in range(1, count + 1)]
    (folder / "t.csv").write_text(HEADER + "".join(rows))
    return folder / "t.d3run"


def counted(folder: Path) -> Counter[str]:
    return Counter(row["_outcome"] for row in rows_of(folder / "results.csv"))


@pytest.mark.parametrize(
    ("fault", "outcome", "words"),
    [
        ("html-200", "unknown", "answers (HTTP 200)"),
        ("redirect", "unknown", "HTTP 307 sends to"),
    ],
)
def test_a_page_instead_of_d3_costs_one_request(cli: Cli, tmp_path: Path, fault: str, outcome: str, words: str) -> None:
    folder = tasks(tmp_path, 30)
    with running(rate=0, faults={fault: 1.0}) as site:
        done = cli("run", "t.csv", "--yes", env=site.env)

    assert done.code == 5, done.err
    assert "not D3: " in done.err
    assert words in done.err
    assert counted(folder) == {outcome: 1, "unsent": 29}
    assert summary_of(folder)["requests"] == 1


def test_a_page_in_mid_run_is_waited_for_and_nothing_is_sent_twice(cli: Cli, tmp_path: Path) -> None:
    folder = tasks(tmp_path, 120)
    with running(rate=0, window=(20, 25)) as site:
        done = cli("run", "t.csv", "--yes", "--concurrency", "4", env=site.env)
        sent = Counter(task["Task Name"] for task in site.ledger()["tasks"])

    found = counted(folder)
    assert done.code == 4, done.err
    assert "not D3: a page titled ‘Sign in’ answers (HTTP 200); no row is sent until D3 answers" in done.err
    assert "D3 answers again" in done.err
    assert found["unknown"] <= 3 + 4
    assert found["ok"] == 120 - found["unknown"] == len(sent)
    assert max(sent.values()) == 1


def test_a_d3_that_does_not_come_back_stops_the_run(cli: Cli, tmp_path: Path) -> None:
    folder = tasks(tmp_path, 120)
    with running(rate=0, window=(20, 10_000)) as site:
        done = cli("run", "t.csv", "--yes", "--concurrency", "4", "--max-outage", "1s", env=site.env)

    found = counted(folder)
    assert done.code == 5, done.err
    assert "--max-outage allows 1 s of it" in done.err
    assert found["unknown"] <= 3 + 4
    assert found["ok"] == 19
    assert "something else answers at D3's address" in cli("status", "t.d3run").out


def test_one_forbidden_incident_fails_and_all_other_rows_are_sent(cli: Cli, tmp_path: Path) -> None:
    folder = tasks(tmp_path, 100)
    with running(rate=0, forbidden=["20220125-7", "20220125-64"]) as site:
        done = cli("run", "t.csv", "--yes", "--concurrency", "4", env=site.env)
        assert len(site.ledger()["tasks"]) == 98

    assert done.code == 1, done.err
    assert counted(folder) == {"ok": 98, "failed": 2}
    refused = [row for row in rows_of(folder / "results.csv") if row["_outcome"] == "failed"]
    assert [(row["incident"], row["_code"], row["_http"]) for row in refused] == [
        ("20220125-7", "unauthorized", "401"), ("20220125-64", "unauthorized", "401"),
    ]  # fmt: skip


def test_a_key_that_is_not_accepted_costs_two_requests_and_burns_nothing(cli: Cli, tmp_path: Path) -> None:
    folder = tasks(tmp_path, 100)
    with running(rate=0, faults={"error-401-before": 1.0}) as site:
        done = cli("run", "t.csv", "--yes", env=site.env)

    assert done.code == 5, done.err
    assert counted(folder) == {"unsent": 100}
    assert summary_of(folder)["requests"] == 2
