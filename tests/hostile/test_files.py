"""A job file that means harm: a clear error or a right outcome, in bounded memory, and nothing outside its folder."""

import csv
import io
import os
import re
import struct
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from tests.end_to_end.ground import rows_of, running
from tests.hostile.conftest import Told
from tests.hostile.ground import MOST_MEMORY, Ran, measured
from tests.hostile.test_server import HEADER, steers_nothing

MB = 1 << 20
ROW = "{incident},{name},d,admin user,2027-01-01 10:00:00\n"


def refused(ran: Ran, *words: str) -> None:
    assert ran.code in {2, 3}, ran.said
    assert all(word in ran.said for word in words), ran.said
    assert ran.peak < MOST_MEMORY
    assert len(ran.said) < 4000, "a clear error is short"
    steers_nothing(ran)


# -- size


def one_long_line(path: Path, megabytes: int, start: bytes = b"") -> Path:
    """A file whose one line goes on and on; sparse, it takes no room on the disk."""
    with path.open("wb") as file:
        file.write(start + b"x" * 100_000)
        file.truncate(megabytes * MB)
    return path


SIZES = [32, pytest.param(1024, marks=pytest.mark.slow)]


@pytest.mark.parametrize("megabytes", SIZES)
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_line_without_end_is_a_clear_error(tmp_path: Path, ending: str, megabytes: int) -> None:
    one_long_line(
        tmp_path / f"tasks.{ending}", megabytes, HEADER.encode() + b'20220125-1,"' if ending == "csv" else b"{"
    )
    refused(measured(tmp_path, "check", f"tasks.{ending}"), f"tasks.{ending}", "line")


@pytest.mark.parametrize("megabytes", SIZES)
def test_a_line_without_end_from_stdin_is_a_clear_error(tmp_path: Path, megabytes: int) -> None:
    reading, writing = os.pipe()

    def feed() -> None:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(HEADER.encode())
            try:
                for _ in range(megabytes):
                    pipe.write(b"x" * MB)
            except BrokenPipeError:
                pass

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    with os.fdopen(reading, "rb") as stdin:
        ran = measured(tmp_path, "check", "-", "--format", "csv", stdin=stdin)
    thread.join(10)
    refused(ran, "stdin", "line 2")


def test_a_million_columns_are_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "tasks.csv").write_text(HEADER.rstrip("\n") + ",x" * 1_000_000 + "\n" + "a," * 1_000_000 + "\n")
    refused(measured(tmp_path, "check", "tasks.csv"), "tasks.csv")


def test_rows_that_each_bring_other_keys_do_not_fill_the_memory(tmp_path: Path) -> None:
    lines = (
        f'{{"incident": "i-{n}", "name": "n", "description": "d", "assignee": "a", "due": "2027-01-01", "k{n}": 1}}\n'
        for n in range(1_500)
    )
    (tmp_path / "tasks.jsonl").write_text("".join(lines))
    ran = measured(tmp_path, "check", "tasks.jsonl")

    assert ran.code == 0, ran.said
    assert ran.peak < MOST_MEMORY


def test_json_nested_ten_thousand_deep_is_an_invalid_row(tmp_path: Path) -> None:
    (tmp_path / "tasks.jsonl").write_text('{"incident": ' + "[" * 10_000 + "]" * 10_000 + "}\n")
    refused(measured(tmp_path, "check", "tasks.jsonl"), "line 1", "nested too deeply")


# -- workbooks

SHEET = "xl/worksheets/sheet1.xml"


def workbook(path: Path, sheet: bytes, claim: int | None = None) -> Path:
    parts = {
        "[Content_Types].xml": b'<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/'
        b'content-types"><Default Extension="xml" ContentType="application/xml"/></Types>',
        "xl/workbook.xml": b'<?xml version="1.0"?><workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/'
        b'main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets>'
        b'<sheet name="S" sheetId="1" r:id="rId1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": b'<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/'
        b'package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/'
        b'2006/relationships/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        SHEET: sheet,
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    content = packed.getvalue()
    if claim is not None:
        content = content.replace(struct.pack("<I", len(sheet)), struct.pack("<I", claim))
    path.write_bytes(content)
    return path


def sheet_of(cells: bytes) -> bytes:
    return (
        b'<?xml version="1.0"?><worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
        + cells
        + b"</sheetData></worksheet>"
    )


@pytest.mark.slow
def test_a_zip_bomb_of_a_workbook_is_a_clear_error_whatever_size_it_claims(tmp_path: Path) -> None:
    bomb = sheet_of(b" " * (520 * MB))
    workbook(tmp_path / "tasks.xlsx", bomb, claim=1000)
    del bomb
    refused(measured(tmp_path, "check", "tasks.xlsx"), "tasks.xlsx", "unpacked")


def test_entities_that_multiply_do_not(tmp_path: Path) -> None:
    laughs = b'<!DOCTYPE lolz [<!ENTITY l "ha">' + b"".join(
        b'<!ENTITY l%d "%s">' % (n, b"&l%s;" % (str(n - 1).encode() if n else b"") * 10) for n in range(12)
    )
    sheet = sheet_of(b'<row r="1"><c r="A1" t="inlineStr"><is><t>&l11;</t></is></c></row>')
    workbook(tmp_path / "tasks.xlsx", sheet.replace(b"<worksheet", laughs + b"]><worksheet", 1))
    refused(measured(tmp_path, "check", "tasks.xlsx"), "tasks.xlsx")


# -- what cells say


def cells_of(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


FORMULAS = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1+1", "\r=1+1", '=HYPERLINK("http://x","y")']


def test_formulas_are_sent_as_they_are_and_run_in_no_spreadsheet(tmp_path: Path, told: Told) -> None:
    """Results are guarded; what is fed back is byte for byte what was given."""
    with (tmp_path / "tasks.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["incident", "name", "description", "assignee", "due"])
        writer.writerows(
            [f"20220125-{n}", text, text, "nobody at all", "2027-01-01"] for n, text in enumerate(FORMULAS)
        )
    given = (tmp_path / "tasks.csv").read_bytes()
    with running(rate=None, assignees=["admin user"]) as d3:
        ran = told(tmp_path, "run", "tasks.csv", "--yes", env=d3.env)

    assert ran.code == 1, ran.said
    folder = tmp_path / "tasks.d3run"
    for cells in cells_of(folder / "results.csv"):
        assert not [cell for cell in cells if cell[:1] in set("=+-@\t\r") - {""}]
    marked = (folder / "failed.csv").read_bytes()
    assert re.sub(rb",(?:_row|\d+-[a-z0-9]{4})(?=\r\n)", b"", marked) == given


PATHS = [
    "../../../../tmp/owned",
    "/etc/passwd",
    "C:\\Windows\\x",
    "..",
    "a/b",
    "$(touch owned)",
    "`touch owned`",
    "%00",
]


def test_names_that_look_like_paths_or_commands_are_only_text(tmp_path: Path, told: Told) -> None:
    inside = tmp_path / "in" / "side"
    inside.mkdir(parents=True)
    rows = "".join(ROW.format(incident=f'"{text}"', name=f'"{text}"') for text in PATHS)
    (inside / "tasks.csv").write_text(HEADER + rows)
    with running(rate=None) as d3:
        ran = told(inside, "run", "tasks.csv", "--yes", "--id-column", "incident", env=d3.env)

    assert ran.code in {0, 1}, ran.said
    assert {row["incident"] for row in rows_of(inside / "tasks.d3run" / "results.csv")} == set(PATHS)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*owned*")] == []
    assert {path.name for path in inside.iterdir()} == {"tasks.csv", "tasks.d3run"}


STEERING_TEXTS = ["a\nb", "a\r\nb", "\x1b[2Jgone", "\x1b]0;owned\x07", "\u202eabc", "x\x9b31m", "zero\u200bwidth"]


def test_line_ends_and_escapes_in_ids_stay_one_row_and_off_the_terminal(tmp_path: Path, told: Told) -> None:
    with (tmp_path / "tasks.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "incident", "name", "description", "assignee", "due"])
        for number, text in enumerate(STEERING_TEXTS):
            writer.writerow([text, f"20220125-{number}", text, text, f"nobody {text}", "2027-01-01"])
    with running(rate=None, assignees=["admin user"]) as d3:
        ran = told(tmp_path, "run", "tasks.csv", "--yes", "--id-column", "id", "-v", env=d3.env)
        checked = told(tmp_path, "check", "tasks.csv", "--date-format", "dd/MM/yyyy")
        status = told(tmp_path, "status", "tasks.d3run")

    assert ran.code == 1, ran.said
    for one in (ran, checked, status):
        steers_nothing(one)
    assert [row["id"] for row in rows_of(tmp_path / "tasks.d3run" / "results.csv")] == STEERING_TEXTS
    assert "\x1b" not in (tmp_path / "tasks.d3run" / "report.html").read_text()


def test_a_file_whose_own_name_steers_a_terminal_is_named_cleanly(tmp_path: Path, told: Told) -> None:
    file = tmp_path / "a\x1b[2J\nb.csv"
    file.write_text(HEADER + "x\n")
    refused(told(tmp_path, "check", file.name), "b.csv")


# -- where results go


def test_a_run_folder_that_is_a_link_is_followed_once_and_files_in_it_that_are_links_are_replaced(
    tmp_path: Path, told: Told
) -> None:
    elsewhere, victim = tmp_path / "elsewhere", tmp_path / "victim"
    elsewhere.mkdir()
    victim.write_text("precious")
    (tmp_path / "tasks.d3run").symlink_to(elsewhere)
    for name in ("results.csv", "summary.json", "report.html", "failed.csv"):
        (elsewhere / name).symlink_to(victim)
    (tmp_path / "tasks.csv").write_text(HEADER + ROW.format(incident="20220125-1", name="n"))
    with running(rate=None) as d3:
        ran = told(tmp_path, "run", "tasks.csv", "--yes", env=d3.env)

    assert ran.code == 0, ran.said
    assert victim.read_text() == "precious"
    assert [row["_outcome"] for row in rows_of(elsewhere / "results.csv")] == ["ok"]
    assert not (elsewhere / "results.csv").is_symlink()
    assert (elsewhere / "results.csv").stat().st_mode & 0o077 == 0


def test_a_journal_that_is_a_link_to_somebodys_file_is_refused_and_the_file_stays(tmp_path: Path, told: Told) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "tasks.d3run").mkdir()
    (tmp_path / "tasks.d3run" / "journal.sqlite").symlink_to(victim)
    (tmp_path / "tasks.csv").write_text(HEADER + ROW.format(incident="20220125-1", name="n"))
    with running(rate=None) as d3:
        ran = told(tmp_path, "run", "tasks.csv", "--yes", env=d3.env)

    refused(ran, "journal")
    assert victim.read_text() == "precious"


def test_a_pipe_that_closes_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "tasks.csv").write_text(HEADER + "".join(f"i-{n},,,,\n" for n in range(2000)))
    words = [sys.executable, "-m", "d3async", "check", "tasks.csv", "--json"]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    process.wait(30)

    assert b"Traceback" not in said
