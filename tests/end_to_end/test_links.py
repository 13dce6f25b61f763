"""Links are removed in few calls, exactly: every item of every row has the outcome that D3's world proves."""

import csv
import os
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from d3async.cli.main import cli, exit_code_of
from tests.end_to_end.ground import Site, rows_of, running, summary_of

SOURCE = "20270101-1"
NOT_LINKED = "The source incident is not linked to this incident."


def number(n: int) -> str:
    return f"20260601-{n}"


def write(path: Path, rows: Iterable[tuple[str, ...]], header: tuple[str, ...] = ("source", "linked")) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def outcomes(folder: Path) -> list[tuple[str, str]]:
    return [(row["_outcome"], row["_code"]) for row in rows_of(folder / "results.csv")]


def items(folder: Path) -> list[tuple[str, str, str]]:
    return [(row["_item"], row["_outcome"], row["_code"]) for row in rows_of(folder / "items.csv")]


Typed = Callable[..., int]


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """The command line within this process, which saves a second a test: `typed(site, "run", …)`, its exit code."""
    monkeypatch.chdir(tmp_path)

    def run(site: Site, *args: object) -> int:
        for name in [name for name in os.environ if name.startswith("D3_")]:
            monkeypatch.delenv(name)
        for name, value in {**site.env, "D3_CONFIG": os.devnull, "D3_RATE": "2000"}.items():
            monkeypatch.setenv(name, value)
        return exit_code_of(cli, [str(arg) for arg in args])

    return run


@pytest.fixture
def run(typed: Typed, tmp_path: Path) -> Typed:
    """`run(site, rows, option, …)` writes the rows into a file and sends them."""

    def run(site: Site, rows: Iterable[tuple[str, ...]], *options: object, **more: Any) -> int:
        write(tmp_path / "unlink.csv", rows, **more)
        return typed(site, "run", "unlink.csv", "--yes", *options)

    return run


def test_rows_and_cells_of_one_source_become_one_call_and_the_same_pair_is_sent_once(
    run: Typed, tmp_path: Path
) -> None:
    linked = [(SOURCE, number(n)) for n in range(1, 5)]
    with running(links=linked, rate=None) as site:
        rows = [
            (SOURCE, number(1)),
            (SOURCE, f"{number(2)}; {number(3)} {number(9)}"),
            (f" {SOURCE} ", f"{number(1)},{number(4)}"),
        ]
        code = run(site, rows)
        ledger = site.ledger()

    assert [list(entry["items"]) for entry in ledger["requests"]] == [[number(n) for n in (1, 2, 3, 9, 4)]]
    folder = tmp_path / "unlink.d3run"
    assert outcomes(folder) == [("ok", ""), ("partial", "not_linked"), ("ok", "")]
    assert items(folder) == [
        (number(1), "ok", ""),
        (number(2), "ok", ""),
        (number(3), "ok", ""),
        (number(9), "failed", "not_linked"),
        (number(1), "ok", ""),
        (number(4), "ok", ""),
    ]
    counts = [
        [row[f"_items_{kind}"] for kind in ("ok", "failed", "unknown")] for row in rows_of(folder / "results.csv")
    ]
    assert counts == [["1", "0", "0"], ["2", "1", "0"], ["2", "0", "0"]]
    assert code == 1


@pytest.mark.parametrize("backwards", [False, True])
def test_a_pair_named_from_both_ends_is_ok_twice_if_and_only_if_one_of_them_removed_it(
    run: Typed, tmp_path: Path, capsys: pytest.CaptureFixture[str], backwards: bool
) -> None:
    a, b, c, d = (number(n) for n in range(1, 5))
    rows = [(a, b), (b, a), (c, d), (d, c), (a, c)][:: -1 if backwards else 1]
    with running(links=[(a, b), (a, c)], rate=None, latency=0.05) as site:
        code = run(site, rows)
        ledger = site.ledger()

    found = dict(zip(rows, outcomes(tmp_path / "unlink.d3run"), strict=True))
    assert (found[a, b][0], found[b, a][0], found[a, c][0]) == ("ok", "ok", "ok")
    codes = [code for item, _, code in items(tmp_path / "unlink.d3run") if item in {a, b}]
    assert sorted(codes) == ["", "removed_before"]
    assert found[c, d] == found[d, c] == ("failed", "not_linked")
    assert (code, ledger["links"], ledger["in_flight_max_per_source"]) == (1, {}, 1)
    assert len(ledger["requests"]) == 4
    assert "2 pairs stand in the file both ways round (A-B and B-A)" in capsys.readouterr().err


def test_where_links_have_a_direction_both_are_removed(run: Typed, tmp_path: Path) -> None:
    a, b = number(1), number(2)
    with running(links=[(a, b), (b, a)], rate=None, symmetric=False) as site:
        code = run(site, [(b, a), (a, b)])
        ledger = site.ledger()

    assert (code, ledger["links"], ledger["counts"]["links_removed"]) == (0, {}, 2)


def test_what_an_earlier_run_removed_from_the_other_end_counts_also_when_its_row_has_gone(
    run: Typed, tmp_path: Path
) -> None:
    a, b, c = (number(n) for n in range(1, 4))
    with running(links=[(a, b)], rate=None) as site:
        run(site, [(a, b), (c, a)])
        run(site, [(b, a), (a, c), (c, a)])

    found = rows_of(tmp_path / "unlink.d3run" / "results.csv")
    assert [(row["_outcome"], row["_code"]) for row in found] == [
        ("ok", ""),
        ("failed", "not_linked"),
        ("failed", "not_linked"),
    ]


def test_a_removal_nobody_knows_about_may_explain_that_its_mirror_is_not_linked(run: Typed, tmp_path: Path) -> None:
    """A-B is carried out and answered 500: B-A is not linked any more, by our doing; A-B is settled by the next run."""
    a, b = number(1), number(2)
    with running(
        links=[(a, b)], rate=None, faults=lambda ask: "error-500-after" if ask.incident == a else None
    ) as site:
        first = run(site, [(a, b), (b, a)], "--max-attempts", 1)
        then = outcomes(tmp_path / "unlink.d3run")
        site.url.set_faults(None)
        second = run(site, [(a, b), (b, a)])

    assert (first, then) == (4, [("unknown", "http_500"), ("ok", "")])
    assert (second, outcomes(tmp_path / "unlink.d3run")) == (0, [("ok", ""), ("ok", "")])


def test_a_source_is_never_in_flight_twice_whoever_asks_about_it(run: Typed, tmp_path: Path) -> None:
    """Another user's rows about the source make calls of their own, one after the other."""
    rows = [(SOURCE, number(n), f"user{n % 3}") for n in range(30)]
    linked = [(SOURCE, number(n)) for n in range(30)]
    with running(links=linked, rate=None, latency=0.03) as site:
        code = run(site, rows, "--max-links-per-call", 4, header=("source", "linked", "Username"))
        ledger = site.ledger()

    assert (code, ledger["links"]) == (0, {})
    assert ledger["in_flight_max_per_source"] == 1
    assert len(ledger["requests"]) == 9


def test_the_same_pair_asked_for_by_two_users_is_ok_for_both(run: Typed, tmp_path: Path) -> None:
    rows = [(SOURCE, number(1), "one"), (SOURCE, number(1), "two"), (SOURCE, number(2), "two")]
    with running(links=[(SOURCE, number(1))], rate=None) as site:
        run(site, rows, header=("source", "linked", "Username"))

    assert outcomes(tmp_path / "unlink.d3run") == [("ok", ""), ("ok", ""), ("failed", "not_linked")]


def test_different_sources_run_in_parallel(run: Typed, tmp_path: Path) -> None:
    rows = [(f"20270101-{n}", number(n)) for n in range(20)]
    with running(links=rows, rate=None, latency=0.2) as site:
        run(site, rows)
        ledger = site.ledger()

    assert ledger["in_flight_max"] >= 5
    assert ledger["in_flight_max_per_source"] == 1


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        # (the linked one, the one that is not)
        (None, [("ok", ""), ("failed", "not_linked")]),
        ("odd-case-error-data", [("ok", ""), ("failed", "not_linked")]),
        ("repeated-error-data", [("ok", ""), ("failed", "not_linked")]),
        ("foreign-error-data", [("ok", ""), ("failed", "not_linked")]),
        ("other-data-key", [("ok", ""), ("failed", "not_linked")]),
        ("string-return-data", [("ok", ""), ("failed", "not_linked")]),
        ("wrong-status", [("ok", ""), ("failed", "not_linked")]),
        ("still-linked", [("failed", "still_linked"), ("failed", "not_linked")]),
    ],
)
def test_an_odd_answer_about_items_is_read_for_what_it_proves(
    run: Typed, tmp_path: Path, fault: str | None, expected: list[tuple[str, str]]
) -> None:
    source, linked, other = "CASE-1", "Linked-2", "Other-3"
    plan = {fault: 1.0} if fault else None
    with running(links=[(source, linked), (source, "Stays-4")], rate=None, faults=plan) as site:
        run(site, [(source, linked), (source, other)])
        requests = len(site.ledger()["requests"])

    folder = tmp_path / "unlink.d3run"
    assert outcomes(folder) == expected
    assert requests == 1
    told = " ".join(row["_message"] for row in rows_of(folder / "results.csv"))
    assert ("20190101-1" in told) == (fault == "foreign-error-data")
    assert ("again" in told) == (fault == "repeated-error-data")
    assert ("Successful" in told) == (fault == "wrong-status")


def test_partial_success_without_error_data_proves_nothing_and_is_asked_again(run: Typed, tmp_path: Path) -> None:
    """The second answer lists both as not linked; our first attempt may have removed either, so both are gone: ok."""
    with running(links=[(SOURCE, number(1))], rate=None, faults=["missing-error-data"]) as site:
        run(site, [(SOURCE, number(1)), (SOURCE, number(2))])
        requests = len(site.ledger()["requests"])

    assert requests == 2
    assert [outcome for outcome, _ in outcomes(tmp_path / "unlink.d3run")] == ["ok", "ok"]


def test_partial_success_that_never_says_for_whom_leaves_every_item_unknown(run: Typed, tmp_path: Path) -> None:
    with running(links=[(SOURCE, number(1))], rate=None, faults={"missing-error-data": 1.0}) as site:
        code = run(site, [(SOURCE, number(1)), (SOURCE, number(2))], "--max-attempts", 1)

    assert [outcome for outcome, _ in outcomes(tmp_path / "unlink.d3run")] == ["unknown", "unknown"]
    assert code == 4


def test_a_list_limit_is_found_by_splitting_and_remembered(run: Typed, tmp_path: Path) -> None:
    rows = [(f"20270101-{s}", number(n)) for s in range(4) for n in range(100)]
    with running(links=rows, rate=None, faults={"max-list": 20}) as site:
        code = run(site, rows, "--concurrency", 1)
        ledger = site.ledger()

    sizes = [(len(entry["items"]), entry["status"]) for entry in ledger["requests"]]
    assert (code, ledger["links"]) == (0, {})
    refused = [size for size, status in sizes if status == 400]
    taken = [size for size, status in sizes if status == 200]
    assert sum(taken) == 400
    assert max(taken) == 20
    assert len(refused) <= 8, "what the server takes is learnt once, not in every call"
    assert len(sizes) <= 400 / 20 + 16


@pytest.mark.parametrize("refusal", ["error-400", "error-413", "ansi-message"])
def test_a_call_refused_as_a_whole_is_split_until_the_bad_item_stands_alone(
    run: Typed, tmp_path: Path, refusal: str
) -> None:
    linked = [number(n) for n in range(50)]
    bad = random.Random(6).choice(linked)
    with running(
        links=[(SOURCE, one) for one in linked], rate=None, faults=lambda ask: refusal if bad in ask.items else None
    ) as site:
        run(site, [(SOURCE, one) for one in linked])
        ledger = site.ledger()

    found = dict(zip(linked, outcomes(tmp_path / "unlink.d3run"), strict=True))
    assert {one for one, (outcome, _) in found.items() if outcome != "ok"} == {bad}
    assert found[bad][0] == "failed"
    assert len(ledger["requests"]) - 1 <= 2 * 6 + 2
    assert sum(map(list(ledger["links"]).count, [SOURCE])) == 1


def test_a_source_that_d3_does_not_know_costs_one_request(run: Typed, tmp_path: Path) -> None:
    with running(rate=None) as site:
        run(site, [("19000101-1", number(n)) for n in range(50)])
        requests = len(site.ledger()["requests"])

    assert requests == 1
    assert set(outcomes(tmp_path / "unlink.d3run")) == {("failed", "command_error")}


def test_the_plan_counts_links_sources_and_requests(
    run: Typed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(f"20270101-{n % 42}", number(n)) for n in range(332)]
    with running(links=rows, rate=None) as site:
        run(site, rows)
        told = summary_of(tmp_path / "unlink.d3run")

    assert "332 links to remove of 42 source incidents, in 42 requests" in capsys.readouterr().err
    assert told["requests"] == 42
    assert told["outcomes"]["ok"] == 332
    first = rows_of(tmp_path / "unlink.d3run" / "items.csv")[0]
    assert first == {
        "_row": "1", "_line": "2", "_source": "20270101-0", "_item": number(0), "_outcome": "ok", "_code": "",
        "_message": "",
    }  # fmt: skip


def test_tasks_of_one_incident_are_never_in_flight_together_when_that_is_asked_for(
    typed: Typed, tmp_path: Path
) -> None:
    header = ("incident", "name", "description", "assignee", "due", "Username")
    rows = [
        (f"20270101-{n % 3}", f"Task {n}", "Look", "admin user", "2027-05-01 12:00:00", f"user{n % 2}")
        for n in range(24)
    ]
    write(tmp_path / "tasks.csv", rows, header)
    with running(rate=None, latency=0.03) as site:
        code = typed(site, "run", "tasks.csv", "--yes", "--serial-by", "incident")
        ledger = site.ledger()

    assert (code, len(ledger["tasks"])) == (0, 24)
    assert ledger["in_flight_max_per_incident"] == 1
    assert ledger["in_flight_max"] > 1
    for incident in range(3):
        names = [task["Task Name"] for task in ledger["tasks"] if task["Incident Number"] == f"20270101-{incident}"]
        assert names == [f"Task {n}" for n in range(incident, 24, 3)], "in the file's order"
