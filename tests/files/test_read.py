"""Job files as people have them: a corpus of small files, each with the rows or the error it must give."""

# ruff: noqa: E501 - a case reads best as a line

from __future__ import annotations

import codecs
import csv
import io
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from d3async.errors import JobFileError
from d3async.files.job_file import Table, open_table
from d3async.files.source import Format
from d3async.jobs.job import Row

SPECTRUM = Path(__file__).with_name("csv_spectrum")


@dataclass(frozen=True)
class File:
    """A file, and what is expected of it: *rows* are (line, cells) or (line, message of an invalid row)."""

    content: bytes
    rows: list[tuple[int, Any]]
    header: tuple[str, ...] = ("a", "b")
    name: str = "x.csv"
    described: str | None = None
    doubts: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


def utf8(text: str) -> bytes:
    return text.encode()


TWO = [(2, ["1", "2"]), (3, ["3", "4"])]
CP1252 = ("line 2 is not UTF-8, so cp1252 is assumed: if names look wrong, give --encoding",)
WIDE = "has {} cells, the header has 2"
GOOD = {
    "comma": File(utf8("a,b\n1,2\n3,4\n"), TWO, described='UTF-8, separator ","'),
    "semicolon": File(utf8("a;b\n1;2\n3;4\n"), TWO, described='UTF-8, separator ";"'),
    "tab": File(utf8("a\tb\n1\t2\n3\t4\n"), TWO, described="UTF-8, separator tab"),
    "bar": File(utf8("a|b\n1|2\n3|4\n"), TWO, described='UTF-8, separator "|"'),
    "tsv by its ending": File(utf8("a\tb\n1\t2\n3\t4\n"), TWO, name="x.tsv"),
    "no ending at all": File(utf8("a,b\n1,2\n3,4\n"), TWO, name="export"),
    "UTF-8 with BOM": File(codecs.BOM_UTF8 + utf8("a;b\n1;2\n3;4\n"), TWO, described='UTF-8 with BOM, separator ";"'),
    "two BOMs": File(codecs.BOM_UTF8 * 2 + utf8("a,b\n1,2\n3,4\n"), TWO),
    "UTF-16 little endian": File(
        codecs.BOM_UTF16_LE + "a\tb\r\n1\t2\r\n3\té\r\n".encode("utf-16-le"),
        [(2, ["1", "2"]), (3, ["3", "é"])],
        described="UTF-16 with BOM, separator tab",
    ),
    "UTF-16 big endian": File(
        codecs.BOM_UTF16_BE + "a,b\n1,2\n3,4\n".encode("utf-16-be"), TWO, described='UTF-16 (big endian) with BOM, separator ","'
    ),
    "UTF-16 without BOM": File(
        "a,b\n1,2\n3,4\n".encode("utf-16-le"),
        TWO,
        doubts=("zero bytes look like utf-16-le without BOM: if not, give --encoding",),
    ),
    "cp1252": File("a,b\n1,é\n".encode("cp1252"), [(2, ["1", "é"])], doubts=CP1252, described='cp1252 (Windows), separator ","'),
    "cp1252 with the euro sign": File(b"a,b\n1,\x80\n", [(2, ["1", "€"])], doubts=CP1252),
    "an encoding that is given": File("a,b\n1,ж\n".encode("cp1251"), [(2, ["1", "ж"])], options={"encoding": "cp1251"}),
    "utf-8 given, BOM there": File(codecs.BOM_UTF8 + utf8("a,b\n1,2\n3,4\n"), TWO, options={"encoding": "utf-8"}),
    "a delimiter that is given": File(utf8("a~b\n1~2\n3~4\n"), TWO, options={"delimiter": "~"}),
    "tab by its name": File(utf8("a\tb\n1\t2\n3\t4\n"), TWO, options={"delimiter": "tab"}),
    "sep= line": File(utf8("sep=;\r\na;b\r\n1;2\r\n3;4\r\n"), [(3, ["1", "2"]), (4, ["3", "4"])]),
    "sep= line after a BOM": File(codecs.BOM_UTF8 + utf8("sep=|\na|b\n1|2\n"), [(3, ["1", "2"])]),
    "CRLF": File(utf8("a,b\r\n1,2\r\n3,4\r\n"), TWO),
    "CR alone": File(utf8("a,b\r1,2\r3,4\r"), TWO),
    "CR CR LF, as Windows text mode doubles it": File(utf8("a,b\r\r\n1,2\r\r\n3,4\r\r\n"), TWO),
    "no line end at the end": File(utf8("a,b\n1,2\n3,4"), TWO),
    "blank lines": File(utf8("\n\na,b\n\n1,2\n   \n\n3,4\n\n\n"), [(5, ["1", "2"]), (8, ["3", "4"])]),
    "rows of empty cells, as Excel leaves them": File(utf8("a;b\n1;2\n3;4\n;\n;\n"), TWO),
    "quoted separators and quotes": File(utf8('a,b\n"1,5","say ""hi"""\n'), [(2, ["1,5", 'say "hi"'])]),
    "a quote inside an unquoted cell": File(utf8('a,b\n5" disk,2\n'), [(2, ['5" disk', "2"])]),
    "quoted line breaks": File(
        utf8('a,b\n"1\nx\ny",2\n3,"4\r\n5"\n6,7\n'), [(2, ["1\nx\ny", "2"]), (5, ["3", "4\r\n5"]), (7, ["6", "7"])]
    ),
    "a line break in the header": File(utf8('"a\nx",b\n1,2\n'), [(3, ["1", "2"])], header=("a\nx", "b")),
    "blanks around header names": File(utf8(" a , b \n1,2\n"), [(2, ["1", "2"])], header=(" a ", " b ")),
    "empty columns at the end": File(utf8("a,b,,\n1,2,,\n3,4\n"), [(2, ["1", "2", "", ""]), (3, ["3", "4", "", ""])], header=("a", "b", "", "")),
    "a separator too many in each row": File(utf8("a,b\n1,2,\n3,4,,\n"), TWO),
    "a first column without name, as pandas writes it": File(utf8(",a\n0,1\n"), [(2, ["0", "1"])], header=("", "a")),
    "one column": File(utf8("a\n1\n2\n"), [(2, ["1"]), (3, ["2"])], header=("a",)),
    "leading zeros and long numbers": File(utf8("a,b\n007,12345678901234567890\n"), [(2, ["007", "12345678901234567890"])]),
    "a rare line separator inside a cell": File(utf8("a,b\n1\u2028x,2\x0by\n"), [(2, ["1\u2028x", "2\x0by"])]),
    "ragged rows": File(
        utf8("a,b\n1\n1,2,3\n3,4\n"),
        [(2, "has 1 cell, the header has 2"), (3, WIDE.format(3)), (4, ["3", "4"])],
    ),
    "a value below a column without name": File(utf8("a,b,\n1,2,x\n"), [(2, WIDE.format(3))], header=("a", "b", "")),
    "a zero byte": File(b"a,b\n" + b"1,2\n" * 99 + b"1,\x002\n3,4\n", [*((line, ["1", "2"]) for line in range(2, 101)), (101, "has a zero byte"), (102, ["3", "4"])]),
    "a quote after a quote": File(utf8('a,b\n1,"x"y"\n'.replace('y"', "y")), [(2, "has a quote where none can be")]),
    "a blank before a quote": File(utf8('a,b\n1, "2, 3"\n1, "2"\n3,4\n'), [(2, WIDE.format(3)), (3, "has a blank before a quote"), (4, ["3", "4"])]),
    "a blank and a quote inside a cell": File(utf8('a,b\n1,"x, ""y"""\n'), [(2, ["1", 'x, "y"'])]),
    "a stray carriage return": File(utf8("a,b\n1\r,2\n3,4\n"), [(2, "has a line break outside quotes"), (3, ["3", "4"])]),
    "two separators in the header": File(
        utf8("a;b,c\n1;2\n"),
        [(2, "has 1 cell, the header has 2")],
        header=("a;b", "c"),
        doubts=('the header has "," and ";"; "," is assumed to separate: if columns look wrong, give --delimiter',),
    ),
    "JSONL": File(utf8('{"a": 1, "b": "2"}\n\n# note\n{"b": [1]}\n'), [(1, [1, "2"]), (4, [[1]])], (), "x.jsonl", "JSONL, UTF-8"),
    "JSONL with BOM and CRLF": File(codecs.BOM_UTF8 + utf8('{"a": "é"}\r\n'), [(1, ["é"])], (), "x.ndjson", "JSONL, UTF-8 with BOM"),
    "JSONL without an ending": File(utf8('{"a": 1}\n'), [(1, [1])], (), "lines"),
    "JSONL with wrong lines": File(
        utf8('{"a":1,"a":2}\n[1]\n{"a":NaN}\n{"a":\n{"a":"\\ud800"}\n{"a":' + "9" * 5000 + "}\n" + "[" * 10_000 + '\n{"a":0}\n"x"\n'),
        [
            (1, 'has the key "a" twice'),
            (2, 'is no JSON object like {"incident": "20220125-1"}'),
            (3, "has NaN, which JSON does not know"),
            (4, "is not JSON: expecting value at column 6"),
            (5, "has half a character (\\ud800 to \\udfff without its other half)"),
            (6, "has a number too long to read"),
            (7, "is nested too deeply"),
            (8, [0]),
            (9, 'is no JSON object like {"incident": "20220125-1"}'),
        ],
        (),
        "x.jsonl",
    ),
    "JSONL with a line too long": File(
        utf8('{"a":"' + "x" * 2_200_000 + '"}\n{"a":1}\n'), [(1, "is longer than 1,048,576 characters"), (2, [1])], (), "x.jsonl"
    ),
}  # fmt: skip


def opened(tmp_path: Path, file: File) -> Table:
    path = tmp_path / file.name
    path.write_bytes(file.content)
    return open_table(path, **file.options)


def told(table: Table) -> list[tuple[int, Any]]:
    return [(row.line, list(row.cells) if isinstance(row, Row) else row.problems[0].message) for row in table]


@pytest.mark.parametrize("file", GOOD.values(), ids=GOOD.keys())
def test_a_file_gives_its_rows(tmp_path: Path, file: File) -> None:
    """Rows or problems with their physical lines, the header as spelt, the form as described, every doubt told."""
    with opened(tmp_path, file) as table:
        assert told(table) == file.rows
        assert table.header == file.header
        assert table.format.doubts == file.doubts
        if file.described is not None:
            assert table.format.describe() == file.described


@pytest.mark.parametrize("file", GOOD.values(), ids=GOOD.keys())
def test_rows_are_counted_from_one_and_can_be_read_again(tmp_path: Path, file: File) -> None:
    with opened(tmp_path, file) as table:
        first = list(table)

        assert [row.number if isinstance(row, Row) else row.row for row in first] == list(range(1, len(file.rows) + 1))
        assert list(table) == first


@pytest.mark.parametrize(
    "file", [file for file in GOOD.values() if file.header], ids=[k for k, f in GOOD.items() if f.header]
)
def test_a_rows_own_text_says_its_cells(tmp_path: Path, file: File) -> None:
    """`raw` read again gives the cells, but for separators too many or too few at its end."""
    with opened(tmp_path, file) as table:
        for row in table:
            if isinstance(row, Row):
                [cells] = csv.reader(io.StringIO(row.raw, newline=""), delimiter=table.format.delimiter, strict=True)
                assert [*cells, "", ""][: len(row.cells)] == list(row.cells)


@pytest.mark.parametrize("file", [file for file in GOOD.values() if file.name != "x.jsonl"])
def test_the_form_writes_the_same_bytes_again(tmp_path: Path, file: File) -> None:
    """BOM, `sep=` line, header and rows: what feed-back files are made of."""
    with opened(tmp_path, file) as table:
        form = Format.from_json(json.loads(json.dumps(table.format.to_json())))
        rows = [row.raw for row in table]
        written = form.start() + form.encode("".join(raw + form.line_ending for raw in rows))

    assert form == table.format
    if all(isinstance(cells, list) for _, cells in file.rows) and b"\r\r" not in file.content:
        kept = [line for line in _lines(file, form) if line.strip().strip(form.delimiter).strip('"')]
        assert written.decode(form.codec).lstrip("\ufeff").split(form.line_ending)[:-1] == kept


def _lines(file: File, form: Format) -> list[str]:
    text = file.content.decode(form.codec).lstrip("\ufeff")
    return [line for line in text.split(form.line_ending) if not line.startswith("#")]


BAD = {
    "empty": (b"", {}, "x.csv: is empty"),
    "blank lines only": (b"\n\n \n", {}, "x.csv: has no header: its first line must name the columns"),
    "separators only": (b",,\n1,2,3\n", {}, "x.csv: has no header: its first line must name the columns"),
    "binary": (bytes(range(256)) * 8, {}, "x.csv: is a binary file, not text"),
    "a workbook": (b"PK\x03\x04", {}, "x.csv: is an Excel workbook or another ZIP file: give --format xlsx, or name it .xlsx"),
    "an old workbook": (b"\xd0\xcf\x11\xe0", {}, "x.csv: is an old Excel workbook (.xls): save it as .xlsx or as CSV"),
    "compressed": (b"\x1f\x8b\x08", {}, "x.csv: is compressed: unpack it first"),
    "neither UTF-8 nor cp1252": (
        b"a,b\n1,\x81\n", {}, "x.csv: line 2 is not UTF-8, and the file is not cp1252: give --encoding"
    ),
    "UTF-8 and something else": (
        b"a,b\n1,\xc3\xa9\n2,\xe9\n", {}, "x.csv: line 3 is not UTF-8 although lines before it are: mend it, or give --encoding"
    ),
    "not the encoding that is given": (
        b"a,b\n1,\xe9\n", {"encoding": "utf-8"}, "x.csv: line 2 is not UTF-8: give another --encoding"
    ),
    "an encoding nobody knows": (
        b"a,b\n", {"encoding": "utf-9"}, 'x.csv: no encoding is called "utf-9": try utf-8, utf-16, cp1252'
    ),
    "a codec that is no encoding": (
        b"a,b\n", {"encoding": "base64"}, 'x.csv: no encoding is called "base64": try utf-8, utf-16, cp1252'
    ),
    "half a UTF-16 character": (
        codecs.BOM_UTF16_LE + b"a\x00,\x00b", {}, "x.csv: is not utf-16-le, somewhere after line 1: give another --encoding"
    ),
    "a delimiter of two": (b"a,b\n", {"delimiter": ",,"}, 'x.csv: ",," is no separator: give one character, or tab'),
    "a sheet of a CSV": (b"a,b\n", {"sheet": "One"}, "x.csv: has no sheets: --sheet is for Excel workbooks"),
    "a quote that never closes": (b'a,b\n1,"2\n3,4\n', {}, "x.csv: line 2 opens a quote that never closes"),
    "a quote closed by the next one": (b'a,b\n1,"2\n3,"4"\n', {}, "x.csv: line 2 opens a quote that never closes"),
    "a header with a quote too many": (
        b'a,"b"c\n', {}, "x.csv: line 1 has a quote where none can be: a cell with quotes in it needs them doubled, and quotes around it"
    ),
    "a cell of 10 MB": (
        b'a,b\n1,"' + b"x\n" * 5_000_000 + b'"\n',
        {},
        "x.csv: line 2 has a cell of more than 131,072 characters, or a quote never closes",
    ),
    "a line of 10 MB": (b"a,b\n" + b"x," * 5_000_000, {}, "x.csv: line 2 is longer than 1,048,576 characters"),
    "a format nobody knows": (b"a,b\n", {"kind": "parquet"}, 'no format is called "parquet": there are csv, jsonl, xlsx'),
    "JSON over several lines": (
        b'[\n{"a": 1}\n]', {"kind": "jsonl"},
        "x.csv: is JSON over several lines; one object a line is needed: jq -c '.[]' or '.' writes it so",
    ),
    "JSONL without a line": (b"\n\n", {"kind": "jsonl"}, "x.csv: has no rows"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "options", "message"), BAD.values(), ids=BAD.keys())
def test_what_is_no_job_file_is_refused_with_the_reason(
    tmp_path: Path, content: bytes, options: dict[str, Any], message: str
) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)

    with pytest.raises(JobFileError) as caught, open_table(path, **options) as table:
        list(table)

    assert caught.value.message == message


def test_rows_before_a_quote_that_never_closes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b'a,b\n1,2\n3,"4\n')
    rows = []

    with open_table(path) as table, pytest.raises(JobFileError):
        rows.extend(table)

    assert [row.line for row in rows] == [2]


def test_a_folder_a_missing_and_a_locked_file_are_named(tmp_path: Path) -> None:
    locked = tmp_path / "locked.csv"
    locked.write_text("a,b\n")
    locked.chmod(0)
    cases = [(tmp_path, "is a folder, not a job file"), (tmp_path / "no.csv", "cannot be read: there is no such file")]
    if os.geteuid():
        cases.append((locked, "cannot be read: permission denied"))

    for path, words in cases:
        with pytest.raises(JobFileError) as caught:
            open_table(path)
        assert caught.value.message == f"{path} {words}"


def test_stdin_can_be_read_more_than_once() -> None:
    with open_table(None, stream=io.BytesIO(b"a,b\n1,2\n3,4\n")) as table:
        assert told(table) == TWO
        assert told(table) == TWO
        assert table.name == "stdin"


def test_a_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    """`d3async check <(zcat …)` hands over a path that cannot be read twice."""
    read, write = os.pipe()
    os.write(write, b"a,b\n1,2\n3,4\n")
    os.close(write)

    with open_table(Path(f"/dev/fd/{read}")) as table:
        os.close(read)
        assert told(table) == TWO


def test_a_file_that_changes_under_our_hands_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"a,b\n1,2\n")

    with open_table(path) as table:
        path.write_bytes(b"a,b\n1,\xff\n")
        with pytest.raises(JobFileError, match="was it changed while it was read"):
            list(table)


@pytest.mark.parametrize("path", sorted(SPECTRUM.glob("csvs/*.csv")), ids=lambda path: path.stem)
def test_csv_spectrum_reads_as_its_json(path: Path) -> None:
    with open_table(path) as table:
        rows = [dict(zip(row.keys, row.cells, strict=True)) for row in table if isinstance(row, Row)]

    assert rows == json.loads((SPECTRUM / "json" / f"{path.stem}.json").read_bytes())
