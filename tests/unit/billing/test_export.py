"""CSV: read back as it was written, and inert in a spreadsheet (row K10)."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.reports.export import csv_text

FORMULAS = [
    *("=1+1", "=cmd|' /C calc'!A0", "+1", "-1", "-2+3", "@SUM(1)", "\t=1", "\r=1", "\n=1", "=", "+", "-", "@"),
    *('=HYPERLINK("http://x","y")', '=1,"', "=1;2", "\uff1d1", "\uff0b1", "\uff0d1", "\uff20x"),
]


def read(text):
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("cell", FORMULAS)
def test_a_formula_is_quoted(cell):
    assert read(csv_text([[cell, "plain", 7]])) == [[f"'{cell}", "plain", "7"]]


@pytest.mark.parametrize("cell", ["gpt-4o", "a=b", "a,b", 'say "hi"', "two\r\nlines", "", "'quoted'", " =1", "é"])
def test_other_text_stays_as_it_is(cell):
    assert read(csv_text([[cell, 0]])) == [[cell, "0"]]


def test_rows_end_as_the_standard_has_it():
    assert csv_text([["a", 1], ["b", 2]]) == "a,1\r\nb,2\r\n"


@given(st.lists(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=2, max_size=4), max_size=5))
def test_no_cell_begins_a_formula_nor_ends_a_row(rows):
    found = read(csv_text(rows))
    assert len(found) == len(rows)
    for written, cells in zip(rows, found, strict=True):
        assert [cell.removeprefix("'") for cell in cells] == [cell.removeprefix("'") for cell in written]
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for cell in cells)
