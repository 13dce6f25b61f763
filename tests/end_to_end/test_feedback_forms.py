"""Feedback files in every form that a job file may have, and saved again in another one."""

from __future__ import annotations

import codecs
import csv
import json
from typing import TYPE_CHECKING

import pytest
import xlsxwriter
from python_calamine import CalamineWorkbook

from tests.end_to_end.ground import Cli, Site, rows_of
from tests.end_to_end.test_feedback import HERE, NOWHERE, created

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = ["incident", "name", "description", "assignee", "due"]
ROWS = [
    [HERE, "a", "x", "admin user", "2027-05-01 12:00:00"],
    [NOWHERE, 'Müller; "sofort", bitte', "…€", "admin user", "2027-05-01 12:00:00"],
    [NOWHERE, "=1+1", "zwei\r\nZeilen", "admin user", "2027-05-01 12:00:00"],
]
NAMES = {row[1]: 1 for row in ROWS}


def quoted(row: list[str], delimiter: str) -> str:
    return delimiter.join(f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in row)


@pytest.mark.parametrize(
    ("delimiter", "encoding", "bom", "end"),
    [
        (",", "utf-8", b"", "\n"),
        (";", "cp1252", b"", "\r\n"),
        ("\t", "utf-16-le", codecs.BOM_UTF16_LE, "\r\n"),
        ("|", "utf-8", codecs.BOM_UTF8, "\r\n"),
    ],
)
def test_a_text_file_comes_back_byte_by_byte_before_its_marks(
    d3: Site, cli: Cli, tmp_path: Path, delimiter: str, encoding: str, bom: bytes, end: str
) -> None:
    lines = [delimiter.join(COLUMNS), *(quoted(row, delimiter) for row in ROWS)]
    (tmp_path / "t.csv").write_bytes(bom + end.join([*lines, ""]).encode(encoding))
    folder = tmp_path / "t.d3run"
    first = cli("run", "t.csv", env=d3.env)
    assert first.code == 1, first.err

    failed = (folder / "failed.csv").read_bytes()
    assert failed.startswith(bom)
    text = failed.removeprefix(bom).decode(encoding)
    kept = [line.rpartition(delimiter)[0] for line in text.removesuffix(end).replace("zwei\r\n", "zwei\0").split(end)]
    assert [line.replace("zwei\0", "zwei\r\n") for line in kept] == [lines[0], lines[2], lines[3]]
    (folder / "failed.csv").write_bytes(bom + text.replace(NOWHERE, HERE).encode(encoding))

    ran = cli("run", "t.d3run/failed.csv", env=d3.env)

    assert ran.code == 0, ran.err
    assert created(d3) == NAMES
    assert cli("run", "t.csv", env=d3.env).code == 0
    assert created(d3) == NAMES


def test_json_lines_have_the_mark_as_their_last_key(d3: Site, cli: Cli, tmp_path: Path) -> None:
    lines = [json.dumps(dict(zip(COLUMNS, row, strict=True)), ensure_ascii=False) for row in ROWS]
    lines[2] = '{ "assignee": "admin user",' + lines[2][1:-1] + " }"
    # the first assignee says the same as the second, so the line is wrong; and one is no JSON
    broken = '{"incident": "20220125-1", "name": "d", '
    (tmp_path / "t.jsonl").write_text("\n".join([*lines, broken]))
    folder = tmp_path / "t.d3run"
    first = cli("run", "t.jsonl", "--skip-invalid", env=d3.env)
    assert first.code == 1, first.err

    second, third, fourth = (folder / "failed.jsonl").read_text().splitlines()
    assert second.startswith(lines[1][:-1] + ', "_row": "2-')
    assert third.startswith(lines[2][:-1] + ', "_row": "3-')
    assert fourth.startswith(broken.rstrip() + ' "_row": "4-')
    untouched = cli("run", "t.d3run/failed.jsonl", env=d3.env)
    assert untouched.code == 3, untouched.err
    assert created(d3) == {"a": 1}

    third = third.replace('{ "assignee": "admin user",', "{")
    fourth = fourth.replace('"d",', '"d", "description": "x", "assignee": "admin user", "due": "2027-05-01",')
    (folder / "failed.jsonl").write_text("\n".join(reversed([second, third, fourth])).replace(NOWHERE, HERE))
    ran = cli("run", "t.d3run/failed.jsonl", env=d3.env)

    assert ran.code == 0, ran.err
    assert created(d3) == {**NAMES, "d": 1}
    told = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert [row["outcome"] for row in told] == ["ok"] * 4
    assert "_row" not in told[3]["input"]


def workbook(path: Path, rows: list[list[str]], header: list[str], sheet: str = "Jobs") -> None:
    with xlsxwriter.Workbook(path) as book:
        page = book.add_worksheet(sheet)
        for at, row in enumerate([header, *rows]):
            for place, cell in enumerate(row):
                page.write_string(at, place, cell)


def sheet_of(path: Path, name: str) -> list[list[object]]:
    return CalamineWorkbook.from_path(path).get_sheet_by_name(name).to_python()


def test_a_workbook_comes_back_as_a_workbook_of_texts(d3: Site, cli: Cli, tmp_path: Path) -> None:
    workbook(tmp_path / "t.xlsx", ROWS, COLUMNS)
    folder = tmp_path / "t.d3run"
    first = cli("run", "t.xlsx", env=d3.env)
    assert first.code == 1, first.err

    header, *rows = sheet_of(folder / "failed.xlsx", "Jobs")
    assert header == [*COLUMNS, "_row"]
    assert [row[:2] for row in rows] == [row[:2] for row in ROWS[1:]]
    assert not (folder / "failed.csv").exists()
    results = sheet_of(folder / "results.xlsx", "rows")
    assert [row[2] for row in results] == ["_outcome", "ok", "failed", "failed"]
    assert results[3][13] == "=1+1"
    assert ["outcomes.failed", "2"] in sheet_of(folder / "results.xlsx", "summary")

    # mended, sorted, and saved by a program that makes the mark's column the first one
    workbook(
        folder / "failed.xlsx",
        [[row[-1], HERE, *row[1:-1]] for row in reversed(rows)],
        ["_row", *COLUMNS],
    )
    ran = cli("run", "t.d3run/failed.xlsx", env=d3.env)

    assert ran.code == 0, ran.err
    assert created(d3) == NAMES
    assert [row["_outcome"] for row in rows_of(folder / "results.csv")] == ["ok"] * 3
    assert [row["name"].lstrip("'") for row in rows_of(folder / "results.csv")] == [row[1] for row in ROWS]
    assert not list(folder.glob("failed*"))


def test_a_file_saved_again_in_another_form_is_the_same_file(d3: Site, cli: Cli, tmp_path: Path) -> None:
    lines = [",".join(COLUMNS), *(quoted(row, ",") for row in ROWS)]
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="cp1252")
    folder = tmp_path / "t.d3run"
    cli("run", "t.csv", env=d3.env)
    rows = rows_of_text(folder / "failed.csv", "cp1252")

    # other columns, another order, another separator and letters that the first encoding does not have
    saved = ["name;_row;note;incident;assignee;due;description"]
    saved += [
        quoted([row["name"], row["_row"], "漢字", HERE, row["assignee"], row["due"], "漢"], ";") for row in rows[:1]
    ]
    saved += [
        quoted([row["name"], row["_row"], "", NOWHERE, row["assignee"], row["due"], "漢字"], ";") for row in rows[1:]
    ]
    (folder / "failed.csv").write_text("\n".join(saved), encoding="utf-8")
    ran = cli("run", "t.d3run/failed.csv", env=d3.env)

    assert ran.code == 1, ran.err
    told = rows_of(folder / "results.csv")
    assert [(row["incident"], row["description"]) for row in told[1:]] == [(HERE, "漢"), (NOWHERE, "漢字")]
    assert [row["description"] for row in rows_of(folder / "failed-2.csv")] == ["漢字"]
    assert cli("run", "t.d3run/failed-2.csv", env=d3.env).code == 1


def rows_of_text(path: Path, encoding: str) -> list[dict[str, str]]:
    with path.open(encoding=encoding, newline="") as file:
        return list(csv.DictReader(file))
