"""results.csv in a spreadsheet: the same cells, and nothing is calculated."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from python_calamine import CalamineWorkbook

from d3async.files.run_files import write_folder
from d3async.files.source import Format
from tests.journal.factory import TASK_HEADER, Entry, make, unsent

if TYPE_CHECKING:
    from pathlib import Path

SOFFICE = shutil.which("soffice")
FORMULAS = ("=1+1", "+1+1", "-1+1", "@SUM(1;1)", '=HYPERLINK("http://evil.example")', "=cmd|' /C calc'!A0", "\t=1+1")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        SOFFICE is None, reason="needs LibreOffice to open the file in: apt-get install libreoffice-calc"
    ),
]


def opened(folder: Path, path: Path, ending: str, delimiter: str) -> Path:
    """*path* as LibreOffice opens it, saved in another format.

    Without a window it asks nobody and detects nothing: it is told what its dialogue proposes for such a file, the
    separator and UTF-8 (76).
    """
    subprocess.run(
        [str(SOFFICE), "--headless", f"-env:UserInstallation={(folder / 'profile').as_uri()}",
         f"--infilter=Text - txt - csv (StarCalc):{ord(delimiter)},34,76,1", "--convert-to", ending,
         "--outdir", str(folder), str(path)],
        check=True, capture_output=True, timeout=240,
    )  # fmt: skip
    return folder / f"{path.stem}.{ending}"


def as_text(cell: object) -> str:
    """A cell as it was written: LibreOffice makes numbers of texts that are one."""
    return str(int(cell)) if isinstance(cell, float) else str(cell)


def written(folder: Path, delimiter: str) -> Path:
    def raw(*cells: str) -> str:
        return delimiter.join('"' + cell.replace('"', '""') + '"' for cell in cells)

    entries = [
        Entry(raw("20260125-77", formula, "Grüße, 漢字; ok", "two\nlines"), "failed", "x", formula)
        for formula in FORMULAS
    ]
    entries.append(unsent(raw("20260125-78", 'say "hi"', "", "|")))
    form = Format("csv", delimiter=delimiter, header_raw=delimiter.join(TASK_HEADER))
    return write_folder(make(folder, entries, form=form)).results


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_spreadsheet_shows_the_cells_and_runs_none_of_them(tmp_path: Path, delimiter: str) -> None:
    results = written(tmp_path / "run", delimiter)
    with results.open(encoding="utf-8-sig", newline="") as file:
        expected = list(csv.reader(file, delimiter=delimiter))
    sheet = CalamineWorkbook.from_path(opened(tmp_path, results, "xlsx", delimiter)).get_sheet_by_index(0).to_python()
    assert [len(row) for row in sheet] == [len(row) for row in expected]
    assert [[as_text(cell) for cell in row] for row in sheet] == expected


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    flat = opened(tmp_path, written(tmp_path / "run", ","), "fods", ",").read_text(encoding="utf-8")
    assert "1+1" in flat
    assert not re.search(r"table:formula", flat)
