"""Cells that a spreadsheet would run are written as texts, and come back as they were."""

import pytest

from cxr.spreadsheet_cells import WRITTEN, inert, original

FORMULAS = ["=1+1", '=HYPERLINK("http://x","y")', "+49 30", "-cmd", "@SUM(A1)", "\t=1", "\r=1", "-", "'=1", "''-x"]


@pytest.mark.parametrize("cell", ["", "a=b", "a/=b.png", "-1", "+0.5", "-1e-3", "'", "'a", "Ärzte", 1, -1, None, 0.5])
def test_a_cell_without_a_formula_stays(cell: object) -> None:
    assert inert(cell) == cell
    assert not isinstance(cell, str) or original(cell) == cell


@pytest.mark.parametrize("cell", FORMULAS)
def test_a_formula_becomes_a_text_and_comes_back(cell: str) -> None:
    written = inert(cell)
    assert written == "'" + cell
    assert original(written) == cell
    assert all(WRITTEN.search(line) for line in (written, f"1,{written}", f'1;"{written}"', f"a\n{written},2"))
    assert not WRITTEN.search(f"a{written}")
