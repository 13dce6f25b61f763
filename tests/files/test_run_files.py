"""A run folder's files: whole or not at all, for the owner alone, the same whenever they are written again."""

from __future__ import annotations

import csv
import json
import sqlite3
import stat
import tracemalloc
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from d3async.errors import ConservationError, JournalError
from d3async.files.atomic_write import atomic_write, write_lines
from d3async.files.run_files import write_again, write_folder, write_summary
from d3async.files.source import Format
from d3async.journal.sqlite.reader import FILE
from tests.journal.factory import LINK_HEADER, START, Entry, Told, every_outcome, long_run, make, unsent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != FILE}


def change(folder: Path, sql: str) -> None:
    with closing(sqlite3.connect(folder / FILE)) as db, db:
        db.execute(sql)


def test_results_open_in_excel_bom_the_inputs_separator_and_crlf(tmp_path: Path) -> None:
    form = Format("csv", "cp1252", delimiter=";", header_raw="incident;name;assignee;due")
    write_folder(make(tmp_path, [Entry("1;Müller;b;c")], form=form))
    assert (tmp_path / "results.csv").read_bytes() == (
        "\ufeff_row;_line;_outcome;_code;_message;_http;_attempts;_sent_at;_done_at;_items_ok;_items_failed;"
        "_items_unknown;incident;name;assignee;due\r\n"
        "1;2;ok;;;200;1;2026-12-01T17:00:00.000Z;2026-12-01T17:00:00.250Z;;;;1;Müller;b;c\r\n"
    ).encode()


def test_results_of_what_a_script_wrote_have_no_bom(tmp_path: Path) -> None:
    write_folder(make(tmp_path, [Entry("1,Müller,b,c")], form=Format("csv", header_raw="incident,name,assignee,due")))
    assert (tmp_path / "results.csv").read_bytes().startswith(b"_row,")


def test_every_row_stands_in_the_results_once_in_order(tmp_path: Path) -> None:
    written = write_folder(every_outcome(tmp_path))
    with written.results.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["_row"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert [row["_outcome"] for row in rows] == ["ok", "failed", "unknown", "invalid", "unsent", "unknown"]
    assert rows[1]["_message"] == "Incident 20260125-77 does not exist. Ask your administrator."
    assert rows[1]["name"] == "'=cmd|' /C calc'!A0"
    assert written.outcomes["unknown"] == 2


def test_what_is_written_is_for_the_owner_alone_and_nothing_else_is_left(tmp_path: Path) -> None:
    folder = every_outcome(tmp_path)
    write_folder(folder)
    write_summary(folder, {})
    assert names(folder) == ["failed.csv", FILE, "report.html", "results.csv", "summary.json", "unknown.csv"]
    written = [path for path in folder.iterdir() if path.name != FILE]
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}


@pytest.mark.parametrize("folder_of", [every_outcome, lambda folder: long_run(folder, 500)])
def test_the_same_journal_gives_the_same_bytes(tmp_path: Path, folder_of: Callable[[Path], Path]) -> None:
    folder = folder_of(tmp_path / "tasks.d3run")
    write_again(folder)
    first = contents(folder)
    write_again(folder)
    assert contents(folder) == first


def test_files_without_rows_are_not_there_and_stale_ones_are_removed(tmp_path: Path) -> None:
    folder = make(tmp_path, [Entry("1,a,b,c", "failed"), Entry("2,a,b,c", "unknown")])
    (folder / "items.csv").write_text("from before")
    before = write_folder(folder)
    assert before.failed.exists()
    assert before.unknown.exists()
    change(folder, "update job set state = 'ok'")
    written = write_folder(folder)
    assert (written.items, written.failed, written.unknown, written.left) == (None, None, None, ())
    assert names(folder) == [FILE, "report.html", "results.csv"]


def test_an_empty_file_gives_a_header(tmp_path: Path) -> None:
    written = write_folder(make(tmp_path, []))
    assert written.results.read_text(encoding="utf-8-sig").endswith("incident,name,assignee,due\n")
    assert written.results.read_bytes().count(b"\n") == 1


def test_items_have_a_line_each_with_their_source(tmp_path: Path) -> None:
    entry = Entry(
        "S-1;=A", "partial", label="S-1",
        items=(("=A", "ok", "", ""), ("B", "failed", "not_linked", "+not\nlinked")),
    )  # fmt: skip
    form = Format("csv", delimiter=";", header_raw="source;linked")
    written = write_folder(make(tmp_path, [entry, unsent("S-2;C")], form=form, header=LINK_HEADER))
    assert written.items.read_bytes().decode("utf-8-sig") == (
        "_row;_line;_source;_item;_outcome;_code;_message\r\n"
        "1;2;S-1;'=A;ok;;\r\n"
        "1;2;S-1;B;failed;not_linked;'+not linked\r\n"
    )


def test_jsonl_input_gives_jsonl_and_a_format_asked_for_is_kept_fresh(tmp_path: Path) -> None:
    folder = make(tmp_path, [Entry('{"incident": "1"}', "failed")], form=Format("jsonl"), header=())
    assert write_folder(folder).results.name == "results.jsonl"
    assert write_folder(folder, format="csv").results.name == "results.csv"
    change(folder, "update job set state = 'ok'")
    written = write_folder(folder)
    assert written.results.name == "results.jsonl"
    assert json.loads(written.results.read_text())["outcome"] == "ok"
    assert ",ok," in (folder / "results.csv").read_text()


def test_json_is_one_array_of_the_same_objects(tmp_path: Path) -> None:
    folder = every_outcome(tmp_path)
    lines = write_folder(folder, format="jsonl").results.read_text().splitlines()
    array = json.loads(write_folder(folder, format="json").results.read_text())
    assert array == [json.loads(line) for line in lines]


def test_nothing_is_overwritten_when_rows_do_not_add_up(tmp_path: Path) -> None:
    folder = every_outcome(tmp_path)
    write_again(folder)
    write_summary(folder, {"exit_code": 0})
    before = contents(folder)
    change(folder, "delete from job where row = 3")
    for writing in (write_folder, lambda place: write_summary(place, {})):
        with pytest.raises(ConservationError):
            writing(folder)
    assert contents(folder) == before


def test_files_can_be_written_while_a_run_is_writing_the_journal(tmp_path: Path) -> None:
    folder = every_outcome(tmp_path)
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as run:
        run.execute("pragma journal_mode = wal")
        run.execute("begin immediate")
        run.execute("update job set state = 'ok'")
        assert write_folder(folder).outcomes["ok"] == 1
        run.execute("rollback")


def test_a_file_that_cannot_take_its_place_is_named_and_leaves_no_rest(tmp_path: Path) -> None:
    folder = every_outcome(tmp_path)
    (folder / "results.csv").mkdir()
    with pytest.raises(JournalError, match=r"results\.csv cannot be written"):
        write_folder(folder)
    assert names(folder) == [FILE, "results.csv"]


def test_what_was_there_stays_when_writing_is_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("from before")

    def stop_writing() -> Iterator[str]:
        yield "half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), atomic_write(path) as file:
        write_lines(file, stop_writing())
    assert path.read_text() == "from before"
    assert names(tmp_path) == ["results.csv"]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, form: str) -> None:
    def peak(rows: int) -> int:
        folder = long_run(tmp_path / str(rows), rows)
        tracemalloc.start()
        write_folder(folder, format=form)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(10)
    assert peak(3_000) < peak(1_000) + 250_000


def test_the_summary_has_the_keys_of_the_contract_and_counts_from_the_journal(tmp_path: Path) -> None:
    facts = {
        "version": "9.9", "requests": 7, "throttled": 1, "paused_s": 2.5, "started_at": START,
        "finished_at": START + 65,
        "elapsed_s": 65.0, "rate": 48.1, "exit_code": 4,
        "outcomes": {"ok": 99},
        "settings": {"rate": 50},
    }  # fmt: skip
    told = write_summary(every_outcome(tmp_path), facts)
    assert told == json.loads((tmp_path / "summary.json").read_text())
    assert list(told)[:4] == ["version", "command", "input", "base_url"]
    assert told["input"] == {"path": "tasks.csv", "sha256": "0" * 64, "rows": 6}
    assert told["outcomes"] == {"ok": 1, "partial": 0, "failed": 1, "unknown": 2, "invalid": 1, "unsent": 1}
    assert sum(told["outcomes"].values()) == told["input"]["rows"]
    assert told["started_at"] == "2026-12-01T17:00:00.000Z"
    assert told["finished_at"] == "2026-12-01T17:01:05.000Z"
    expected = {key: facts[key] for key in facts if key not in ("outcomes", "started_at", "finished_at")}
    assert expected.items() <= told.items()
    assert told["vanished"] == 1


def test_the_summary_of_a_run_that_was_cut_short_says_what_is_known(tmp_path: Path) -> None:
    folder = make(tmp_path, [unsent("1,a,b,c")], runs=(Told(finished_at=None, exit_code=None),))
    write_again(folder)
    told = json.loads((folder / "summary.json").read_text())
    assert told["started_at"] == "2026-12-01T16:59:59.000Z"
    assert (told["finished_at"], told["exit_code"], told["requests"]) == (None, None, None)
