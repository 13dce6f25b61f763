"""Cells that are right as they stand are not taken apart, and nobody sees a difference."""

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from d3async.files.results_writer import InputRows, csv_lines, guarded
from d3async.files.source import Format
from d3async.journal.model import RowRecord

_CELLS = st.lists(st.text(st.sampled_from('ab ,;"=+-@\t\r\né'), max_size=6), min_size=3, max_size=3)


def _written(cells: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()


def _line(raw: str) -> str:
    row = RowRecord(1, 2, "ok", "", "", 200, 1, None, None, raw, None, None, None, None, None)
    _, line = csv_lines([row], InputRows(Format("csv"), ("a", "b", "c")))
    return line


@given(_CELLS, st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_a_row_is_written_as_csv_writes_its_guarded_cells(cells: list[str], quoting: int) -> None:
    text = io.StringIO()
    csv.writer(text, quoting=quoting).writerow(cells)
    raw = text.getvalue().removesuffix("\r\n")
    read = next(csv.reader([raw]), [])

    assert _line(raw) == f"1,2,ok,,,200,1,,,,,,{_written([guarded(cell) for cell in read])}"


@given(st.text(st.sampled_from('ab,"=\t'), max_size=12))
def test_so_is_a_row_that_is_no_good_csv(raw: str) -> None:
    read = next(csv.reader([raw]), [])[:3]
    cells = [guarded(cell) for cell in read + [""] * (3 - len(read))]

    assert _line(raw) == f"1,2,ok,,,200,1,,,,,,{_written(cells)}"
