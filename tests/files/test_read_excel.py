"""Workbooks: what Excel means by its cells, and what must not be opened."""

from __future__ import annotations

import sys
import zipfile
import zlib
from datetime import date, datetime
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

import pytest

from d3async.errors import JobFileError
from d3async.files.job_file import open_table
from d3async.jobs.job import Invalid, Row

if TYPE_CHECKING:
    from pathlib import Path

REL = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
STYLES = "<cellXfs><xf numFmtId='0'/><xf numFmtId='14'/><xf numFmtId='22'/></cellXfs>"
DATE, DATE_AND_TIME = 1, 2


def workbook(path: Path, sheets: dict[str, str], hidden: str = "") -> Path:
    """A workbook as small as Excel would open, its sheets' rows given as XML."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        names = list(sheets)
        states = ["state='hidden'" if name == hidden else "" for name in names]
        listed = "".join(
            f"<sheet name='{escape(name)}' sheetId='{at}' r:id='r{at}' {state}/>"
            for at, (name, state) in enumerate(zip(names, states, strict=True), 1)
        )
        places = "".join(
            f"<Relationship Id='r{at}' Type='{REL}/worksheet' Target='worksheets/sheet{at}.xml'/>"
            for at in range(1, len(names) + 1)
        )
        archive.writestr("[Content_Types].xml", f"<Types xmlns='{PACKAGE}/content-types'/>")
        archive.writestr(
            "_rels/.rels",
            f"<Relationships xmlns='{PACKAGE}/relationships'>"
            f"<Relationship Id='r1' Type='{REL}/officeDocument' Target='xl/workbook.xml'/></Relationships>",
        )
        archive.writestr(
            "xl/workbook.xml", f"<workbook xmlns='{MAIN}' xmlns:r='{REL}'><sheets>{listed}</sheets></workbook>"
        )
        archive.writestr(
            "xl/_rels/workbook.xml.rels",
            f"<Relationships xmlns='{PACKAGE}/relationships'>{places}"
            f"<Relationship Id='s' Type='{REL}/styles' Target='styles.xml'/></Relationships>",
        )
        archive.writestr("xl/styles.xml", f"<styleSheet xmlns='{MAIN}'>{STYLES}</styleSheet>")
        for at, rows in enumerate(sheets.values(), 1):
            archive.writestr(
                f"xl/worksheets/sheet{at}.xml", f"<worksheet xmlns='{MAIN}'><sheetData>{rows}</sheetData></worksheet>"
            )
    return path


def row(number: int, *cells: str) -> str:
    """Cells from column A on, each without its place."""
    placed = "".join(cell.replace("<c", f"<c r='{chr(65 + at)}{number}'", 1) for at, cell in enumerate(cells) if cell)
    return f"<row r='{number}'>{placed}</row>"


def text(value: str) -> str:
    return f"<c t='inlineStr'><is><t xml:space='preserve'>{escape(value)}</t></is></c>"


def number(value: object, style: int = 0) -> str:
    return f"<c s='{style}'><v>{value}</v></c>"


HEADER = row(1, text("a"), text("b"), text("c"))


def test_cells_are_what_excel_shows(tmp_path: Path) -> None:
    """Dates as dates, whole numbers without .0, text with its leading zeros, yes and no as Excel spells them."""
    path = workbook(
        tmp_path / "x.xlsx",
        {
            "Tasks": HEADER
            + row(2, text("0012"), number(20220125), number(12.5))
            + row(3, number(46112, DATE), number(46112.5, DATE_AND_TIME), number(46112.70833333333, DATE_AND_TIME))
            + row(4, "<c t='b'><v>1</v></c>", text(' say "hi", you'), text("two\nlines"))
        },
    )

    with open_table(path) as table:
        rows = list(table)

        assert table.header == ("a", "b", "c")
        assert table.format.describe() == 'Excel, sheet "Tasks"'
        assert [list(found.cells) for found in rows if isinstance(found, Row)] == [
            ["0012", "20220125", "12.5"],
            [date(2026, 3, 31), datetime(2026, 3, 31, 12), datetime(2026, 3, 31, 17)],  # noqa: DTZ001 - as in the cell
            ["TRUE", ' say "hi", you', "two\nlines"],
        ]
        assert [found.raw for found in rows] == [
            "0012,20220125,12.5",
            "2026-03-31,2026-03-31 12:00:00,2026-03-31 17:00:00",
            'TRUE," say ""hi"", you","two\nlines"',
        ]
        assert table.format.start() == b"\xef\xbb\xbfa,b,c\r\n"


def test_lines_are_the_numbers_excel_shows_and_empty_rows_are_none(tmp_path: Path) -> None:
    path = workbook(tmp_path / "x.xlsx", {"One": row(3, text("a"), text("b")) + row(5, text("1")) + row(9, text("2"))})

    with open_table(path) as table:
        assert [(found.number, found.line, list(found.cells)) for found in table if isinstance(found, Row)] == [
            (1, 5, ["1", ""]),
            (2, 9, ["2", ""]),
        ]


def test_a_value_below_no_name_is_invalid(tmp_path: Path) -> None:
    path = workbook(tmp_path / "x.xlsx", {"One": row(1, text("a")) + row(2, text("1"), text("stray"))})

    with open_table(path) as table:
        [found] = table

    assert isinstance(found, Invalid)
    assert found.problems[0].message == "has a value in a column without a name"


def test_the_first_sheet_that_can_be_seen_is_read_and_the_others_are_named(tmp_path: Path) -> None:
    sheets = {name: row(1, text("a")) + row(2, text(name)) for name in ("Lists", "Tasks", "Old")}
    path = workbook(tmp_path / "x.xlsx", sheets, hidden="Lists")

    with open_table(path) as table:
        assert table.format.sheet == "Tasks"
        assert table.format.doubts == ('only sheet "Tasks" is read, not "Old": --sheet chooses another',)
    with open_table(path, sheet="Lists") as table:
        [found] = table
        assert isinstance(found, Row)
        assert found.cells == ["Lists"]
        assert table.format.doubts == ()
    with pytest.raises(JobFileError) as caught:
        open_table(path, sheet="Taks")
    assert caught.value.message == 'x.xlsx: has no sheet "Taks"; it has "Lists", "Tasks", "Old"'


@pytest.mark.parametrize(
    ("sheet", "usual", "read"), [(None, "Old", "Old"), ("Lists", "Old", "Lists"), (None, None, "Tasks")]
)
def test_the_usual_sheet_is_read_where_none_is_named(
    tmp_path: Path, sheet: str | None, usual: str | None, read: str
) -> None:
    sheets = {name: row(1, text("a")) + row(2, text(name)) for name in ("Tasks", "Lists", "Old")}
    path = workbook(tmp_path / "x.xlsx", sheets)

    with open_table(path, sheet=sheet, usual_sheet=usual) as table:
        assert table.format.sheet == read


def test_a_file_without_sheets_has_no_use_for_a_usual_one(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n")

    with open_table(tmp_path / "x.csv", usual_sheet="Old") as table:
        assert table.header == ("a",)


def test_an_excel_error_is_told(tmp_path: Path) -> None:
    """calamine gives nothing for `#N/A`: silence would send a default in its place."""
    path = workbook(tmp_path / "x.xlsx", {"One": row(1, text("a")) + row(2, '<c t="e"><v>#N/A</v></c>')})

    with open_table(path) as table:
        assert table.format.doubts == ("a cell holds an Excel error (#N/A, #REF! …): such cells are read as empty",)


def test_a_sheet_that_is_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobFileError, match='sheet "One" is empty'):
        open_table(workbook(tmp_path / "x.xlsx", {"One": ""}))


def test_two_cells_at_the_ends_of_a_sheet_are_refused(tmp_path: Path) -> None:
    """calamine would make room for every cell between them: 500 GB."""
    cell = "<row r='1048576'><c r='XFD1048576'><v>1</v></c></row>"

    with pytest.raises(JobFileError) as caught:
        open_table(workbook(tmp_path / "x.xlsx", {"One": row(1, text("a")) + cell}))

    assert caught.value.message == "x.xlsx: has a sheet that spans 17,179,869,184 cells: save the sheet as CSV"


def test_a_zip_bomb_is_refused_whatever_size_it_claims(tmp_path: Path) -> None:
    path = workbook(tmp_path / "x.xlsx", {"One": row(1, text("a"))})
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    mebibyte = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr("xl/media/x", mebibyte * 520 + packer.flush())
        place = archive.getinfo("xl/media/x").header_offset
    content = bytearray(path.read_bytes())
    content[place + 8] = content[content.rindex(b"PK\x01\x02") + 10] = zipfile.ZIP_DEFLATED
    path.write_bytes(content)

    with pytest.raises(JobFileError) as caught:
        open_table(path)

    assert caught.value.message == "x.xlsx: is larger than 512 MB when unpacked: save the sheet as CSV"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"a,b\n1,2\n"], ids=["empty", "cut", "a CSV"])
def test_what_is_no_workbook_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.xlsx"
    path.write_bytes(content)

    with pytest.raises(JobFileError) as caught:
        open_table(path)

    assert caught.value.message == "x.xlsx: is no Excel workbook (.xlsx)"


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.xlsx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")

    with pytest.raises(JobFileError, match="is no workbook that can be read"):
        open_table(path)


def test_without_calamine_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_calamine", None)

    with pytest.raises(JobFileError) as caught:
        open_table(workbook(tmp_path / "x.xlsx", {"One": row(1, text("a"))}))

    assert caught.value.message == "x.xlsx: is an Excel workbook: pip install 'd3async[excel]' to read it"
