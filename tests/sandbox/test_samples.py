"""The samples show every case, against the links that come with them."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from d3async.sandbox.answers import is_time
from d3async.sandbox.commands import LINKED, Look, perform, read_ask
from d3async.sandbox.state import SEED, World, read_links, sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def rows(name: str) -> list[dict[str, Any]]:
    with sample(name).open(encoding="utf-8", newline="") as file:
        if name.endswith(".csv"):
            return list(csv.DictReader(file))
        return [json.loads(line) for line in file if line.strip() and not line.startswith("#")]


def run(world: World, command: str, params: dict[str, Any]) -> dict[str, Any]:
    return perform(
        world, read_ask(1, command, {"Username": "Admin", "Site": "S", "CommandParams": params}), Look()
    ).body


@pytest.mark.parametrize(("name", "count"), [("tasks.csv", 200), ("tasks.jsonl", 24)])
def test_every_sample_task_is_created(name: str, count: int) -> None:
    found = rows(name)
    world = World(read_links(sample(SEED)))
    for row in found:
        params = {
            "Task Name": row["name"],
            "Task Type": row.get("type", "Default"),
            "Task Description": row["description"],
            "Assignee": row["assignee"],
            "Due Date": row["due"],
            "Required": row.get("required", "No"),
            "Incident Number": row["incident"],
        }
        assert run(world, "CreateTask", params)["returnData"] == "Successful"

    assert len(found) == len({json.dumps(row) for row in found}) == count
    assert all(is_time(row["due"]) and "2027" <= row["due"][:4] <= "2030" for row in found)


def test_tasks_look_like_a_real_export() -> None:
    found = rows("tasks.csv")

    assert len({row["incident"] for row in found}) == 40
    assert len({row["assignee"] for row in found}) == 12
    for letter in 'üöé€",\n':
        assert any(letter in row["description"] + row["assignee"] + row["name"] for row in found), letter


def removals(name: str) -> Iterator[tuple[dict[str, Any], list[str], dict[str, Any]]]:
    """Each row of the file with what the sandbox says to it, one call a row, in order."""
    world = World(read_links(sample(SEED)))
    for row in rows(name):
        items = row["linked"] if isinstance(row["linked"], list) else re.split(r"[;,\s]+", row["linked"])
        yield row, items, run(world, "RemoveLinkedIncidents", {"Source Incident Number": row["source"], LINKED: items})


@pytest.mark.parametrize("name", ["unlink.csv", "unlink.jsonl"])
def test_links_hold_every_case(name: str) -> None:
    said: Counter[str] = Counter()
    for _, items, answer in removals(name):
        told = answer["returnData"]
        said["several numbers in a row"] += len(items) > 1
        said["unknown source"] += told == "Failed"
        for item in told["ErrorData"] if isinstance(told, dict) else []:
            said["not linked" if "not linked" in item["Error message"] else "unknown item"] += 1
        if isinstance(told, dict):
            said[told["Status"]] += 1

    cases = "several numbers in a row", "unknown source", "unknown item", "not linked"
    assert all(said[case] for case in (*cases, "Successful", "Partially Successful", "Failed")), said


def test_the_csv_holds_repeats_and_both_directions() -> None:
    pairs = Counter((row["source"], item) for row, items, _ in removals("unlink.csv") for item in items)

    assert any(count == 2 for count in pairs.values())
    assert any((linked, source) in pairs for source, linked in pairs)
    assert 290 <= pairs.total() <= 350
    assert 40 <= len({source for source, _ in pairs}) <= 44


def test_one_source_has_nothing_linked_at_all() -> None:
    by_source: dict[str, set[str]] = {}
    for row, _, answer in removals("unlink.csv"):
        if isinstance(answer["returnData"], dict):
            by_source.setdefault(row["source"], set()).add(answer["returnData"]["Status"])

    assert {"Failed"} in by_source.values()


def test_cells_separate_numbers_in_every_way() -> None:
    cells = [row["linked"] for row in rows("unlink.csv")]

    for separator in (";", "; ", ", ", "\n", " "):
        assert any(re.fullmatch(rf"\S+?({re.escape(separator)}\S+?)+", cell) for cell in cells), separator


def test_a_sample_that_is_not_there_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"no sample 'nope\.csv'"):
        sample("nope.csv")


@pytest.mark.parametrize(
    "text", ["a,b\n1,2\n", "source,linked\n1\n", "source,linked\n1,2,3\n", "", "\0", 'source,linked\n"1,2']
)
def test_a_file_that_holds_no_links_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "links.csv"
    path.write_text(text)

    with pytest.raises(ValueError, match=r"links\.csv is no list of links"):
        read_links(path)
